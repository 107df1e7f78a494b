"""Values are copied rather than spelled: a bonus for tokens that go on as the conversation does.

A small model knows that an order number stands in the request and where, and still writes one digit of it wrong, since
each token is predicted and none is looked up. Nearly every string in a right call is in the conversation, word for
word; nearly every string that is not is a wrong one. So inside the strings of a call's arguments, a token gets a bonus
if with it the value is still a piece of the conversation that begins where a word begins; and the quote, where the
piece ends with a word. The idea is that of copy mechanisms (Gu et al., CopyNet, arXiv 1603.06393), with nothing trained
for it. A model that is sure of something else (a date written out, a closed list's entry) keeps it, as the bonus is a
few logits only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from toolace_edge.messages import Message

if TYPE_CHECKING:
    from llguidance import LLTokenizer

_OPENING, _CLOSING, _QUOTES = b"{([", b"})]", b"\"'"
_MOST_BYTES = 24  # of a token that can be copied
_NONE = np.array([], np.intp)
_MOST_PLACES = 64  # where a value may stand; a page that says "the" a thousand times need not be gone through


class Vocabulary:
    """Token ids by their bytes in lower case. Some 10 ms at 12,000 tokens, once an engine."""

    def __init__(self, tokenizer: LLTokenizer) -> None:
        self.ids: dict[bytes, list[int]] = defaultdict(list)
        for token in range(tokenizer.vocab_size):
            text = b"" if tokenizer.is_special_token(token) else bytes(tokenizer.decode_bytes([token]))
            if 0 < len(text) <= _MOST_BYTES:
                self.ids[text.lower()].append(token)
        self.quotes = {
            quote: np.array([i for text, ids in self.ids.items() if text[0] == quote for i in ids], np.intp)
            for quote in _QUOTES
        }


class Copying:
    """The bonus of one answer, in logits: `within` a word that has been begun, and `between` words.

    `sources` are the texts that values may come from, the likeliest first.
    """

    def __init__(self, vocabulary: Vocabulary, sources: Iterable[str], within: float, between: float) -> None:
        self._vocabulary = vocabulary
        self._within, self._between = np.float32(within), np.float32(between)
        self._text = b"\n".join(text.encode("utf-8", "replace").lower() for text in sources)
        self._value = ArgumentString()
        self._begun: NDArray[np.intp] | None = None

    def wrote(self, text: bytes) -> None:
        """Goes on with the bytes of the next token of the answer."""
        self._value.add(text)

    def raised(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """`logits`, float32 [vocab_size], or a copy of them with the bonus where one is due."""
        value = self._value.value
        if value is None or b"\\" in value:
            return logits
        within, between = self._after(value) if value else (_NONE, self._at_a_word())
        if not len(within) and not len(between):
            return logits
        raised: NDArray[np.float32] = logits.copy()
        raised[between] += self._between
        raised[within] = np.maximum(raised[within], logits[within] + self._within)
        return raised

    def _at_a_word(self) -> NDArray[np.intp]:
        """Tokens that any word of the sources begins with."""
        if self._begun is None:
            self._begun = self._tokens(place for place in range(len(self._text)) if self._begins(place))
        return self._begun

    def _after(self, value: bytes) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Tokens that go on from where `value` stands: within a word; and from a word's end on, the quotes too."""
        value = value.lower()
        within: list[int] = []
        between: list[int] = []
        place = self._text.find(value)
        while place >= 0 and len(within) + len(between) < _MOST_PLACES:
            if self._begins(place):
                end = place + len(value)
                inside = end < len(self._text) and _is_word(self._text[end]) and _is_word(value[-1])
                (within if inside else between).append(end)
            place = self._text.find(value, place + 1)
        next_ids = self._tokens(between)
        if between and not _is_space(value[-1]):
            next_ids = np.concatenate([next_ids, self._vocabulary.quotes[self._value.quote]])
        return self._tokens(within), next_ids

    def _begins(self, place: int) -> bool:
        return not _is_space(self._text[place]) and (place == 0 or not _is_word(self._text[place - 1]))

    def _tokens(self, places: Iterable[int]) -> NDArray[np.intp]:
        found: set[int] = set()
        ids = self._vocabulary.ids
        for piece in {self._text[place : place + _MOST_BYTES].split(b"\n", 1)[0] for place in places}:
            for length in range(1, len(piece) + 1):
                found.update(ids.get(piece[:length], ()))
        return np.array(sorted(found), np.intp)


class ArgumentString:
    """Follows an answer's bytes. `value` is what the open string of an argument holds so far, None outside of one.

    Both ways of writing calls: JSON, where arguments are in an object within the call's object, and `f(a="x")`.
    """

    def __init__(self) -> None:
        self.value: bytes | None = None
        self._open: list[int] = []
        self.quote = 0  # the byte that will close it
        self._escaped = False
        self._before = 0  # the last byte outside of strings that is not a space

    def add(self, text: bytes) -> None:
        for byte in text:
            if self.quote:
                self._inside(byte)
            elif byte in _QUOTES:
                self.quote = byte
                self.value = b"" if self._is_value() else None
            elif byte in _OPENING:
                self._open.append(byte)
                self._before = byte
            elif byte in _CLOSING:
                del self._open[-1:]
                self._before = byte
            elif not _is_space(byte):
                self._before = byte

    def _inside(self, byte: int) -> None:
        if not self._escaped and byte == self.quote:
            self.quote, self._before, self.value = 0, byte, None
            return
        self._escaped = not self._escaped and byte == ord("\\")
        if self.value is not None:
            self.value += bytes([byte])

    def _is_value(self) -> bool:
        """Whether the string that opens now is (a part of) an argument and no key and no name."""
        deep = ord("(") in self._open or self._open.count(ord("{")) > 1
        listed = self._before == ord(",") and self._open[-1:] == [ord("[")]
        return deep and (listed or self._before in b":=[")


def _is_word(byte: int) -> bool:
    return byte >= 128 or chr(byte).isalnum()


def _is_space(byte: int) -> bool:
    return byte in b" \t\r\n"


@lru_cache(maxsize=4)
def vocabulary_of(tokenizer: LLTokenizer) -> Vocabulary:
    """The same one for the same tokenizer."""
    return Vocabulary(tokenizer)


def texts_of(messages: Sequence[Message]) -> list[str]:
    """What was said, and what earlier calls held; the latest first."""
    texts: list[str] = []
    for message in reversed(messages):
        texts.append(message.content)
        texts += [text for call in message.calls for text in _strings(call.arguments)]
    return [text for text in texts if text]


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _strings(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _strings(one)
