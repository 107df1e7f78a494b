"""`compact`: what our own models read and write. Tools are short typed signatures, calls are compact JSON.

    <|begin|>                                     once, first
    <|tool|>get_weather: Get the weather.         one block a tool; the name, then its description
    city string: Name of the city                 one line a parameter, in the order in which it is written
    unit? "c"|"f" = "c": Unit                     `?` may be left out; `= x` its default; types as in TypeScript
    <|system|>text  <|user|>text                  the conversation
    <|call|>{"name":"f","arguments":{"a":1}}<|call|>{...}<|end|>      an answer that calls
    <|text|>words<|end|>                          an answer that does not
    <|result|>text                                what a tool returned
    <|refine|>                                    after an answer: write it once more

Arguments stand in the order of the tool's properties.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from toolace_edge.errors import FormatError
from toolace_edge.formats import answers
from toolace_edge.formats.base import Limits, Piece, Rendered, ToolChoice
from toolace_edge.formats.bounds import bound_schema
from toolace_edge.formats.values import COMPACT_JSON, Rules, lark_string, quote
from toolace_edge.messages import Message, Tool, ToolCall

BEGIN, END, TOOL, SYSTEM, USER = "<|begin|>", "<|end|>", "<|tool|>", "<|system|>", "<|user|>"
TEXT, CALL, RESULT, REFINE = "<|text|>", "<|call|>", "<|result|>", "<|refine|>"
SPECIAL_TOKENS: tuple[str, ...] = ("<|pad|>", BEGIN, END, TOOL, SYSTEM, USER, TEXT, CALL, RESULT, REFINE)
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
    return str(_SHORT.get(kind, kind)) + _bounds(schema)


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


class Compact:
    """The Format of our own models."""

    name = "compact"
    end = END

    def render(self, tools: Sequence[Tool], messages: Sequence[Message]) -> Rendered:
        prefix = [Piece(BEGIN, special=True)]
        for tool in tools:
            prefix += [Piece(TOOL, special=True), Piece(render_tool(tool))]
        rest: list[Piece] = []
        markers = {"system": SYSTEM, "user": USER, "tool": RESULT}
        for message in messages:
            if message.role == "assistant":
                if message.calls and message.content.strip():  # what was said before the calls is an answer of its own
                    rest += self.render_answer((), message.content)
                rest += self.render_answer(message.calls, message.content)
            else:
                rest += [Piece(markers[message.role], special=True), Piece(message.content)]
        return Rendered(tuple(prefix), tuple(rest))

    def render_answer(self, calls: Sequence[ToolCall], text: str) -> tuple[Piece, ...]:
        pieces = [] if calls else [Piece(TEXT, special=True), Piece(text)]
        for call in calls:
            body = f'{{"name":{quote(call.name)},"arguments":{COMPACT_JSON.literal(dict(call.arguments))}}}'
            pieces += [Piece(CALL, special=True), Piece(body)]
        return (*pieces, Piece(END, special=True))

    def refine_turn(self) -> tuple[Piece, ...]:
        return (Piece(REFINE, special=True),)

    def lark(self, tools: Sequence[Tool], choice: ToolChoice, limits: Limits) -> str:
        rules = Rules(COMPACT_JSON, limits)
        bodies = []
        for path, tool in choice.select(tools):
            arguments = rules.value(bound_schema(tool.parameters, limits, path))
            opening = lark_string(f'{{"name":{quote(tool.name)},"arguments":')
            bodies.append(rules.rule(f'{opening} {arguments} "}}"'))
        answers_: list[str] = []
        if bodies:
            answers_.append(f"({CALL} ({' | '.join(bodies)})){{1,{limits.max_calls}}}")
        if choice.allows_text:
            answers_.append(f"{TEXT} {answers.text_rule(rules)}")
        return rules.text([f"start: ({' | '.join(answers_)}) {END}"])

    def parse(self, tools: Sequence[Tool], answer: str | bytes) -> tuple[tuple[ToolCall, ...], str]:
        whole = answers.decoded(answer).removesuffix(END)
        if whole.startswith(TEXT):
            return (), whole.removeprefix(TEXT)
        calls, at = [], 0
        while at < len(whole):
            if not whole.startswith(CALL, at):
                raise FormatError(f"compact: {CALL} expected at character {at} of {whole[:200]!r}.")
            call, at = answers.json_call(whole, at + len(CALL))
            calls.append(call)
        if not calls:
            raise FormatError(f"compact: an answer begins with {CALL} or {TEXT}; this one is empty.")
        return tuple(calls), ""
