"""Where a file or a folder is made before it gets its name: a hidden folder beside it, which never stays behind."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from toolace_edge.errors import EngineError


@contextmanager
def made_aside(out: Path) -> Iterator[Path]:
    """The folder. EngineError, naming `out`, where the system does not let it be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
            yield Path(folder)
    except OSError as error:
        why = error.strerror or "the disk is full"  # numpy says how many bytes were written, and nothing else
        raise EngineError(f"{out} cannot be written: {why}.", hint="Make room, or write it elsewhere.") from error
