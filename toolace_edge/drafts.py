"""Drafts: tokens that will probably come next, to be verified in one forward pass instead of made in many.

Three sources, the surest first. While a call is refined, the call of the last round. Where the grammar forces the
text but leaves its last tokens open (they could merge with what follows), that text as it is usually tokenized. And
inside a string value, the words of the request, from where the value matches them (prompt lookup decoding).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

_LEAST_BYTES = 3  # that a value must have in common with the request before the words after it are a guess worth making
_LEAST_TOKENS = 2  # the same for the last round's call, once the new one has left it
_START, _MOST = 4, 8  # tokens of a guess: 8 cost about 2.5 single steps on a large model


class Drafter:
    """Proposes drafts for one answer. `token_bytes` gives a token's bytes, `tokenize` the tokens of bytes."""

    def __init__(
        self,
        previous: Sequence[int],
        copy_from: Sequence[int],
        token_bytes: Callable[[int], bytes],
        tokenize: Callable[[bytes], list[int]],
    ) -> None:
        self._previous = list(previous)
        self._copy_from = list(copy_from)
        self._token_bytes = token_bytes
        self._tokenize = tokenize
        self._value = OpenString()
        self._seen = 0
        self._size = _START
        self._guessed = 0

    def propose(self, answer: Sequence[int], forced_text: bytes) -> list[int]:
        """Tokens that may follow `answer`. `forced_text` are the bytes that the grammar leaves no choice about."""
        self._guessed = 0
        for token in answer[self._seen :]:
            self._value.add(token, self._token_bytes(token))
        self._seen = len(answer)
        if self._previous[: len(answer)] == list(answer):
            return self._previous[len(answer) : -1]  # the row of the token before the end token tells of the end
        if forced_text:
            return self._tokenize(forced_text)
        draft = self._calls.after(answer, _LEAST_TOKENS, 4 * self._size)  # a call of which one value changed
        if not draft and self._value.tokens:
            draft = self._words.after(self._value.tokens, 1, self._size)
        self._guessed = len(draft)
        return draft

    def learn(self, accepted: int) -> None:
        """Guesses grow while they are right and shrink while they are not; sure drafts teach nothing."""
        if self._guessed and accepted >= self._guessed:
            self._size = min(self._size * 2, _MOST)
        elif self._guessed and accepted * 2 < self._guessed:
            self._size = max(self._size // 2, 1)

    @cached_property
    def _calls(self) -> Lookup:
        return Lookup(self._previous[:-1], self._token_bytes)

    @cached_property
    def _words(self) -> Lookup:
        return Lookup(self._copy_from, self._token_bytes)


class Lookup:
    """Finds where a text goes on as the end of another one does. A word's leading space does not count."""

    def __init__(self, tokens: Sequence[int], token_bytes: Callable[[int], bytes]) -> None:
        self._tokens = list(tokens)
        self._token_bytes = token_bytes
        self._keys = [self._key(token) for token in tokens]
        self._places: dict[bytes, list[int]] = {}
        for place, key in enumerate(self._keys):
            self._places.setdefault(key, []).append(place)

    def _key(self, token: int) -> bytes:
        text = self._token_bytes(token)
        return text.lstrip() or text

    def after(self, tokens: Sequence[int], least: int, most: int) -> list[int]:
        """What follows the longest match of the end of `tokens`, the first of several; [] where it is too short.

        Twice as many tokens as match are worth proposing, `most` at the most.
        """
        if not tokens or not self._tokens:
            return []
        keys = [self._key(token) for token in tokens[-_MOST:]]
        best, length = 0, 0
        for place in self._places.get(keys[-1], ()):
            common = self._common(keys, place)
            if common > length:
                best, length = place, common
        if length < least or len(b"".join(keys[-length:])) < _LEAST_BYTES:
            return []
        return self._tokens[best + 1 : best + 1 + min(2 * length, most)]

    def _common(self, keys: list[bytes], place: int) -> int:
        """How many of `keys`, from the last backwards, end at `place`."""
        count = 0
        while count < min(len(keys), place + 1) and self._keys[place - count] == keys[-1 - count]:
            count += 1
        return count


class OpenString:
    """Follows an answer's bytes: `tokens` are those of the string value that is open now, after its first quote."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self._quote = 0  # the byte that will close the string, 0 outside
        self._escaped = False

    def add(self, token: int, text: bytes) -> None:
        opened = self._quote == 0
        for byte in text:
            if self._quote == 0:
                self._quote = byte if byte in b"\"'" else 0
                opened = True
            elif self._escaped or byte == ord("\\"):
                self._escaped = not self._escaped
            elif byte == self._quote:
                self._quote = 0
        if self._quote == 0 or opened:
            self.tokens = []
        else:
            self.tokens.append(token)
