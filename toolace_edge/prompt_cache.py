"""The tools' part of the prompt in a file, so that a program started anew need not read it again.

What a large model takes a minute to read, it takes back from a file in less than a second. The file is one engine's
saved cache (engines/cache_file.py): another model's, another setting's or a damaged one is refused, never used. It
holds the tools alone: no request, no answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from toolace_edge.engines.base import Engine, common_prefix
from toolace_edge.errors import InputError, ModelError
from toolace_edge.messages import Usage


class PromptCache:
    """One file, read once and written where it does not hold what is needed."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._kept: list[int] | None = None  # what the file holds, once that is known

    def ready(self, engine: Engine, prefix: Sequence[int]) -> Usage:
        """Has `prefix` in the file and, where that was read or written now, in the engine's cache.

        Gives what the model's reading of it took, for the answer whose prompt was cached by that. ModelError where the
        file is not this model's cache; InputError where it cannot be written.
        """
        wanted = list(prefix)
        if not wanted:
            return Usage()
        if self._kept is None:
            self._kept = self._read(engine)
        if self._kept[: len(wanted)] == wanted:
            return Usage()
        engine.rewind(common_prefix(engine.tokens, wanted))
        usage, started = Usage(), perf_counter()
        if missing := wanted[len(engine.tokens) :]:
            engine.forward(missing)
            usage = Usage(cached_tokens=-len(missing), forward_passes=1, prefill_s=perf_counter() - started)
        try:
            engine.save(self.path)
        except OSError as error:
            raise InputError(f"{self.path}: the prompt's cache cannot be written ({error.strerror}).") from None
        self._kept = wanted
        return usage

    def _read(self, engine: Engine) -> list[int]:
        if not self.path.exists():
            return []
        try:
            engine.load(self.path)
        except ModelError as error:
            raise ModelError(str(error), hint="Name another file as prompt cache, or delete this one.") from None
        return list(engine.tokens)
