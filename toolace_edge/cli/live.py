"""What changes on a terminal while it is being made: a few rows at the bottom, which are gone when it is done."""

from __future__ import annotations

import io
import os
import shutil
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, cast

from toolace_edge.cli.output import plain

_DIM, _PLAIN = "\x1b[2m", "\x1b[22m"


class Live:
    """Rows on standard error that replace each other. Where a terminal cannot move its cursor nothing is shown."""

    def __init__(self, on: bool, *, dim: bool) -> None:
        self._on = on
        self._dim = dim
        self._shown = ""

    def show(self, text: str) -> None:
        """The end of the text in place of what was there, as far as it fits on the screen."""
        if not self._on:
            return
        columns, lines = _size()
        shown = "\n".join(list(rows(text, columns))[-max(lines - 2, 1) :])
        if shown == self._shown:
            return
        begun = bool(self._shown) and shown.startswith(self._shown)
        added = shown[len(self._shown) :] if begun else shown
        self._write(("" if begun else self._back()) + (f"{_DIM}{added}{_PLAIN}" if self._dim else added))
        self._shown = shown

    def clear(self) -> None:
        """Leave the place as it was before `show`."""
        if self._shown:
            self._write(self._back())
            self._shown = ""

    @property
    def above(self) -> IO[str]:
        """Where others may write meanwhile: standard error, once the rows are gone."""
        return cast("IO[str]", _Above(self))

    def _back(self) -> str:
        """The cursor to where the rows began, and nothing behind it."""
        up = self._shown.count("\n")
        return ("\r" + (f"\x1b[{up}A" if up else "") + "\x1b[J") if self._shown else ""

    def _write(self, text: str) -> None:
        encoding = sys.stderr.encoding or "utf-8"
        with suppress(OSError):
            sys.stderr.write(text.encode(encoding, "backslashreplace").decode(encoding))
            sys.stderr.flush()


class _Above(io.TextIOBase):
    def __init__(self, live: Live) -> None:
        self._live = live

    def write(self, text: str) -> int:
        self._live.clear()
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def can_move_cursor() -> bool:
    """Whether standard error is a terminal that understands the usual sequences."""
    if sys.stderr is None or not sys.stderr.isatty():
        return False
    return "WT_SESSION" in os.environ if sys.platform == "win32" else os.environ.get("TERM", "dumb") != "dumb"


def _size() -> tuple[int, int]:
    """Columns and lines of the terminal at standard error; shutil would ask standard output, which may be a file."""
    try:
        return os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):
        return shutil.get_terminal_size()


def rows(text: str, columns: int) -> Iterator[str]:
    """The text, control characters spelled out, in rows that a terminal of so many columns does not wrap."""
    room = max(columns - 1, 2)
    for line in plain(text).expandtabs(4).split("\n"):
        row, width = "", 0
        for character in line:
            wide = _width(character)
            if width + wide > room:
                yield row
                row, width = "", 0
            row, width = row + character, width + wide
        yield row


def _width(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Cf", "Me", "Mn"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
