"""Nothing half-made has a name: a hidden folder beside the file or folder to come, and texts replaced whole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from toolace_edge.errors import EngineError


@contextmanager
def made_aside(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out`, which never stays behind. EngineError where it cannot be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
            yield Path(folder)
    except OSError as error:
        why = error.strerror or "the disk is full"  # numpy says how many bytes were written, and nothing else
        raise EngineError(f"{out} cannot be written: {why}.", hint="Make room, or write it elsewhere.") from error


def replace_text(file: Path, text: str) -> None:
    """`file` holds `text` from now on, or what it held before."""
    part = file.with_name(f".{file.name}.part")
    try:
        part.write_text(text, "utf-8")
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)
