"""One value's grammar: a bounded schema becomes llguidance Lark rules, in the JSON or in the Python way of writing.

Strings and numbers with bounds are left to llguidance's own `%json`, which knows lengths, patterns, formats, ranges
and escapes; all around them (objects, arrays, alternatives, literals) is written here, because models differ in
separators and in `True` or `true`. A string is the same in both: JSON's escapes without `\\/` and `\\u` mean the same
in Python, and without `\\u` nobody can write half a surrogate pair.

llguidance's lexer takes the longest lexeme, so no two lexemes that may stand at the same place begin alike and end
apart: a comma is always its own, a key always ends with its colon.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from toolace_edge.formats.base import Limits
from toolace_edge.formats.bounds import Node

_LEAF_OPTIONS = {"whitespace_flexible": False, "json_allowed_escapes": 'nrbtf\\"'}
_TAG = re.compile(r"<(?=\||[^<>\s]+>)")  # where <|end|> begins, or <tool_call>
_FREE_KEY_CHAR = r"[^\"\\\x00-\x1f\x7f]"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a family writes values: the separators, and how a literal looks."""

    comma: str
    colon: str
    true: str = "true"
    false: str = "false"
    null: str = "null"

    def literal(self, value: Any) -> str:
        """The value's one spelling. ValueError for NaN and infinity, TypeError for what JSON cannot say at all."""
        if value is None or isinstance(value, bool):
            return self.null if value is None else self.true if value else self.false
        if isinstance(value, dict):
            return "{" + self.comma.join(f"{quote(k)}{self.colon}{self.literal(v)}" for k, v in value.items()) + "}"
        if isinstance(value, list | tuple):
            return "[" + self.comma.join(map(self.literal, value)) + "]"
        return quote(value) if isinstance(value, str) else json.dumps(value, allow_nan=False)


def quote(text: str) -> str:
    """A string literal that JSON and Python read alike."""
    if not isinstance(text, str):
        raise TypeError(f"the key {text!r} of an object is not text")
    return json.dumps(text, ensure_ascii=False)


COMPACT_JSON = Dialect(",", ":")
SPACED_JSON = Dialect(", ", ": ")
PYTHON = Dialect(", ", ": ", "True", "False", "None")


def lark_string(text: str) -> str:
    """A Lark string literal that matches this text."""
    return json.dumps(text)


def harmless(literal: str) -> str:
    """The same JSON or Python literal, spelled so that no part of it is a control token such as <|end|>.

    A literal of a schema may be forced, and forced text is tokenized as a whole, with control tokens recognised.
    """
    return _TAG.sub(r"\\u003c", literal)


@dataclass(slots=True)
class Rules:
    """Collects rules; the same node gets the same rule, so a hundred tools with string parameters share one."""

    dialect: Dialect
    limits: Limits
    _names: dict[str, str] = field(default_factory=dict)
    _lines: list[str] = field(default_factory=list)

    def text(self, start: Iterable[str]) -> str:
        """The whole grammar: the given rules, then the collected ones."""
        return "\n".join([*start, *self._lines]) + "\n"

    def rule(self, body: str) -> str:
        return self._named("r", body)

    def terminal(self, body: str) -> str:
        return self._named("T", body)

    def _named(self, kind: str, body: str) -> str:
        name = self._names.get(kind + body)
        if name is None:
            name = self._names[kind + body] = f"{kind}{len(self._names)}"
            self._lines.append(f"{name}: {body}")
        return name

    def value(self, node: Node) -> str:
        """The name of the rule of one value."""
        if "enum" in node:
            literals = (lark_string(harmless(self.dialect.literal(value))) for value in node["enum"])
            return self.terminal(" | ".join(dict.fromkeys(literals)))
        if "anyOf" in node:
            return self.rule(" | ".join(dict.fromkeys(map(self.value, node["anyOf"]))))
        kind = node["type"]
        if kind == "null":
            return self.terminal(lark_string(self.dialect.null))
        if kind == "boolean":
            return self.terminal(f"{lark_string(self.dialect.true)} | {lark_string(self.dialect.false)}")
        if kind == "array":
            return self._array(node)
        if kind == "object":
            return self.rule(f'"{{" {self.members(node, lambda name: harmless(quote(name)) + self.dialect.colon)} "}}"')
        return self._string_or_number(node)

    def _string_or_number(self, node: Node) -> str:
        whole = f"[1-9][0-9]{{0,{self.limits.max_digits - 1}}}"
        open_ended = "maximum" not in node and "exclusiveMaximum" not in node
        if node["type"] == "integer" and open_ended:
            low = node.get("minimum")
            return self.terminal(f"/{whole}/" if low == 1 else f"/0|{whole}/" if low == 0 else f"/0|-?{whole}/")
        if node["type"] == "number" and open_ended and not {"exclusiveMinimum", "multipleOf"} & node.keys():
            tail = rf"(\.[0-9]{{1,{self.limits.max_decimals}}})?([eE][+\-]?[0-9]{{1,2}})?"
            return self.terminal(f"/{'' if node.get('minimum') == 0 else '-?'}(0|{whole}){tail}/")
        return self.rule("%json " + json.dumps({**node, "x-guidance": _LEAF_OPTIONS}))

    def _array(self, node: Node) -> str:
        comma, prefix, least = lark_string(self.dialect.comma), node.get("prefixItems", ()), node["minItems"]
        body = ""
        if node["items"] and node["maxItems"] > len(prefix):
            item, low, high = self.value(node["items"]), max(0, least - len(prefix)), node["maxItems"] - len(prefix)
            body = f"({comma} {item}){{{low},{high}}}"
            if not prefix:
                first = f"{item} ({comma} {item}){{{max(0, low - 1)},{high - 1}}}" if high > 1 else item
                body = first if low else f"({first})?"
        for i in reversed(range(min(len(prefix), node["maxItems"]))):
            one = self.value(prefix[i])
            body = f"{comma if i else ''} {one} {body}" if i < least else f"({comma if i else ''} {one} {body})?"
        return self.rule(f'"[" {body} "]"')

    def members(
        self,
        node: Node,
        key: Callable[[str], str],
        close: Callable[[str], str] = lambda name: "",
        around_free: tuple[str, str] = ("", ""),
    ) -> str:
        """The inside of an object or of an argument list: properties in their order, each optional one or not, then
        free names. `key` writes what stands before a value, `close` what stands behind it; `around_free` stands around
        a free name and its value."""
        comma, required = lark_string(self.dialect.comma), set(node["required"])
        parts = []
        for name, part in node["properties"].items():
            end = lark_string(close(name)) if close(name) else ""
            parts.append((f"{lark_string(key(name))} {self.value(part)} {end}".rstrip(), name))
        free = self._free_member(node, *around_free) if node["additionalProperties"] and node["maxProperties"] else ""
        tail = f"({comma} {free}){{0,{node['maxProperties']}}}" if free else ""
        starts = []  # the alternatives for what is written first
        if free:
            starts.append(f"{free} ({comma} {free}){{0,{node['maxProperties'] - 1}}}")
        for part_text, name in reversed(parts):
            if name in required:
                starts = []
            starts.append(f"{part_text} {tail}")
            tail = self.rule(f"{comma} {part_text} {tail}" if name in required else f"({comma} {part_text})? {tail}")
        starts = [self.rule(start) for start in reversed(starts)]
        if not starts:
            return ""
        may_be_empty = not required and not node["minProperties"]
        return f"({' | '.join(starts)}){'?' if may_be_empty else ''}"

    def _free_member(self, node: Node, before: str, behind: str) -> str:
        colon, taken = self.dialect.colon, [before + quote(name) + self.dialect.colon for name in node["properties"]]
        body = rf"/{re.escape(before)}\"{_FREE_KEY_CHAR}{{1,{self.limits.max_key}}}\"{colon}/"
        if taken:
            body += f" & ~({' | '.join(map(lark_string, taken))})"
        end = lark_string(behind) if behind else ""
        return self.rule(f"{self.terminal(body)} {self.value(node['additionalProperties'])} {end}".rstrip())


def sequence(comma: str, items: Sequence[str], most: int) -> str:
    """`most` items at most, one at least, of these alternatives."""
    one = f"({' | '.join(items)})"
    return f"{one} ({comma} {one}){{0,{most - 1}}}" if most > 1 else one
