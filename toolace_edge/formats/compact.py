"""`compact`: what our own models read and write. Tools are short typed signatures, calls are compact JSON.

    <|begin|>                                     once, first
    <|tool|>get_weather: Get the weather.         one block a tool; the name, then its description
    city string: Name of the city                 one line a parameter, in the order in which it is written
    unit? "c"|"f" = "c": Unit                     `?` may be left out; `= x` its default; types as TypeScript would put them
    <|system|>text  <|user|>text                  the conversation
    <|call|>{"name":"f","arguments":{"a":1}}<|call|>{...}<|end|>      an answer that calls
    <|text|>words<|end|>                          an answer that does not
    <|result|>text                                what a tool returned
    <|refine|>                                    after an answer: write it once more
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from toolace_edge.messages import Tool

BEGIN, END, TOOL, SYSTEM, USER = "<|begin|>", "<|end|>", "<|tool|>", "<|system|>", "<|user|>"
TEXT, CALL, RESULT, REFINE = "<|text|>", "<|call|>", "<|result|>", "<|refine|>"
SPECIAL_TOKENS = ("<|pad|>", BEGIN, END, TOOL, SYSTEM, USER, TEXT, CALL, RESULT, REFINE)
SPECIAL_TOKENS += tuple(f"<|r{i}|>" for i in range(16 - len(SPECIAL_TOKENS)))

_SHORT = {"integer": "int", "boolean": "bool"}


def compact_json(value: Any) -> str:
    """JSON without a space more than it needs, non-ASCII letters as themselves."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def render_tool(tool: Tool) -> str:
    """A tool's block without its marker: `name: description`, then a line a parameter."""
    lines = [tool.name + (f": {_one_line(tool.description)}" if tool.description else "")]
    lines += _parameter_lines(tool.parameters)
    return "\n".join(lines)


def _parameter_lines(parameters: Mapping[str, Any]) -> list[str]:
    required = set(parameters.get("required", ()))
    lines = []
    for name, schema in parameters.get("properties", {}).items():
        line = f"{name}{'' if name in required else '?'} {render_type(schema)}"
        if "default" in schema:
            line += f" = {compact_json(schema['default'])}"
        if schema.get("description"):
            line += f": {_one_line(schema['description'])}"
        lines.append(line)
    return lines


def _one_line(text: str) -> str:
    return " ".join(text.split())


def render_type(schema: Mapping[str, Any] | bool) -> str:
    """The type of one value, as short as it can be said: `int 1..10`, `string[]`, `"a"|"b"`, `{x int, y? int}`."""
    if isinstance(schema, bool) or not schema:
        return "any"
    if "const" in schema:
        return compact_json(schema["const"])
    if "enum" in schema:
        return "|".join(compact_json(value) for value in schema["enum"])
    for keyword in ("anyOf", "oneOf", "allOf"):
        if keyword in schema:
            return ("&" if keyword == "allOf" else "|").join(render_type(part) for part in schema[keyword])
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    kind = schema.get("type", "any")
    if isinstance(kind, list):
        return "|".join(render_type({**schema, "type": one}) for one in kind)
    if kind == "array":
        return _array_type(schema)
    if kind == "object":
        return _object_type(schema)
    return _SHORT.get(kind, kind) + _bounds(schema)


def _array_type(schema: Mapping[str, Any]) -> str:
    if "prefixItems" in schema:
        return "[" + ", ".join(render_type(part) for part in schema["prefixItems"]) + "]"
    inner = render_type(schema.get("items", {}))
    return (f"({inner})" if "|" in inner or " " in inner else inner) + "[]"


def _object_type(schema: Mapping[str, Any]) -> str:
    properties = schema.get("properties")
    if not properties:
        return "object"
    required = set(schema.get("required", ()))
    fields = (f"{name}{'' if name in required else '?'} {render_type(part)}" for name, part in properties.items())
    return "{" + ", ".join(fields) + "}"


def _bounds(schema: Mapping[str, Any]) -> str:
    if "format" in schema:
        return f" {schema['format']}"
    if "pattern" in schema:
        return f" /{schema['pattern']}/"
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None or high is not None:
        return f" {'' if low is None else low}..{'' if high is None else high}"
    return ""
