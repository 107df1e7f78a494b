"""Training lines in memory: tools, what was said, and the calls to learn."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from toolace_edge import examples as data_files
from toolace_edge.errors import DataError
from toolace_edge.messages import Message, Tool, ToolCall
from toolace_edge.validate import check

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


@dataclass(frozen=True, slots=True)
class Example:
    """One line: `calls` is the answer to `messages`, empty where no tool should be called."""

    source: str
    tools: tuple[Tool, ...]
    messages: tuple[Message, ...]
    calls: tuple[ToolCall, ...]
    id: str = ""

    @property
    def request(self) -> str:
        """The text of the last user turn."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")

    @property
    def gold_tools(self) -> tuple[Tool, ...]:
        """The tools that the answer calls, in the order of `tools`."""
        names = {call.name for call in self.calls}
        return tuple(tool for tool in self.tools if tool.name in names)


def read_examples(path: Path) -> Iterator[Example]:
    """The lines of a file as the runtime reads them, their tools as it shows them.

    Raises DataError with the line number, for tools that the runtime refuses too.
    """
    for line in data_files.read_examples(path):
        if line.refused is not None:
            raise DataError(str(path), line.line, f"{line.refused}.")
        yield of_line(line)


def of_line(line: data_files.Example) -> Example:
    """A line as training has it: arguments in the order of the tool's properties, as a grammar writes them."""
    by_name = {tool.name: tool for tool in line.tools}
    messages = tuple(replace(one, calls=_ordered_calls(one.calls, by_name)) for one in line.messages)
    return Example(line.group, line.tools, messages, _ordered_calls(line.gold, by_name), line.id)


def _ordered_calls(calls: Sequence[ToolCall], by_name: Mapping[str, Tool]) -> tuple[ToolCall, ...]:
    return tuple(replace(call, arguments=ordered(call.arguments, by_name.get(call.name))) for call in calls)


def as_openai(tool: Tool) -> dict[str, Any]:
    """A tool as OpenAI's lines and servers have it."""
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}


def ordered(arguments: Mapping[str, Any], tool: Tool | None) -> dict[str, Any]:
    """The same arguments in the order of the tool's schema."""
    return dict(arguments if tool is None else in_schema_order(dict(arguments), tool.parameters))


def in_schema_order(value: Any, schema: Any) -> Any:
    """`value` with the keys of its objects in the order of the schema's properties, as a grammar has them written."""
    if not isinstance(schema, Mapping):
        return value
    if "anyOf" in schema:  # the order is that of the alternative which the value obeys
        return in_schema_order(value, next((arm for arm in schema["anyOf"] if not check(arm, value)), None))
    if isinstance(value, list):
        heads = schema.get("prefixItems") or ()
        parts = (heads[i] if i < len(heads) else schema.get("items") for i in range(len(value)))
        return [in_schema_order(item, part) for item, part in zip(value, parts, strict=True)]
    if not isinstance(value, Mapping):
        return value
    properties = schema.get("properties") or {}
    place = {name: i for i, name in enumerate(properties)}
    names = sorted(value, key=lambda name: place.get(name, len(place)))
    free = schema.get("additionalProperties")
    return {name: in_schema_order(value[name], properties.get(name, free)) for name in names}


def name_words(name: str) -> list[str]:
    """The words of a name as they stand in it: `getHTMLPage_2` is get, HTML, Page, 2."""
    return _WORD.findall(name)


def flat_name(name: str) -> str:
    """A name without case and punctuation: `getWeather` and `get_weather` are one."""
    return "".join(ch for ch in name.lower() if ch.isalnum())
