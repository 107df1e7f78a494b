"""An answer while it is being written: which call has begun, and its arguments or the text piece by piece.

It follows the bytes of an answer that a grammar holds, so it only has to find where arguments begin and end: behind a
format's opening, at the bracket that closes them. What stands inside a string is skipped, whatever it looks like. An
answer that does not begin as one that calls is text.
"""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass

from toolace_edge.formats.base import Format
from toolace_edge.formats.compact import compact_json

_JSON_NAME = rb'("(?:[^"\\]|\\.)*")'


@dataclass(frozen=True, slots=True)
class _Form:
    """How a format's calls look: what an answer that calls begins with; a call up to its arguments, its name a group.

    `inside` is how many brackets that opening leaves open. `json`: the arguments are JSON as they stand. `text` is what
    stands before the text of an answer that has one. `mixed`: calls may follow words.
    """

    start: bytes
    opening: re.Pattern[bytes]
    inside: int
    json: bool
    text: bytes = b""
    mixed: bool = False


_FORMS = {
    "compact": _Form(
        b"<|call|>", re.compile(rb'<\|call\|>\{"name":' + _JSON_NAME + rb',"arguments":\Z'), 0, True, b"<|text|>"
    ),
    "hermes": _Form(
        b"<tool_call>",
        re.compile(rb'<tool_call>\n\{"name": ' + _JSON_NAME + rb', "arguments": \Z'),
        0,
        json=True,
        mixed=True,
    ),
    "toolace": _Form(b"[", re.compile(rb"(?:\[|, )([^\s()\[\]{},='\"]+)\(\Z"), 1, False),
}


@dataclass(frozen=True, slots=True)
class Begun:
    """Call `index` of this answer, from 0, and its tool."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class Fragment:
    """More of a call's arguments: joined, a call's fragments are its arguments as one JSON object."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class Said:
    """More of the text of an answer that calls nothing."""

    text: str


Part = Begun | Fragment | Said


class CallStream:
    """Follows one answer. Where a format does not write JSON, a call's arguments come as one fragment at their end."""

    def __init__(self, fmt: Format) -> None:
        self._format, self._form = fmt, _FORMS[fmt.name]
        self._end_token = fmt.end.encode()
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._calls: bool | None = None  # whether this answer calls: not known before its first bytes
        self._outside = bytearray()  # since the last call; of a text, what is not told yet
        self._before_text = self._form.text
        self._inside: bytearray | None = None  # since the arguments began
        self._depth = 0
        self._quote = 0  # the byte that ends the string in which the answer is
        self._escaped = False
        self._index = -1
        self._name = ""

    def feed(self, data: bytes) -> list[Part]:
        """What these next bytes of the answer begin and add."""
        found: list[Part] = []
        for byte in data:
            if self._inside is None:
                self._read_outside(byte, found)
            else:
                self._read_inside(byte, found)
        if self._inside and self._form.json:
            self._tell(bytes(self._inside), found)
            self._inside.clear()
        if self._calls is False:
            self._tell_text(found)
        return found

    def _read_outside(self, byte: int, found: list[Part]) -> None:
        self._outside.append(byte)
        if self._calls is None:
            so_far, start = bytes(self._outside), self._form.start
            self._calls = None if so_far != start and start.startswith(so_far) else so_far == start
        elif self._form.mixed and not self._calls and self._outside.endswith(self._form.start):
            said = bytes(self._outside[: -len(self._form.start)]).removesuffix(b"\n")
            if text := self._decode(said):
                found.append(Said(text))
            self._calls, self._outside[:] = True, self._form.start
        opening = self._form.opening.search(self._outside) if self._calls else None
        if opening is not None:
            self._index += 1
            name = bytes(opening[1])
            self._name = json.loads(name) if self._form.json else name.decode()
            self._inside, self._depth = bytearray(), self._form.inside
            self._outside.clear()
            found.append(Begun(self._index, self._name))

    def _read_inside(self, byte: int, found: list[Part]) -> None:
        assert self._inside is not None
        self._inside.append(byte)
        if self._quote:
            if self._escaped:
                self._escaped = False
            elif byte == ord("\\"):
                self._escaped = True
            elif byte == self._quote:
                self._quote = 0
        elif byte in b"\"'":
            self._quote = byte
        elif byte in b"{[(":
            self._depth += 1
        elif byte in b"}])":
            self._depth -= 1
            if self._depth == 0:
                self._end(bytes(self._inside), found)
                self._inside = None

    def _end(self, arguments: bytes, found: list[Part]) -> None:
        if not self._form.json:
            (call,), _ = self._format.parse((), b"[" + self._name.encode() + b"(" + arguments + b"]")
            arguments = compact_json(dict(call.arguments)).encode()
        self._tell(arguments, found)

    def _tell_text(self, found: list[Part]) -> None:
        """All but what may still turn out to be markup: the mark before the text, and the token that ends it."""
        data, mark = bytes(self._outside), self._before_text
        if len(data) < len(mark):
            return
        data, self._before_text = data.removeprefix(mark), b""
        marks = [self._end_token]
        if self._form.mixed:
            marks += [self._form.start, b"\n" + self._form.start]
        kept = max(next(n for n in range(len(mark), -1, -1) if data.endswith(mark[:n])) for mark in marks)
        self._outside[:] = data[len(data) - kept :]
        if text := self._decode(data[: len(data) - kept]):
            found.append(Said(text))

    def _tell(self, arguments: bytes, found: list[Part]) -> None:
        if text := self._decode(arguments):
            found.append(Fragment(self._index, text))
