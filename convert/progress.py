"""Bars on standard error for work that takes long, one after the other, where somebody is looking."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import click


class Bars:
    """Call it with (what is being done, done, in all); a new name ends the last bar. Use as a context manager."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._stage = ""
        self._bar: Any = None
        self._done = 0
        self._seen = sys.stderr is not None and sys.stderr.isatty()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if not self._seen:
            return
        if stage != self._stage:
            self._stack.close()
            bar: Any = click.progressbar(length=total, label=stage, file=sys.stderr, show_pos=True)
            self._stage, self._bar, self._done = stage, self._stack.enter_context(bar), 0
        self._bar.update(done - self._done)
        self._done = done

    def __enter__(self) -> Bars:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
