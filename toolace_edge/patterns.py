"""Which strings a schema's `pattern` and `format` allow: rewritten so that every engine reads them the same way.

A JSON Schema pattern is an ECMA-262 regular expression that may match anywhere in the string. llguidance reads Rust's
dialect, Python programs read Python's, and the three differ in `\\d`, `\\w`, `\\s`, `.`, in what a class may hold and
in what a stray brace means. `portable` writes a pattern that matches, in all three, only strings that ECMA matches: the
short classes become ASCII (where they are negated, all of Unicode is excluded), literals are escaped. What no finite
automaton can decide (lookaround, back-references, word boundaries) is refused.

`matches` runs llguidance over single bytes: linear time whatever the pattern, and the engine that generates is the
engine that checks.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

MAX_PATTERN = 1000  # characters
_ENOUGH = 1024  # repetitions of one part
MAX_REPEAT = 4096  # counted repetitions, multiplied through nested groups

_DAY = "(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8])"
_YEAR = "(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_LEAP = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_DATE = f"(?:{_YEAR}-(?:{_DAY})|{_LEAP}-02-29)"
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?(?:Z|[+\-](?:[01][0-9]|2[0-3]):[0-5][0-9])"

# The formats that llguidance holds, and a pattern beside it where its own is too generous: the 29th of February of any
# year, leap seconds, lower-case letters that many parsers refuse.
FORMATS = frozenset(
    ("date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid"),
)
EXACT_FORMATS = {"date": f"^{_DATE}$", "time": f"^{_TIME}$", "date-time": f"^{_DATE}T{_TIME}$"}

_SPECIAL = frozenset("\\^$.|?*+()[]{}/-&~#\"' ")
_SHORT_CLASSES = {"d": "0-9", "w": "A-Za-z0-9_", "s": " \\t\\n\\r\\f\\v"}
_CONTROLS = {"t": "\\t", "n": "\\n", "r": "\\r", "f": "\\f", "v": "\\v", "0": "\\x00"}
_NOT_LINE_END = "[^\\n\\r\u2028\u2029]"


class PatternError(ValueError):
    """This pattern cannot be held; the message says why."""


def portable(pattern: str) -> str:
    """The pattern, rewritten as above. Raises PatternError."""
    if len(pattern) > MAX_PATTERN:
        raise PatternError(f"is {len(pattern)} characters long; {MAX_PATTERN} are the limit")
    return _Reader(pattern).read()


class _Reader:
    """One pass over a pattern, left to right; each method consumes what it is named after and returns its rewriting."""

    def __init__(self, pattern: str) -> None:
        self.text = pattern
        self.at = 0

    def read(self) -> str:
        out, _ = self._alternatives(depth=0)
        if self.at < len(self.text):
            raise PatternError(f"has a ')' at {self.at} that closes nothing")
        return out

    def _next(self) -> str:
        return self.text[self.at] if self.at < len(self.text) else ""

    def _take(self) -> str:
        if self.at >= len(self.text):
            raise PatternError("ends too early")
        self.at += 1
        return self.text[self.at - 1]

    def _alternatives(self, depth: int) -> tuple[str, int]:
        """Up to `)` or the end. The number is how often the largest part repeats, counted repetitions multiplied."""
        if depth > 20:
            raise PatternError("nests groups more than 20 deep")
        out, most = "", 1
        while self._next() not in ("", ")"):
            if self._next() in "|^$":
                out += self._take()
                continue
            atom, repeats = self._atom(depth)
            quantifier, count = self._quantifier()
            most = max(most, repeats * count)
            if most > MAX_REPEAT:
                raise PatternError(f"repeats a part {most} times; {MAX_REPEAT} are the limit")
            out += atom + quantifier
        return out, most

    def _atom(self, depth: int) -> tuple[str, int]:
        char = self._take()
        if char == "(":
            return self._group(depth)
        if char == "[":
            return self._class(), 1
        if char == "\\":
            return self._escape(in_class=False, negated=False), 1
        if char == ".":
            return _NOT_LINE_END, 1
        if char in "*+?":
            raise PatternError(f"has a '{char}' at {self.at - 1} that repeats nothing")
        return _literal(char), 1

    def _group(self, depth: int) -> tuple[str, int]:
        start = self.at - 1
        if self._next() == "?":
            self._take()
            if self._next() == "<" and self.text[self.at + 1 : self.at + 2] not in ("=", "!"):
                self.at = self.text.find(">", self.at) + 1 or len(self.text)  # a named group: its name says nothing
            elif self._take() != ":":
                raise PatternError(f"has a lookaround or a flag at {start}; only plain groups can be held")
        inner, most = self._alternatives(depth + 1)
        if self._next() != ")":
            raise PatternError(f"has a '(' at {start} that is not closed")
        self._take()
        return f"(?:{inner})", most

    def _quantifier(self) -> tuple[str, int]:
        char = self._next()
        out, count = "", 1
        if char and char in "*+?":
            out = self._take()
        elif char == "{" and (bounds := self._braces()):
            out, count = bounds
        if out and self._next() == "?":
            self._take()  # lazy: the same language
        if out and self._next() and self._next() in "*+":
            raise PatternError(f"repeats a repetition at {self.at}")
        return out, count

    def _braces(self) -> tuple[str, int] | None:
        """`{2}`, `{2,}`, `{2,5}`; None for a brace that is only a character."""
        end = self.text.find("}", self.at)
        low, comma, high = self.text[self.at + 1 : end].partition(",")
        if end < 0 or not (low + high).isdigit() or not (low + high).isascii():
            return None
        if not low:
            raise PatternError(f"has '{{,{high}}}', which programs read differently; write {{0,{high}}}")
        if high and int(high) < int(low):
            raise PatternError(f"repeats from {low} to {high} times, which is never")
        self.at = end + 1
        if high and int(low) <= _ENOUGH < int(high):  # less than it allows, and more than an answer has room for
            high = str(_ENOUGH)
        return "{" + low + comma + high + "}", max(1, int(low), int(high or 0))

    def _class(self) -> str:
        start = self.at - 1
        negated = self._next() == "^"
        if negated:
            self._take()
        out = ""
        while self._next() != "]":
            if self.at >= len(self.text):
                raise PatternError(f"has a '[' at {start} that is not closed")
            out += self._class_member(negated)
        self._take()
        if not out:
            raise PatternError(f"has an empty class at {start}")
        return f"[{'^' if negated else ''}{out}]"

    def _class_member(self, negated: bool) -> str:
        low, is_set = self._class_atom(negated)
        following = self.text[self.at + 1 : self.at + 2]
        if self._next() != "-" or following in ("]", ""):
            return low
        self._take()
        high, high_is_set = self._class_atom(negated)
        return f"{low}\\-{high}" if is_set or high_is_set else f"{low}-{high}"

    def _class_atom(self, negated: bool) -> tuple[str, bool]:
        char = self._take()
        if char != "\\":
            return _literal(char), False
        is_set = self._next() in ("d", "w", "s", "D", "W", "S", "p", "P")
        if self._next() == "b":
            self._take()
            return "\\x08", False
        return self._escape(in_class=True, negated=negated), is_set

    def _escape(self, *, in_class: bool, negated: bool) -> str:
        char = self._take()
        if char in _SHORT_CLASSES:
            if negated:  # excluded: all that any engine calls a digit
                return f"\\{char}"
            return _SHORT_CLASSES[char] if in_class else f"[{_SHORT_CLASSES[char]}]"
        if char in "DWS":
            if negated:
                raise PatternError(f"negates \\{char} inside a class, which engines read differently")
            return f"\\{char}"
        if char in "pP" and self._next() == "{":
            end = self.text.find("}", self.at) + 1 or len(self.text)
            name, self.at = self.text[self.at : end], end
            return f"\\{char}{name}"
        return self._character_escape(char)

    def _character_escape(self, char: str) -> str:
        if char in _CONTROLS and not (char == "0" and self._next().isdigit()):
            return _CONTROLS[char]
        if char in "xu":
            digits = self.text[self.at : self.at + (2 if char == "x" else 4)]
            self.at += len(digits)
            if len(digits) != (2 if char == "x" else 4) or not all(d in "0123456789abcdefABCDEF" for d in digits):
                raise PatternError(f"has \\{char}{digits}, which is not a character")
            if 0xD800 <= int(digits, 16) <= 0xDFFF:
                raise PatternError(f"has \\u{digits}, half of a character")
            return _literal(chr(int(digits, 16)))
        if char.isalnum():
            raise PatternError(f"has \\{char}, which no automaton can hold (a boundary, a back-reference or unknown)")
        return _literal(char)


def _literal(char: str) -> str:
    if char < " " or char == "\x7f":
        return f"\\x{ord(char):02x}"
    return f"\\{char}" if char in _SPECIAL and char not in "\"'/ " else char


@functools.cache
def byte_tokenizer() -> LLTokenizer:
    """One token a byte, and an end."""
    import llguidance

    class Bytes:
        """What llguidance's TokenizerWrapper asks of a tokenizer."""

        eos_token_id = 256
        bos_token_id = None
        tokens: Sequence[bytes] = [bytes([i]) for i in range(256)] + [b"<end>"]
        special_token_ids: Sequence[int] = [256]

        def __call__(self, text: bytes | str) -> list[int]:
            return list(text if isinstance(text, bytes) else text.encode())

    return llguidance.LLTokenizer(llguidance.TokenizerWrapper(Bytes()))


@functools.lru_cache(maxsize=128)
def _matcher(schema: str) -> LLMatcher:
    from llguidance import LLMatcher

    return LLMatcher(byte_tokenizer(), LLMatcher.grammar_from_json_schema(schema))


def why_empty(schema: dict[str, Any]) -> str | None:
    """llguidance's reason why it cannot write any value of this schema of one string or number; None if it can."""
    from llguidance import LLMatcher

    failed, messages = LLMatcher.validate_grammar_with_warnings(LLMatcher.grammar_from_json_schema(schema))
    return " ".join(messages[0].split())[:300] if failed else None


def matches(schema: dict[str, Any], text: str) -> bool:
    """Whether a string schema (`pattern`, `format`, lengths) allows this text."""
    matcher = _matcher(json.dumps(schema, sort_keys=True)).deep_copy()
    quoted = json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")  # as llguidance wants it written
    encoded = list(quoted.encode("utf-8", "surrogatepass"))
    return matcher.try_consume_tokens(encoded) == len(encoded) and matcher.is_accepting()
