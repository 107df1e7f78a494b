"""One choice: the logits of one position and the grammar's mask become a token; how likely it and others were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from toolace_edge.errors import EngineError, InputError

if TYPE_CHECKING:
    from llguidance import LLMatcher

_SORTED_FIRST = 1024  # tokens: nearly always hold what top_p asks for, and sorting 128k takes 10 ms


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose among allowed tokens. Temperature 0 takes the best one and ignores everything else.

    `top_k` 0, `top_p` 1 and `min_p` 0 switch each filter off. All apply after the temperature: min_p, top_k, top_p.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        _within("temperature", self.temperature, 0.0, 100.0)
        _within("min_p", self.min_p, 0.0, 1.0)
        _within("top_p", self.top_p, 0.0, 1.0)
        if self.top_p == 0.0:
            raise InputError("top_p is 0, which leaves no token to choose from.", hint="1 switches it off.")
        for name, value in (("top_k", self.top_k), ("seed", self.seed)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise InputError(f"{name} is {value!r}, not a whole number from 0 on.")


def _within(name: str, value: float, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise InputError(f"{name} is {value!r}, not a number from {low:g} to {high:g}.")


GREEDY = Sampling()


class Mask:
    """The tokens that a matcher allows next, in one buffer that is used again and again."""

    def __init__(self, vocab_size: int) -> None:
        self._vocab_size = vocab_size
        self._bits = np.zeros((vocab_size + 31) // 32, np.int32)
        self._bytes = self._bits.view(np.uint8)

    def allowed(self, matcher: LLMatcher) -> NDArray[np.intp]:
        """Ids of the allowed tokens, ascending. EngineError where the grammar's engine has given up."""
        matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        bits = np.unpackbits(self._bytes, bitorder="little", count=self._vocab_size)
        ids = np.flatnonzero(bits.view(np.bool_))
        if matcher.is_error() or not ids.size:
            raise EngineError(f"The grammar allows no further token: {matcher.get_error() or 'its mask is empty'}.")
        return ids

    def signature(self) -> bytes:
        """Of the mask that was made last: equal for equal masks."""
        return self._bits.tobytes()


class Odds:
    """The probabilities of the `allowed` tokens at temperature 1. `logits`: float32 [vocab_size]."""

    def __init__(self, logits: NDArray[np.float32], allowed: NDArray[np.intp]) -> None:
        scores = logits[allowed]
        weights = np.exp(scores - scores.max())
        self._allowed = allowed
        self._shares = weights / weights.sum()

    def of(self, tokens: Sequence[int]) -> float:
        """The chance that it is one of `tokens`, which are allowed."""
        return float(self._shares[np.searchsorted(self._allowed, tokens)].sum())

    def best_but(self, tokens: Sequence[int]) -> tuple[int, float] | None:
        """The likeliest token that is none of `tokens`, and its probability; None where there is none."""
        if len(tokens) >= len(self._allowed):
            return None
        shares = self._shares.copy()
        shares[np.searchsorted(self._allowed, tokens)] = -1.0
        best = int(shares.argmax())
        return int(self._allowed[best]), float(shares[best])


class Chooser:
    """Chooses with one random stream, one number a choice: so drafts change nothing of what is chosen."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._random = np.random.default_rng(sampling.seed)

    def choose(self, logits: NDArray[np.float32], allowed: NDArray[np.intp]) -> int:
        """A token out of `allowed`. `logits`: float32 [vocab_size]."""
        scores = logits[allowed]
        best = int(scores.argmax())
        top = scores[best]
        if not np.isfinite(top):
            raise EngineError(f"The model gave {top} for a logit; its file or the engine is broken.")
        return int(allowed[best if self._sampling.temperature == 0.0 else self._sample(scores - top)])

    def _sample(self, scores: NDArray[np.float32]) -> int:
        """Index into `scores`, whose largest is 0, by inversion of the filtered distribution."""
        sampling = self._sampling
        weights = np.exp(scores.astype(np.float64) / max(sampling.temperature, 1e-3))
        weights[weights < sampling.min_p] = 0.0  # the largest is 1
        order = None
        if sampling.top_k or sampling.top_p < 1.0:
            order = _head(weights, sampling.top_k, sampling.top_p)
            weights = weights[order]
        mass = np.cumsum(weights)
        place = int(np.searchsorted(mass, self._random.random() * mass[-1], side="right"))
        place = min(place, int(np.flatnonzero(weights)[-1]))  # rounding may lead past the end
        return place if order is None else int(order[place])


def _head(weights: NDArray[np.float64], top_k: int, top_p: float) -> NDArray[np.intp]:
    """Indices of the `top_k` largest (0: all), and of these the fewest that hold `top_p` of the mass; descending."""
    size = min(top_k or len(weights), len(weights))
    some = size if top_k else min(size, _SORTED_FIRST)
    while True:
        order = np.argpartition(-weights, some - 1)[:some]
        order = order[np.argsort(-weights[order], kind="stable")]
        mass = np.cumsum(weights[order])
        wanted = top_p * (mass[-1] if top_k else weights.sum())
        if some == size or mass[-1] >= wanted:
            return order[: int(np.searchsorted(mass, wanted)) + 1] if top_p < 1.0 else order
        some = size
