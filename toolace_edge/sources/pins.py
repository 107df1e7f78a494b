"""Which tool definitions of each server were accepted: a hash of name, description and schema, kept in one file.

The first time that a server is used its definitions are taken as they are. From then on a definition that is new or
different is not used before somebody accepts it, as a description is read by the model and may turn its mind.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toolace_edge.errors import ToolError
from toolace_edge.json_file import read_json

MAX_FILE_BYTES = 16 * 2**20
Hashes = Mapping[str, str]  # a tool's name on its server -> its hash


def fingerprint(name: str, description: str | None, schema: Any) -> str:
    """The hash of a definition as the server gave it; the order of names in objects does not matter."""
    text = json.dumps([name, description or "", schema], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def changes(accepted: Hashes, current: Hashes) -> tuple[str, ...]:
    """The tools that are new or different. One that is gone is none: it cannot be called any more."""
    return tuple(name for name, digest in current.items() if accepted.get(name) != digest)


class Pins:
    """The file of accepted hashes, by server. A damaged one is an error: nothing is accepted by accident."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def accepted(self, server: str) -> Hashes | None:
        """What was accepted of a server; None where it was never used."""
        return self._read().get(server)

    def accept(self, server: str, hashes: Hashes) -> None:
        """From now on these are accepted. The file is replaced in one step."""
        kept = {**self._read(), server: dict(hashes)}
        aside = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            aside.write_text(json.dumps(kept, indent=1), "utf-8")
            aside.replace(self.path)
        except OSError as error:
            aside.unlink(missing_ok=True)
            raise ToolError(
                f"{self.path} cannot be written: {error.strerror}.", hint="Set TOOLACE_EDGE_HOME to a folder of yours."
            ) from None

    def _read(self) -> dict[str, dict[str, str]]:
        if not self.path.exists():
            return {}
        data = read_json(self.path, MAX_FILE_BYTES, "the file of accepted tool definitions")
        sound = isinstance(data, dict) and all(
            isinstance(hashes, dict) and all(isinstance(digest, str) for digest in hashes.values())
            for hashes in data.values()
        )
        if not sound:
            raise ToolError(
                f"{self.path} is damaged.", hint="Delete it; every server's tools are then accepted as they are."
            )
        found: dict[str, dict[str, str]] = data
        return found
