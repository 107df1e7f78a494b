"""How an answer that has begun can be ended: a way to close it from any state, so that no budget ever cuts one off.

`Guard` holds the invariant of the decoder: it always knows tokens that finish the answer, no more of them than are
left of the budget. A token that the model wants is taken only if a way that fits is known after it; otherwise the
first token of the known way is. So whatever the logits say, the answer ends, and ends valid.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from toolace_edge.sampling import Mask

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

_FAR = 1 << 16  # tokens: a way that is longer than any context
_DETOUR_DEPTH, _DETOUR_WIDTH = 3, 24  # how much is tried where the first way is too long
_CLOSERS = frozenset(b"\"'}])")


class Guard:
    """Follows a matcher and always knows a way to close. `path` are the tokens of that way, the end token included."""

    def __init__(self, tokenizer: LLTokenizer, matcher: LLMatcher, budget: int) -> None:
        self._closer = Closer(tokenizer)
        path = self._closer.shortest(matcher, budget)
        self.fits = path is not None
        self.path = path or []

    def needed(self, matcher: LLMatcher) -> int:
        """Tokens that the first way found needs, for the message of an error."""
        return len(self._closer.path(matcher, _FAR) or ())

    def admits(self, token: int, after: LLMatcher, remaining: int) -> bool:
        """May `token` be taken? `after` has consumed it; `remaining` tokens are left then. Remembers the way on."""
        if after.is_error():
            return False
        if self.path[0] == token:
            self.path = self.path[1:]
        elif not self._still_closes(after, remaining):
            path = self._closer.path(after, remaining)
            if path is None:
                return False
            self.path = path
        return True

    def forced(self, tokens: list[int], after: LLMatcher, remaining: int) -> bool:
        """The same for tokens that the grammar forces; no only where it cuts the same text into more tokens."""
        if self.path[: len(tokens)] == tokens:
            self.path = self.path[len(tokens) :]
            return True
        path = self._closer.path(after, remaining)
        if path is not None:
            self.path = path
        return path is not None

    def _still_closes(self, after: LLMatcher, remaining: int) -> bool:
        """Inside a string the way of before mostly goes on being one, and to see that costs far less than to look."""
        *most, last = self.path
        if len(self.path) > remaining or after.validate_tokens(most) < len(most):
            return False
        forced = after.compute_ff_tokens()
        if forced != self.path[: len(forced)]:
            return False
        ahead = after.deep_copy()
        ahead.consume_tokens(most)
        return last in self._closer.mask.allowed(ahead)


class Closer:
    """Finds a way from a matcher's state to the end, short but not always the shortest."""

    def __init__(self, tokenizer: LLTokenizer) -> None:
        self._ranks = _ranks(tokenizer)
        self.mask = Mask(tokenizer.vocab_size)

    def path(self, matcher: LLMatcher, limit: int) -> list[int] | None:
        """The tokens of one way to the end, None where it has more than `limit`. The matcher is left as it is."""
        state = matcher.deep_copy()
        path: list[int] = []
        while not state.is_stopped():
            tokens = state.compute_ff_tokens() or self._ranked(state, 1)
            path += tokens
            if len(path) > limit or not state.consume_tokens(tokens):
                return None
        return None if state.is_error() else path

    def shortest(self, matcher: LLMatcher, limit: int) -> list[int] | None:
        """`path`, and where that is too long, the same after another token at one of the first decisions."""
        path = self.path(matcher, limit)
        state, start = matcher.deep_copy(), list[int]()
        for _ in range(_DETOUR_DEPTH):
            forced = [] if path is not None or state.is_stopped() else state.compute_ff_tokens()
            state.consume_tokens(forced)
            start += forced
            if path is not None or state.is_stopped():
                break
            ranked = self._ranked(state, _DETOUR_WIDTH)
            path = self._detour(state, start, ranked[1:], limit)
            state.consume_token(ranked[0])
            start.append(ranked[0])
        return path

    def _detour(self, state: LLMatcher, start: list[int], tokens: list[int], limit: int) -> list[int] | None:
        for token in tokens:
            branch = state.deep_copy()
            branch.consume_token(token)
            rest = self.path(branch, limit - len(start) - 1)
            if rest is not None:
                return [*start, token, *rest]
        return None

    def _ranked(self, state: LLMatcher, most: int) -> list[int]:
        """The allowed tokens, the one that promises the soonest end first."""
        allowed = self.mask.allowed(state)
        for token in allowed[self._ranks.special[allowed]].tolist():
            ahead = state.deep_copy()
            if ahead.consume_token(token) and ahead.is_stopped():
                return [token]
        # A letter is allowed beside punctuation only inside a string; there a bracket closes nothing.
        in_string = bool(self._ranks.letters[allowed].any())
        rank = (self._ranks.inside if in_string else self._ranks.outside)[allowed]
        best = allowed[np.argsort(rank, kind="stable")[:most]] if most > 1 else allowed[[rank.argmin()]]
        return [int(token) for token in best]


class _Ranks:
    """What each token of a vocabulary promises for closing: int32 [vocab_size], lower is better."""

    def __init__(self, tokenizer: LLTokenizer) -> None:
        size = tokenizer.vocab_size
        self.special: NDArray[np.bool_] = np.zeros(size, np.bool_)
        self.letters: NDArray[np.bool_] = np.zeros(size, np.bool_)
        self.inside: NDArray[np.int32] = np.zeros(size, np.int32)
        self.outside: NDArray[np.int32] = np.zeros(size, np.int32)
        for token in range(size):
            text = tokenizer.decode_bytes([token])
            self.special[token] = tokenizer.is_special_token(token)
            self.letters[token] = text in (b"q", b"Q")  # no word of JSON or Python begins with it
            self.inside[token], self.outside[token] = _rank(text)


def _rank(text: bytes) -> tuple[int, int]:
    """Classes 0..4 inside a string and outside; within a class the longer token first."""
    length = min(len(text), 99)
    closes, quoted = bool(text) and _CLOSERS.issuperset(text), text[:1] in (b'"', b"'")
    if not text or text[:1] in (b"\\", b"-", b"<"):
        inside = outside = 4
    else:
        inside = 0 if closes and quoted else 3
        outside = (1 if quoted else 0) if closes else 2 if text[:1] == b"," else 3
    return inside * 100 - length, outside * 100 - length


@lru_cache(maxsize=4)
def _ranks(tokenizer: LLTokenizer) -> _Ranks:
    """Once for a vocabulary: 5 ms at 8k tokens, 100 ms at 128k."""
    return _Ranks(tokenizer)
