"""What makes one line many: descriptions dropped, names written in another style, and drafts to refine.

ToolACE-R (arXiv 2504.01400) builds refinement pairs from the model's own first answer and the gold one, and keeps the
pairs where both agree. Until a model exists to draft, `corrupt` makes the mistakes that small models make.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from toolace_edge.messages import Tool, ToolCall

from .examples import name_words, ordered


@dataclass(frozen=True, slots=True)
class Restyled:
    """A tool as a row shows it; `names` are its arguments' new names by their old ones."""

    tool: Tool
    names: Mapping[str, str]

    def call(self, call: ToolCall) -> ToolCall:
        """A call of the old tool in the new names, and in their order."""
        arguments = {self.names.get(key, key): value for key, value in call.arguments.items()}
        return ToolCall(self.tool.name, ordered(arguments, self.tool))


def restyle(tools: Sequence[Tool], rng: random.Random, *, keep_descriptions: float) -> list[Restyled]:
    """The same tools, some of their names in another case style, each description kept with the given probability."""
    restyled: list[Restyled] = []
    taken = {tool.name for tool in tools}
    for tool in tools:
        new, names = _restyle_tool(tool, rng, keep_descriptions)
        if new.name != tool.name and new.name in taken:
            new = Tool(tool.name, new.description, new.parameters)
        taken.add(new.name)
        restyled.append(Restyled(new, names))
    return restyled


def _restyle_tool(tool: Tool, rng: random.Random, keep: float) -> tuple[Tool, dict[str, str]]:
    rename = rng.random() < 0.25
    properties, renamed = {}, {}
    style = rng.choice(("snake", "camel", "flat"))
    items = list(tool.parameters.get("properties", {}).items())
    if rng.random() < 0.3:
        rng.shuffle(items)
    taken = {key for key, _ in items}
    for key, schema in items:
        new = _styled(key, style) if rename else key
        new = key if new in taken or not new else new
        taken.add(new)
        renamed[key] = new
        properties[new] = schema if rng.random() < keep else _bare(schema)
    required = [renamed[key] for key in tool.parameters.get("required", ()) if key in renamed]
    parameters = {"type": "object", "properties": properties, "required": required}
    name = _styled(tool.name, rng.choice(("snake", "camel", "pascal"))) if rng.random() < 0.2 else tool.name
    described = rng.random() < 0.5 + 0.5 * keep
    return Tool(name[:64] or tool.name, _shorter(tool.description) if described else "", parameters), renamed


def _bare(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key not in ("description", "default")}


def _shorter(text: str) -> str:
    return text if len(text) <= 160 else text[:160].rsplit(" ", 1)[0]


def _styled(name: str, style: str) -> str:
    if not name.isascii():  # its words cannot be told apart by case
        return name
    words = [word.lower() for word in name_words(name)]
    if style == "snake":
        return "_".join(words)
    if style == "flat":
        return "".join(words)
    joined = "".join(word.capitalize() for word in words)
    return joined if style == "pascal" else joined[:1].lower() + joined[1:]


def corrupt(calls: Sequence[ToolCall], tools: Sequence[Tool], request: str, rng: random.Random) -> tuple[ToolCall, ...]:
    """A draft with one mistake: another tool or value, an argument lost, a call lost or doubled, or no call at all."""
    if not calls:
        return (_guess(rng.choice(list(tools)), request, rng),) if tools else ()
    calls = list(calls)
    kind = rng.random()
    i = rng.randrange(len(calls))
    if kind < 0.12:
        return ()
    if kind < 0.3 and len(tools) > 1:
        other = rng.choice([tool for tool in tools if tool.name != calls[i].name] or list(tools))
        calls[i] = _guess(other, request, rng)
    elif kind < 0.42 and len(calls) > 1:
        del calls[i]
    elif kind < 0.5:
        calls.insert(i, calls[i])
    else:
        calls[i] = _spoil(calls[i], tools, request, rng)
    return tuple(calls)


def _guess(tool: Tool, request: str, rng: random.Random) -> ToolCall:
    properties = tool.parameters.get("properties", {})
    required = set(tool.parameters.get("required", ()))
    return ToolCall(
        tool.name, {k: _value(v, request, rng) for k, v in properties.items() if k in required or rng.random() < 0.2}
    )


def _spoil(call: ToolCall, tools: Sequence[Tool], request: str, rng: random.Random) -> ToolCall:
    tool = next((tool for tool in tools if tool.name == call.name), None)
    properties = tool.parameters.get("properties", {}) if tool else {}
    required = set(tool.parameters.get("required", ())) if tool else set()
    arguments = dict(call.arguments)
    optional = [key for key in arguments if key not in required]
    absent = [key for key in properties if key not in arguments]
    kind = rng.random()
    if optional and kind < 0.2:
        del arguments[rng.choice(optional)]
    elif absent and kind < 0.45:
        key = rng.choice(absent)
        arguments[key] = _value(properties[key], request, rng)
    elif arguments:
        key = rng.choice(list(arguments))
        arguments[key] = _value(properties.get(key, {}), request, rng)
    return ToolCall(call.name, ordered(arguments, tool))


def _value(schema: Mapping[str, Any], request: str, rng: random.Random) -> Any:
    """A plausible wrong value: a number or a few words out of the request."""
    if schema.get("enum"):
        return rng.choice(schema["enum"])
    kind = schema.get("type")
    numbers = re.findall(r"\d+(?:\.\d+)?", request) or ["1"]
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "integer":
        return int(float(rng.choice(numbers)))
    if kind == "number":
        number = float(rng.choice(numbers))
        return int(number) if number.is_integer() else number
    if kind == "array":
        return [_value(schema.get("items") or {}, request, rng) for _ in range(rng.randint(1, 3))]
    if kind == "object":
        return {key: _value(part, request, rng) for key, part in schema.get("properties", {}).items()}
    words = request.split() or ["it"]
    start = rng.randrange(len(words))
    return " ".join(words[start : start + rng.choice((1, 1, 2, 3))]).strip(".,?!\"'")
