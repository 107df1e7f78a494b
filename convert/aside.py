"""Nothing half-made has a name: a hidden folder beside the file or folder to come, and texts replaced whole.

A program that is killed leaves its hidden folder behind. The next one that makes the same thing removes it: whoever
works in such a folder holds a lock on a file in it, which the system lets go of when its process ends, however.
"""

from __future__ import annotations

import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from toolace_edge.errors import EngineError

_LOCK = ".in-use"


@contextmanager
def made_aside(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out`, which never stays behind. EngineError where it cannot be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _sweep(out)
        with (
            tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder,
            open(Path(folder) / _LOCK, "wb") as lock,
        ):
            with suppress(OSError):  # some network disks have no locks: what is left there stays
                _take(lock)
            yield Path(folder)
    except BrokenPipeError:  # of whoever reads what we say
        raise
    except OSError as error:
        why = error.strerror or "the disk is full"  # numpy says how many bytes were written, and nothing else
        raise EngineError(f"{out} cannot be written: {why}.", hint="Make room, or write it elsewhere.") from error


def _sweep(out: Path) -> None:
    """Remove what killed processes left of `out`."""
    for left in out.parent.glob(f".{glob.escape(out.name)}.*"):
        with suppress(OSError):  # no such folder of ours, or somebody is at work there
            with open(left / _LOCK, "r+b") as lock:
                _take(lock)
            shutil.rmtree(left)


if sys.platform == "win32":

    def _take(lock: IO[bytes]) -> None:
        """OSError where another process has it."""
        import msvcrt

        msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)

else:

    def _take(lock: IO[bytes]) -> None:
        """OSError where another process has it."""
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def replace_text(file: Path, text: str) -> None:
    """`file` holds `text` from now on, or what it held before."""
    part = file.with_name(f".{file.name}.part")
    try:
        part.write_text(text, "utf-8")
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)
