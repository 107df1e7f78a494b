"""A bounded schema: every value that fits it fits the tool's own schema, and none of its values is endless.

In comes what schema.py writes. Out comes a schema of fewer kinds of nodes, each with its bounds, which values.py turns
into grammar rules one by one:

    {"enum": [...]}   {"anyOf": [node, ...]}   {"type": "null" | "boolean"}
    {"type": "string", "minLength": ..., "maxLength": ..., pattern, format, allOf of patterns}
    {"type": "integer" | "number", ...}              without bounds: as many digits as Limits says
    {"type": "array", "items": node | False, "minItems": ..., "maxItems": ..., prefixItems}
    {"type": "object", "properties": {name: node}, "required": [...], "additionalProperties": node | False,
     "minProperties": 0 | 1, "maxProperties": ...}   the last two count the free names only

A value without a schema is any JSON value, nested `Limits.max_depth` deep.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from toolace_edge import patterns
from toolace_edge.errors import SchemaError
from toolace_edge.formats.base import Limits
from toolace_edge.validate import has_type

Node = dict[str, Any]

_SAFE = 2**53  # integers up to here are exact in every JSON reader, llguidance among them
_NOTES = frozenset(("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment"))
_NUMBER = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_KNOWN = frozenset(
    """type enum anyOf allOf minLength maxLength pattern format items prefixItems minItems maxItems
    properties required additionalProperties minProperties maxProperties""".split()
).union(_NUMBER, _NOTES)
_TYPES = ("string", "number", "integer", "boolean", "null", "array", "object")
_MAX_NESTING = 40
_READ = "Read tools with load_tools."


def bound_schema(schema: Mapping[str, Any], limits: Limits, path: str = "parameters") -> Node:
    """The bounded schema of a tool's arguments. SchemaError, with the keyword's path, for what cannot be held."""
    return _Bounder(limits).arguments(schema, path)


class _Bounder:
    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._any = any_value(limits, limits.max_depth)

    def arguments(self, schema: Mapping[str, Any], path: str) -> Node:
        """The top: one object; a tool of no properties takes no arguments, unless it describes free ones."""
        schema = _checked(schema, path)
        if schema.get("type", "object") != "object" or "anyOf" in schema or "enum" in schema:
            raise SchemaError(path, "arguments must be one plain object", hint="Move alternatives into a property.")
        if not isinstance(schema.get("additionalProperties"), Mapping):
            schema = {**schema, "additionalProperties": False}
        return self._object(schema, path, 0)

    def node(self, schema: Mapping[str, Any] | bool, path: str, depth: int) -> Node:
        if depth > _MAX_NESTING:
            raise SchemaError(path, f"is nested more than {_MAX_NESTING} deep")
        if schema is False:
            raise SchemaError(path, "is false: no value fits")
        schema = {} if schema is True else _checked(schema, path)
        if "enum" in schema:
            _check_alone(schema, {"enum", "type"}, path)
            for i, value in enumerate(schema["enum"]):
                if "type" in schema and not has_type(value, schema["type"]):
                    raise SchemaError(f"{path}.enum[{i}]", "is of another type", hint=_READ)
            return {"enum": list(schema["enum"])}
        if "anyOf" in schema:
            _check_alone(schema, {"anyOf"}, path)
            return _any_of([self.node(part, f"{path}.anyOf[{i}]", depth + 1) for i, part in enumerate(schema["anyOf"])])
        kinds = schema.get("type", [])
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if not kinds:
            _check_alone(schema, set(), path)
        for kind in kinds:
            if kind not in _TYPES:
                raise SchemaError(f"{path}.type", f"{kind!r} is not a type")
        return _any_of([self._typed(kind, schema, path, depth) for kind in kinds]) if kinds else self._any

    def _typed(self, kind: str, schema: Node, path: str, depth: int) -> Node:
        if kind == "string":
            return self._string(schema, path)
        if kind in ("integer", "number"):
            return self._integer(schema, path) if kind == "integer" else self._number(schema, path)
        if kind == "array":
            return self._array(schema, path, depth)
        return self._object(schema, path, depth) if kind == "object" else {"type": kind}

    def _string(self, schema: Node, path: str) -> Node:
        low = schema.get("minLength", 0)
        node: Node = {"type": "string", "minLength": low, "maxLength": max(self.limits.max_string, low)}
        node |= {key: schema[key] for key in ("maxLength", "pattern", "format", "allOf") if key in schema}
        return _proven(node, schema, path, ("pattern", "format", "allOf", "maxLength"))

    def _integer(self, schema: Node, path: str) -> Node:
        low = [math.ceil(schema[key]) for key in ("minimum",) if key in schema]
        low += [math.floor(schema[key]) + 1 for key in ("exclusiveMinimum",) if key in schema]
        high = [math.floor(schema[key]) for key in ("maximum",) if key in schema]
        high += [math.ceil(schema[key]) - 1 for key in ("exclusiveMaximum",) if key in schema]
        node: Node = {"type": "integer"}
        if "multipleOf" in schema:
            node["multipleOf"] = _step(schema, path)
        elif not high and (not low or max(low) in (0, 1)):
            return {**node, "minimum": max(low)} if low else node
        span = 10**self.limits.max_digits - 1
        node["minimum"] = max(low) if low else min(-span, min(high, default=0) - span)
        node["maximum"] = min(high) if high else max(span, node["minimum"] + span)
        if max(abs(node["minimum"]), abs(node["maximum"])) > _SAFE:
            raise SchemaError(path, f"allows integers beyond ±{_SAFE}, which are not exact; narrow minimum and maximum")
        return _proven(node, schema, path, _NUMBER)

    def _number(self, schema: Node, path: str) -> Node:
        bounds = {key: schema[key] for key in _NUMBER[:4] if key in schema}
        if not bounds and "multipleOf" not in schema:
            return {"type": "number"}
        if bounds == {"minimum": 0} and "multipleOf" not in schema:
            return {"type": "number", "minimum": 0}
        if "multipleOf" in schema:
            step = _step(schema, path)
        else:  # so few decimals that no value rounds onto a bound which it must not reach
            edge = max(abs(schema.get(key, 0)) for key in ("exclusiveMinimum", "exclusiveMaximum"))
            step = float(f"1e-{max(0, min(9, self.limits.max_decimals, 15 - len(str(int(edge)))))}")
        span = 10**self.limits.max_digits
        node: Node = {"type": "number", "multipleOf": step, "minimum": -span, "maximum": span}
        if "exclusiveMinimum" in bounds and "minimum" not in bounds:
            del node["minimum"]
        if "exclusiveMaximum" in bounds and "maximum" not in bounds:
            del node["maximum"]
        for key, value in bounds.items():  # beyond the span a bound is ours: llguidance's numbers end at 1e18
            node[key] = max(value, -span) if "inimum" in key else min(value, span)
        # llguidance lets a 0 (or -0) through that only an exclusive bound keeps out.
        if node.get("exclusiveMinimum") == 0:
            node["minimum"] = max(node.get("minimum", step), step)
        if node.get("exclusiveMaximum") == 0:
            node["maximum"] = min(node.get("maximum", -step), -step)
        for key in [key for key in _NUMBER[:4] if key.startswith("exclusive") and node.get(key) == 0]:
            del node[key]
        return _proven(node, schema, path, _NUMBER)

    def _array(self, schema: Node, path: str, depth: int) -> Node:
        prefix, least = schema.get("prefixItems", []), schema.get("minItems", 0)
        most = schema.get("maxItems", max(self.limits.max_items, least, len(prefix)))
        node: Node = {"type": "array", "items": False, "minItems": least, "maxItems": most}
        heads = [self.node(part, f"{path}.prefixItems[{i}]", depth + 1) for i, part in enumerate(prefix)]
        if heads:
            node["prefixItems"] = heads
        described = "items" in schema or not prefix or least > len(prefix)
        if described and most > len(prefix) and schema.get("items") is not False:
            node["items"] = self.node(schema.get("items", True), f"{path}.items", depth + 1)
        if not node["items"]:
            node["maxItems"] = min(most, len(prefix))
        if least > node["maxItems"]:
            raise SchemaError(f"{path}.minItems", f"is {least}, but there can be no more than {node['maxItems']} items")
        return node

    def _object(self, schema: Node, path: str, depth: int) -> Node:
        parts, required = schema.get("properties", {}), list(schema.get("required", ()))
        for name in required:
            if name not in parts:
                raise SchemaError(f"{path}.required", f"asks for {name!r}, which is not among the properties")
        node: Node = {"type": "object", "properties": {}, "required": required, "additionalProperties": False}
        node["properties"] = {
            name: self.node(part, f"{path}.properties.{name}", depth + 1) for name, part in parts.items()
        }
        free = schema.get("additionalProperties", not parts)
        if isinstance(free, Mapping) or (free and not parts):  # names that nobody described are not worth a choice
            node["additionalProperties"] = self.node(free, f"{path}.additionalProperties", depth + 1)
        least, most = schema.get("minProperties", 0), schema.get("maxProperties", self.limits.max_properties)
        if ("minProperties" in schema or "maxProperties" in schema) and (parts or not node["additionalProperties"]):
            raise SchemaError(f"{path}.properties", "how many properties are given cannot be held beside named ones")
        if least > 1:
            raise SchemaError(f"{path}.minProperties", f"is {least}; as a free name may repeat, only 1 can be held")
        return {**node, "minProperties": least, "maxProperties": most}


def any_value(limits: Limits, depth: int) -> Node:
    """What a value without a schema may be."""
    string = {"type": "string", "minLength": 0, "maxLength": limits.max_string}
    nodes: list[Node] = [string, {"type": "number"}, {"type": "boolean"}, {"type": "null"}]
    if depth > 0:
        inner = any_value(limits, depth - 1)
        array = {"type": "array", "items": inner, "minItems": 0, "maxItems": limits.max_items}
        free = {"additionalProperties": inner, "minProperties": 0, "maxProperties": limits.max_properties}
        nodes += [array, {"type": "object", "properties": {}, "required": [], **free}]
    return {"anyOf": nodes}


def _check_alone(schema: Node, known: set[str], path: str) -> None:
    """SchemaError for a keyword that schema.py would not leave beside these, as nothing here would hold it."""
    for key in schema:
        if key not in known:
            raise SchemaError(f"{path}.{key}", "cannot be held where it stands", hint=_READ)


def _any_of(nodes: list[Node]) -> Node:
    flat = [part for node in nodes for part in node.get("anyOf", [node])]
    return flat[0] if len(flat) == 1 else {"anyOf": flat}


def _checked(schema: Mapping[str, Any], path: str) -> Node:
    """Without notes, which never enter a grammar. SchemaError for a keyword that schema.py does not write."""
    for key in schema:
        if key not in _KNOWN:
            raise SchemaError(f"{path}.{key}", "cannot be held by a grammar", hint=_READ)
    return {key: value for key, value in schema.items() if key not in _NOTES}


def _step(schema: Node, path: str) -> float:
    """`multipleOf`, if programs agree about its multiples: 0.07 / 0.01 is not 7 in binary fractions."""
    step = schema["multipleOf"]
    if step > 0 and step == int(step):
        return int(step)
    if step <= 0 or step * 2**20 != int(step * 2**20):
        raise SchemaError(
            f"{path}.multipleOf",
            f"{step} is not exact in binary, so programs differ about its multiples",
            hint="Use an integer (cents, not euros), or a binary fraction such as 0.5.",
        )
    return float(step)


def _proven(node: Node, schema: Node, path: str, keywords: tuple[str, ...]) -> Node:
    """The node, once llguidance has shown that it has values; SchemaError at its first keyword otherwise."""
    told = [key for key in keywords if key in schema]
    if told and (reason := patterns.why_empty(node)):
        raise SchemaError(f"{path}.{told[0]}", f"cannot be held: {reason}")
    return node
