"""What the model store knows of a model, as a JSON file beside it: what it is, where it came from, what its files are.

    {"manifest": 1, "name": str, "kind": "gguf" | "onnx" | "checkpoint", "format": str | null, "licence": str | null,
     "source": "hf:OWNER/REPO" | a path, "revision": commit | null, "added": UTC, "link": path | null,
     "folder": of the repository, "" its top,
     "files": [{"path": relative, "size_bytes": int, "sha256": 64 hex digits}, ...]}

A person may have edited it, so nothing in it is believed before it is checked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, cast, get_args

from toolace_edge.errors import InputError, ModelError

Kind = Literal["gguf", "onnx", "checkpoint"]
FILE_NAME = "manifest.json"
_VERSION = 1
_MAX_BYTES = 4 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
# Names that Windows gives to devices, whatever their suffix.
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of a model. `path` is relative to the model's folder, with `/` between its parts."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A model of the store. `link` is set where its files stay where they were; `added` is ISO 8601 in UTC.

    `folder` is where in its repository the files lay: one may hold a model in several precisions.
    """

    name: str
    kind: Kind
    files: tuple[StoredFile, ...]
    format: str | None
    licence: str | None
    source: str
    revision: str | None
    added: str
    link: str | None
    folder: str = ""

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    def to_json(self) -> str:
        return json.dumps({"manifest": _VERSION, **asdict(self)}, ensure_ascii=False, indent=2) + "\n"


def is_name(name: str) -> bool:
    """Whether a model may be called that: it becomes a folder's name on every system, and must not leave the store."""
    plain = _NAME.fullmatch(name) is not None and ".." not in name and not name.endswith(".")
    return plain and _DEVICES.fullmatch(name) is None


def check_name(name: str) -> str:
    if not is_name(name):
        raise InputError(
            f"{name!r:.80} cannot be the name of a model.",
            hint="Letters, digits and . _ + - are allowed, 128 at most; it begins with a letter or digit; no '..'.",
        )
    return name


def name_from(text: str) -> str:
    """The nearest allowed name to a file's or a repository's own."""
    name = re.sub(r"[^A-Za-z0-9._+-]+", "-", text)
    name = re.sub(r"\.{2,}", ".", name).strip(".-_+")
    return check_name(name[:128].rstrip("."))


def is_inside(path: str) -> bool:
    """Whether a relative path, with `/` between its parts, stays inside its folder on every system."""
    pure = PurePosixPath(path)
    odd = re.search(r'[\x00-\x1f\\:*?"<>|]', path)
    return bool(pure.parts) and not odd and not pure.is_absolute() and ".." not in pure.parts and str(pure) == path


def read_manifest(file: Path) -> Manifest:
    """The checked manifest in `file`; ModelError says what is wrong with it."""
    name = file.parent.name
    try:
        with file.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
        facts = json.loads(content[:_MAX_BYTES])
        return _checked(facts, name)
    except FileNotFoundError as error:
        raise _damaged(name, f"it has no {FILE_NAME}") from error
    except OSError as error:
        raise _damaged(name, f"{file} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(name, f"{file}: {error}") from error


def _checked(facts: Any, name: str) -> Manifest:
    """ValueError, KeyError or TypeError where `facts` are not a manifest of the model `name`."""
    if not isinstance(facts, dict) or facts.get("manifest") != _VERSION:
        raise ValueError(f"it is not a manifest of version {_VERSION}")
    if facts["kind"] not in get_args(Kind):
        raise ValueError(f"`kind` is {facts['kind']!r:.40}")
    if facts["name"] != name:
        raise ValueError(f"it is the manifest of {facts['name']!r:.40}")
    files = tuple(_checked_file(entry) for entry in facts["files"])
    if not files or len({entry.path for entry in files}) != len(files):
        raise ValueError("`files` is empty, or names a file twice")
    return Manifest(
        name=name,
        kind=cast(Kind, facts["kind"]),
        files=files,
        format=_text(facts, "format"),
        licence=_text(facts, "licence"),
        source=_text(facts, "source") or "",
        revision=_text(facts, "revision"),
        added=_text(facts, "added") or "",
        link=_text(facts, "link"),
        folder=_text(facts, "folder") or "",
    )


def _checked_file(entry: Any) -> StoredFile:
    if not isinstance(entry, dict):
        raise ValueError(f"{entry!r:.40} is not an entry of `files`")
    path, size_bytes, sha256 = entry["path"], entry["size_bytes"], entry["sha256"]
    if not isinstance(path, str) or not is_inside(path):
        raise ValueError(f"{path!r:.80} is not a path inside the model's folder")
    if type(size_bytes) is not int or size_bytes < 0:
        raise ValueError(f"`size_bytes` of {path} is {size_bytes!r:.40}")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise ValueError(f"`sha256` of {path} is not a SHA-256")
    return StoredFile(path, size_bytes, sha256)


def _text(facts: Mapping[str, Any], key: str) -> str | None:
    value = facts.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"`{key}` is {value!r:.40}, not a text")
    return value


def _damaged(name: str, why: str) -> ModelError:
    return ModelError(
        f"The model {name} in the store is damaged: {why}.", hint=f"`toolace-edge models rm {name}`, and add it again."
    )
