"""From any state of a grammar to the end of the answer: few tokens, though not always the fewest.

The first token that closes something is taken, whatever the format: the end token, else brackets, quotes and commas.
Where none is allowed (inside a pattern, a number that must have more digits) the way leads through masks that were not
met before. So it gets through a pattern without knowing it: in `john` each further letter leads to the mask of the
one before, `@` to another.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from toolace_edge.sampling import Mask

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

Ids = NDArray[np.intp]

_DETOUR_DEPTH, _DETOUR_WIDTH = 3, 24  # how much is tried where the first way is too long
_CLOSERS = frozenset(b'"}])')  # single quotes are left out: no format's grammar writes strings in them
_COMMON = tuple(b"@.:-/_ ")  # what structures a pattern, among the punctuation that it merely allows
_COMMA = 200  # the highest rank of what closes


class Ending:
    """Finds ways to end an answer. Leaves every matcher as it is."""

    def __init__(self, tokenizer: LLTokenizer) -> None:
        self._tokenizer = tokenizer
        self._ranks = _ranks(tokenizer)
        self._mask = Mask(tokenizer.vocab_size)

    def allows(self, state: LLMatcher, token: int) -> bool:
        # validate_tokens is far cheaper than a mask, but does not count a vocabulary's own end token.
        return state.validate_tokens([token]) == 1 or token in self._mask.allowed(state)

    def path(self, matcher: LLMatcher, limit: int) -> list[int] | None:
        """The tokens of one way to the end, None where it has more than `limit`."""
        state = matcher.deep_copy()
        path: list[int] = []
        seen = Counter[bytes]()
        while not state.is_stopped():
            tokens = state.compute_ff_tokens() or self._forced_text(state) or [self._next(state, seen)]
            path += tokens
            if len(path) > limit or not state.consume_tokens(tokens):
                return None
        return None if state.is_error() else path

    def short_path(self, matcher: LLMatcher, limit: int) -> list[int] | None:
        """`path`, and where that is too long, the same after another token at one of the first decisions."""
        path = self.path(matcher, limit)
        state, start = matcher.deep_copy(), list[int]()
        for _ in range(_DETOUR_DEPTH):
            forced = [] if path is not None or state.is_stopped() else state.compute_ff_tokens()
            state.consume_tokens(forced)
            start += forced
            if path is not None or state.is_stopped():
                break
            first, *others = self._ranked(state)
            path = self._detour(state, start, others[:_DETOUR_WIDTH], limit)
            state.consume_token(first)
            start.append(first)
        return path

    def _detour(self, state: LLMatcher, start: list[int], tokens: list[int], limit: int) -> list[int] | None:
        for token in tokens:
            branch = state.deep_copy()
            branch.consume_token(token)
            rest = self.path(branch, limit - len(start) - 1)
            if rest is not None:
                return [*start, token, *rest]
        return None

    def _forced_text(self, state: LLMatcher) -> list[int]:
        """Text that is certain, of which only the cut into tokens is open."""
        tokens = self._tokenizer.tokenize_bytes(state.compute_ff_bytes())
        return tokens[: state.validate_tokens(tokens)]

    def _next(self, state: LLMatcher, seen: Counter[bytes]) -> int:
        """The best token that closes, else the one that leads to the mask met least, else the longest one."""
        allowed, best, closes = self._best(state)
        if closes or 2 * len(allowed) > self._tokenizer.vocab_size:  # nearly anything goes: only length is wanted
            return best
        seen[self._mask.signature()] += 1
        ways = []
        for token in self._ranks.samples(allowed):
            ahead = state.deep_copy()
            if ahead.consume_token(token) and not ahead.is_stopped():
                open_ = not self._best(ahead)[2]
                ways.append((open_, seen[self._mask.signature()], token))
        if not ways or min(ways)[:2] == max(ways)[:2]:
            return best
        return min(ways)[2]

    def _best(self, state: LLMatcher) -> tuple[Ids, int, bool]:
        """The allowed tokens, the one of them that promises the soonest end, and whether it closes anything."""
        allowed = self._mask.allowed(state)
        last = self._last(state, allowed)
        if last is not None:
            return allowed, last, True
        rank = self._ranks.of(allowed)
        best = int(rank.argmin())
        return allowed, int(allowed[best]), bool(rank[best] <= _COMMA)

    def _last(self, state: LLMatcher, allowed: Ids) -> int | None:
        """The token that ends the answer here and now, if there is one."""
        for token in allowed[self._ranks.special[allowed]].tolist():
            ahead = state.deep_copy()
            if ahead.consume_token(token) and ahead.is_stopped() and not ahead.is_error():
                return int(token)
        return None

    def _ranked(self, state: LLMatcher) -> list[int]:
        allowed, best, _ = self._best(state)
        order = allowed[np.argsort(self._ranks.of(allowed), kind="stable")].tolist()
        return [best, *(token for token in order if token != best)]


class _Ranks:
    """What each token of a vocabulary promises for closing."""

    def __init__(self, tokenizer: LLTokenizer) -> None:
        size = tokenizer.vocab_size
        self.special: NDArray[np.bool_] = np.zeros(size, np.bool_)
        self._letters: NDArray[np.bool_] = np.zeros(size, np.bool_)
        self._inside: NDArray[np.int32] = np.zeros(size, np.int32)  # a string; lower is better
        self._outside: NDArray[np.int32] = np.zeros(size, np.int32)
        singles: list[tuple[int, int]] = []
        for token in range(size):
            text = tokenizer.decode_bytes([token])
            self.special[token] = tokenizer.is_special_token(token)
            self._letters[token] = text in (b"q", b"Q")  # no word of JSON or Python begins with it
            self._inside[token], self._outside[token] = _rank(text)
            if len(text) == 1 and text.isascii() and not self.special[token]:
                singles.append((token, _kind(text[0])))
        self._singles, self._kinds = np.asarray(singles, np.intp).reshape(-1, 2).T

    def of(self, allowed: Ids) -> NDArray[np.int32]:
        """A letter is allowed beside punctuation only inside a string; there a bracket closes nothing."""
        return (self._inside if self._letters[allowed].any() else self._outside)[allowed]

    def samples(self, allowed: Ids) -> list[int]:
        """Allowed tokens of one character: one letter of each case, two digits, and punctuation."""
        places = np.searchsorted(allowed, self._singles) % len(allowed)
        found = allowed[places] == self._singles
        kinds, first = np.unique(self._kinds[found], return_index=True)
        if len(kinds) > 16:
            first = first[(kinds < 32) | np.isin(kinds, _COMMON)]
        return [int(token) for token in self._singles[found][first]]


def _kind(byte: int) -> int:
    """Below 32 for what stands for its like, else the byte itself."""
    if chr(byte).isalpha():
        return 1 if chr(byte).isupper() else 0
    return 2 if byte == ord("0") else 3 if chr(byte).isdigit() else byte


def _rank(text: bytes) -> tuple[int, int]:
    """Inside a string and outside: 100 times the class, less the length.

    Classes: 0 brackets, 1 quotes, 2 commas, 3 text (inside a string, letters), 4 the rest.
    """
    length = min(len(text), 99)
    closes, quoted = bool(text) and _CLOSERS.issuperset(text), text[:1] == b'"'
    opens = quoted and text[:2] != b'""' and length > 1  # outside, this quote begins a string
    if not text or text[:1] in (b"\\", b"-", b"<"):
        inside = outside = 4
    else:
        inside = 1 if closes and quoted else 3 if text.isalpha() else 4
        outside = (1 if quoted else 0) if closes and not opens else 2 if text[:1] == b"," else 3
    return inside * 100 - length, outside * 100 - length


@lru_cache(maxsize=4)
def _ranks(tokenizer: LLTokenizer) -> _Ranks:
    """Once for a vocabulary: 10 ms at 8k tokens, 100 ms at 128k."""
    return _Ranks(tokenizer)
