"""Calls as ToolACE writes them, `[f(a=1, b="x"), g()]`: to text and back. Nothing is evaluated.

Python's own parser cannot read them: tools are called `get-weather` or `math.sum`, arguments `class` or `from`. So a
small reader walks over the text; only a string literal goes through `ast.literal_eval`, for its escapes. It reads more
than the grammar writes (single quotes, other spacing, tuples, `true`), since histories and other decoders do too.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from toolace_edge.errors import FormatError
from toolace_edge.formats.values import PYTHON, harmless, quote
from toolace_edge.messages import ToolCall

_PLAIN_KEY = re.compile(r"[^\W\d][\w.\-]*")
_NAME = re.compile(r"[^\s()\[\]{},='\"]+(?: [^\s()\[\]{},='\"]+)*")
_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"|' + r"'(?:[^'\\\n]|\\.)*'", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_WORDS = {"True": True, "False": False, "None": None, "true": True, "false": False, "null": None}
_SPACE = re.compile(r"\s*")
_MAX_DEPTH = 100


def key(name: str) -> str:
    """What stands before an argument's value."""
    return f"{name}=" if _PLAIN_KEY.fullmatch(name) else f"**{{{harmless(quote(name))}: "


def close(name: str) -> str:
    """What stands behind it."""
    return "" if _PLAIN_KEY.fullmatch(name) else "}"


def write_call(call: ToolCall) -> str:
    arguments = (f"{key(name)}{PYTHON.literal(value)}{close(name)}" for name, value in call.arguments.items())
    return f"{call.name}({', '.join(arguments)})"


def read_calls(text: str) -> tuple[ToolCall, ...]:
    """Every call of a list. FormatError, with the place, for anything else."""
    reader = _Reader(text)
    reader.expect("[")
    calls: list[ToolCall] = []
    while reader.another("]", not calls):
        calls.append(reader.call())
    reader.expect_end()
    return tuple(calls)


class _Reader:
    """A position in a text; every method skips white space, reads one thing, and moves on."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def _match(self, pattern: re.Pattern[str]) -> str | None:
        self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]  # it matches nothing, too
        found = pattern.match(self.text, self.at)
        if found is None:
            return None
        self.at = found.end()
        return found.group()

    def take(self, symbol: str) -> bool:
        self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
        if not self.text.startswith(symbol, self.at):
            return False
        self.at += len(symbol)
        return True

    def expect(self, symbol: str) -> None:
        if not self.take(symbol):
            raise self.fault(f"{symbol!r} expected")

    def another(self, closing: str, first: bool) -> bool:
        """Whether one more member of a list follows; takes the comma before it, or what closes the list."""
        if self.take(closing):
            return False
        if not first:
            self.expect(",")
        return first or not self.take(closing)

    def expect_end(self) -> None:
        self.take("")
        if self.at < len(self.text):
            raise self.fault("nothing more expected")

    def fault(self, what: str) -> FormatError:
        return FormatError(f"toolace: {what} at character {self.at} of {self.text[:200]!r}.")

    def call(self) -> ToolCall:
        name = self._match(_NAME)
        if name is None:
            raise self.fault("a tool's name expected")
        self.expect("(")
        arguments: dict[str, Any] = {}
        while self.another(")", not arguments):
            if self.take("**"):
                arguments.update(self.value(0, as_arguments=True))
                continue
            argument = self._match(_NAME)
            if argument is None:
                raise self.fault("an argument's name expected")
            self.expect("=")
            arguments[argument] = self.value(0)
        return ToolCall(name, arguments)

    def value(self, depth: int, as_arguments: bool = False) -> Any:
        if depth > _MAX_DEPTH:
            raise self.fault("no deeper nesting expected")
        if self.take("{"):
            return self._dict(depth + 1)
        if as_arguments:
            raise self.fault("'{' expected")
        for opening, closing in ("[]", "()"):
            if self.take(opening):
                return self._list(closing, depth + 1)
        if (literal := self._match(_STRING)) is not None:
            return _string(literal)
        if (number := self._match(_NUMBER)) is not None:
            return _number(number)
        for word, value in _WORDS.items():
            if self.take(word):
                return value
        raise self.fault("a value expected")

    def _list(self, closing: str, depth: int) -> list[Any]:
        values: list[Any] = []
        while self.another(closing, not values):
            values.append(self.value(depth))
        return values

    def _dict(self, depth: int) -> dict[str, Any]:
        members: dict[str, Any] = {}
        while self.another("}", not members):
            literal = self._match(_STRING)
            if literal is None:
                raise self.fault("a key in quotes expected")
            self.expect(":")
            members[_string(literal)] = self.value(depth)
        return members


def _string(literal: str) -> str:
    try:
        text: str = ast.literal_eval(literal)
    except (ValueError, SyntaxError) as error:
        raise FormatError(f"toolace: {literal[:80]} is not a string literal: {error}.") from error
    return text


def _number(text: str) -> int | float:
    try:
        return json.loads(text.lstrip("+").replace("_", ""))  # type: ignore[no-any-return]
    except ValueError:
        return float(text)
