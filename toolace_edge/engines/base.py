"""The Engine Protocol: what the decoder needs of a native runtime, and the few checks that every engine shares.

An engine is thin. It knows tokens, a cache of key/value states and logits; nothing of tools, grammars or sampling.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from toolace_edge.engines.turns import Turns
from toolace_edge.errors import BudgetError, Cancelled, InputError, ModelError

if TYPE_CHECKING:
    import llguidance
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Self

EXACT_WEIGHTS = 150_000_000  # up to so many, what quantized weights are multiplied with is not rounded to 8 bits
DEFAULT_CHUNK = 256  # tokens of one native call while a prompt is read: what a cancel has to wait for
NOT_LOADED = "It needs system libraries: on Windows the Visual C++ Redistributable, on Linux libgomp1."


class Engine(Protocol):
    """One model with one sequence in its cache. Not thread-safe: who shares one takes `turns`, as Session does."""

    turns: Turns
    """Whose turn it is. `forward` does not ask: it would cost each step, and a turn is for a whole answer."""

    cancelled: Callable[[], bool] | None
    """Asked between the chunks of `forward`, and by llama.cpp during a long one, so it has to be quick.

    Cancelled is raised when it says yes. The cache stays usable.
    """

    @property
    def vocab_size(self) -> int:
        """Width of the logits; token ids are below it."""

    @property
    def n_ctx(self) -> int:
        """Most tokens that the cache can hold."""

    @property
    def tokens(self) -> Sequence[int]:
        """The ids in the cache now. Owned by the engine: read it, do not keep it."""

    @property
    def tokenizer(self) -> llguidance.LLTokenizer:
        """The vocabulary as llguidance wants it. Built once (50 ms at 8k tokens, 1 s at 128k)."""

    @property
    def fingerprint(self) -> str:
        """Names the weights and every setting that changes the cached states: equal means that `load` works."""

    def encode(self, text: str, special: bool = False) -> list[int]:
        """Token ids of `text`, nothing added. Only with `special` do control tokens in it count as such."""

    def decode(self, ids: Sequence[int]) -> bytes:
        """The bytes of `ids`, control tokens as their names. May end inside a UTF-8 character."""

    def forward(self, ids: Sequence[int], n_logits: int = 1) -> NDArray[np.float32]:
        """Append `ids` to the cache; float32 [n_logits, vocab_size], logits after each of the last `n_logits` ids.

        The array belongs to the engine and is valid until the next call of any method. Needs
        1 <= n_logits <= len(ids). BudgetError, with nothing appended, where `ids` do not fit into n_ctx.
        """

    def rewind(self, length: int) -> None:
        """Keep the first `length` cached tokens; 0 <= length <= len(tokens)."""

    def save(self, path: str | Path) -> None:
        """Write the cache (states and token ids) to one file."""

    def load(self, path: str | Path) -> None:
        """Replace the cache by a saved one; ModelError, with the cache empty, where it is not of this fingerprint."""

    def close(self) -> None:
        """Free native memory, after the turn that somebody has. Idempotent; nothing may be called afterwards."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


def open_engine(path: str | Path, *, threads: int | None = None, n_ctx: int | None = None) -> Engine:
    """Open a model file by its suffix: `.gguf` is llama.cpp's, a folder or `.onnx` is onnxruntime's."""
    path = Path(path)
    if not path.exists():
        raise ModelError(f"{path}: there is no such model file or folder.")
    if path.suffix == ".gguf":
        from toolace_edge.engines.llama_cpp import LlamaCppEngine

        return LlamaCppEngine(path, threads=threads, n_ctx=n_ctx)
    if path.is_dir() or path.suffix == ".onnx":
        from toolace_edge.engines.onnx import OnnxEngine

        return OnnxEngine(path, threads=threads, n_ctx=n_ctx)
    raise ModelError(
        f"{path}: a model is a .gguf file, a folder with model.onnx, or an .onnx file; this is none of them."
    )


def default_threads() -> int:
    """One core is left free, for whatever else the machine does; a busy core would hold all threads up."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores - 1)


def checked_threads(threads: object) -> int:
    """A number of threads; without one, `default_threads`. InputError where it is no whole number from 1 on."""
    if threads is None:
        return default_threads()
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise InputError(f"threads is {threads!r}, not a whole number from 1 on.")
    return threads


def check_n_ctx(wanted: object) -> None:
    """InputError where it is no whole number; which numbers are right, the model says."""
    if wanted is not None and (isinstance(wanted, bool) or not isinstance(wanted, int)):
        raise InputError(f"n_ctx is {wanted!r}, not a whole number.")


def check_forward(engine: Engine, ids: Sequence[int], n_logits: int) -> None:
    """Refuse what `forward` must not be asked, before anything is appended."""
    if not 1 <= n_logits <= len(ids):
        raise ValueError(f"forward: n_logits is {n_logits}, but {len(ids)} ids were given")
    length = len(engine.tokens) + len(ids)
    if length > engine.n_ctx:
        raise BudgetError(f"{length} tokens do not fit into the context of {engine.n_ctx} (n_ctx).")


def check_cancelled(engine: Engine) -> None:
    if engine.cancelled is not None and engine.cancelled():
        raise Cancelled("Cancelled while the model was running.")


def chunks(engine: Engine, ids: Sequence[int], size: int = DEFAULT_CHUNK) -> Iterator[Sequence[int]]:
    """`ids` in pieces of at most `size`, asking for a cancel before each.

    The last piece of several is never a single id: onnxruntime sums a single row up in another order, and the same
    prompt would then have other states than one of which the cache held a part.
    """
    start = 0
    while start < len(ids):
        check_cancelled(engine)
        end = min(start + size, len(ids))
        if end == len(ids) - 1 and size > 2:
            end -= 1
        yield ids[start:end]
        start = end


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens both begin with."""
    shorter = min(len(left), len(right))
    if list(left[:shorter]) == list(right[:shorter]):
        return shorter
    return next(i for i in range(shorter) if left[i] != right[i])
