"""Bars on standard error for work that takes long, one after the other, where somebody is looking."""

from __future__ import annotations

import sys
import time
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
        self._began = 0.0
        self._seen = sys.stderr is not None and sys.stderr.isatty()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if not self._seen:
            return
        if stage != self._stage:
            self._stack.close()
            bar: Any = click.progressbar(
                length=total, label=stage, file=sys.stderr, show_pos=True, item_show_func=_rate
            )
            self._stage, self._bar, self._done = stage, self._stack.enter_context(bar), 0
            self._began = time.monotonic()
        self._bar.update(done - self._done, done / max(time.monotonic() - self._began, 1e-3))
        self._done = done

    def __enter__(self) -> Bars:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def _rate(a_second: float | None) -> str:
    return "" if a_second is None else f"{a_second:.3g}/s"
