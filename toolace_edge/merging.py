"""The intersection of two schemas, for `$ref` with siblings, `allOf`, and `anyOf` beside other keywords.

Works on nodes as dialects.translate writes them (`type` a list, `const` an enum of one, `patterns` a list), with
subschemas in the same form. Objects are still open here: an absent `additionalProperties` allows every name, so that
the properties of one part are not forbidden by another. A property that is False may not be given.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import gcd
from typing import Any

from toolace_edge.dialects import Node
from toolace_edge.errors import SchemaError
from toolace_edge.validate import exact, same_json

MAX_COMBINATIONS = 1024  # of alternatives, where several lists of them hold at once

_LARGER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_NOTES = ("description", "default")
_SMALLER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")


class EmptyError(SchemaError):
    """No value satisfies this schema."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.reason = reason


def attempt(step: Callable[..., Node], *arguments: Any) -> Node | EmptyError:
    """The step's node, or the error that says why it would be empty."""
    try:
        return step(*arguments)
    except EmptyError as error:
        return error


def merge(one: Node, other: Node, path: str) -> Node:
    """What both allow. Raises EmptyError where that is provably nothing."""
    if "anyOf" in one or "anyOf" in other:
        return _merge_alternatives(one, other, path)
    node = {**other, **one}
    for keys, choose in ((_LARGER, max), (_SMALLER, min)):
        node |= {key: choose(one[key], other[key]) for key in keys if key in one and key in other}
    if "type" in one and "type" in other:
        node["type"] = _merge_types(one["type"], other["type"], path)
    if "enum" in one and "enum" in other:
        node["enum"] = [value for value in one["enum"] if any(same_json(value, also) for also in other["enum"])]
        if not node["enum"]:
            raise EmptyError(f"{path}.enum", "no value is in both lists")
    if "by_format" in one and "by_format" in other:
        node["by_format"] = list(dict.fromkeys([*one["by_format"], *other["by_format"]]))
    if "patterns" in one and "patterns" in other:
        node["patterns"] = list(dict.fromkeys([*one["patterns"], *other["patterns"]]))
    if one.get("format") and other.get("format") and one["format"] != other["format"]:
        raise SchemaError(f"{path}.format", f"{one['format']} and {other['format']} together cannot be held")
    if "multipleOf" in one and "multipleOf" in other:
        node["multipleOf"] = _common_multiple(one["multipleOf"], other["multipleOf"], f"{path}.multipleOf")
    _merge_arrays(node, one, other, path)
    _merge_objects(node, one, other, path)
    return node


def _merge_alternatives(one: Node, other: Node, path: str) -> Node:
    notes: Node = {key: node[key] for node in (other, one) for key in _NOTES if key in node}
    if (count := len(_alternatives(one)) * len(_alternatives(other))) > MAX_COMBINATIONS:
        raise SchemaError(path, f"combines {count} pairs of alternatives; {MAX_COMBINATIONS} are the limit")
    pairs = [attempt(merge, a, b, path) for a in _alternatives(one) for b in _alternatives(other)]
    branches = [
        alternative for pair in pairs if not isinstance(pair, EmptyError) for alternative in pair.get("anyOf", [pair])
    ]
    if not branches:
        raise next(pair for pair in pairs if isinstance(pair, EmptyError))
    return {**notes, "anyOf": branches} if len(branches) > 1 else {**branches[0], **notes}


def _alternatives(node: Node) -> list[Node]:
    """A node without `anyOf` is its only alternative; its notes are about the whole."""
    found: list[Node] = node.get("anyOf", [{key: value for key, value in node.items() if key not in _NOTES}])
    return found


def _merge_types(one: list[str], other: list[str], path: str) -> list[str]:
    both = [name for name in one if name in other or (name == "integer" and "number" in other)]
    both += [name for name in other if name == "integer" and "number" in one and name not in both]
    if not both:
        raise EmptyError(f"{path}.type", f"nothing is both {' or '.join(one)} and {' or '.join(other)}")
    return both


def _common_multiple(one: float, other: float, path: str) -> float:
    a, b = exact(one), exact(other)
    least = Fraction(a.numerator * b.numerator // gcd(a.numerator, b.numerator), gcd(a.denominator, b.denominator))
    if least > 2**53:
        raise SchemaError(path, f"{one} and {other} have no common multiple that a double holds exactly")
    return int(least) if least.denominator == 1 else float(least)


def _merge_arrays(node: Node, one: Node, other: Node, path: str) -> None:
    prefixes = [side.get("prefixItems", []) for side in (one, other)]
    length = max(map(len, prefixes))
    if length:
        node["prefixItems"] = [
            _merge_members(_item(one, i), _item(other, i), f"{path}.prefixItems[{i}]") for i in range(length)
        ]
    if "items" in one and "items" in other:
        node["items"] = _merge_members(one["items"], other["items"], f"{path}.items")


def _item(node: Node, index: int) -> Any:
    prefix = node.get("prefixItems", [])
    return prefix[index] if index < len(prefix) else node.get("items", True)


def _merge_objects(node: Node, one: Node, other: Node, path: str) -> None:
    names = [*one.get("properties", ()), *other.get("properties", ())]
    if names:
        node["properties"] = {
            name: _merge_members(_member(one, name), _member(other, name), f"{path}.properties.{name}")
            for name in names
        }
    if "required" in one and "required" in other:
        node["required"] = list(dict.fromkeys([*one["required"], *other["required"]]))
    if "additionalProperties" in one and "additionalProperties" in other:
        left, right = one["additionalProperties"], other["additionalProperties"]
        node["additionalProperties"] = _merge_members(left, right, f"{path}.additionalProperties")
    for name in node.get("required", ()):
        if _member(node, name) is False and node.get("type", ["object"]) == ["object"]:
            raise EmptyError(f"{path}.properties.{name}", "is required, yet no value of it is allowed")


def _member(node: Node, name: str) -> Any:
    return node.get("properties", {}).get(name, node.get("additionalProperties", True))


def _merge_members(one: Any, other: Any, path: str) -> Any:
    """Of subschemas, which may be booleans. What nothing satisfies becomes False: the member may be left out."""
    if one is False or other is False:
        return False
    if one is True or other is True:
        return other if one is True else one
    merged = attempt(merge, one, other, path)
    return False if isinstance(merged, EmptyError) else merged
