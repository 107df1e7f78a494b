"""A cache of key/value states in one file: what made it, the tokens, the states.

    8 bytes   "TOOLACE1"
    u32       length of the JSON that follows
    JSON      {"fingerprint": str, "tokens": [ids], "sha256": of the states}
    rest      the states, as the engine's runtime lays them out

Nothing of it is used before all of it is checked.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from toolace_edge.errors import ModelError
from toolace_edge.paths import cache_dir

_MAGIC = b"TOOLACE1"
_MAX_HEADER_BYTES = 64 << 20
_REMEMBERED_FROM_BYTES = 256 << 20  # below it, hashing is faster than it is worth remembering


def write_cache(path: str | Path, fingerprint: str, tokens: Sequence[int], states: bytes | memoryview) -> None:
    """Write aside, then rename: a reader sees the old file or the new one."""
    facts = {"fingerprint": fingerprint, "tokens": list(tokens), "sha256": hashlib.sha256(states).hexdigest()}
    header = json.dumps(facts).encode()
    write_aside(Path(path), _MAGIC, struct.pack("<I", len(header)), header, states)


def read_cache(path: str | Path, fingerprint: str, n_ctx: int) -> tuple[list[int], bytes]:
    """Tokens and states of a file that this fingerprint wrote; ModelError where it is another's, or damaged."""
    try:
        content = memoryview(Path(path).read_bytes())
    except OSError as error:
        raise ModelError(f"{path}: the saved cache cannot be read ({error.strerror}).") from error
    try:
        facts, states = _split(content)
        tokens = [int(token) for token in facts["tokens"]]
        made_by, digest = facts["fingerprint"], facts["sha256"]
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise ModelError(f"{path}: this is not a saved cache, or it is damaged.") from error
    if made_by != fingerprint:
        raise ModelError(f"{path}: this cache was saved by another model or with other settings.")
    if hashlib.sha256(states).hexdigest() != digest:
        raise ModelError(f"{path}: the saved cache is damaged.")
    if len(tokens) > n_ctx:
        raise ModelError(f"{path}: the saved cache has {len(tokens)} tokens, and this context holds {n_ctx}.")
    return tokens, bytes(states)


def _split(content: memoryview) -> tuple[dict[str, Any], memoryview]:
    start = len(_MAGIC) + 4
    (length,) = struct.unpack("<I", content[len(_MAGIC) : start])
    if content[: len(_MAGIC)] != _MAGIC or length > min(_MAX_HEADER_BYTES, len(content)):
        raise ValueError("no magic")
    facts = json.loads(bytes(content[start : start + length]))
    return facts, content[start + length :]


def write_aside(path: Path, *parts: bytes | memoryview) -> None:
    """Write `parts` to a new file beside `path`, then rename it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            for part in parts:
                stream.write(part)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def weights_sha256(path: Path) -> str:
    """SHA-256 of a weights file; a large one's is remembered in the user's cache by path, size and time of change."""
    stat = path.stat()
    if stat.st_size < _REMEMBERED_FROM_BYTES:
        return _sha256(path)
    key = f"{path.resolve()}\n{stat.st_size}\n{stat.st_mtime_ns}"
    note = cache_dir() / "sha256" / hashlib.sha256(key.encode()).hexdigest()
    try:
        return note.read_text("ascii")
    except (OSError, UnicodeDecodeError):
        digest = _sha256(path)
    with suppress(OSError):  # a note that cannot be written only costs time
        write_aside(note, digest.encode())
    return digest


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
