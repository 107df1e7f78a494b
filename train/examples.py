"""Training lines in memory: tools, what was said, and the calls to learn."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from toolace_edge.errors import DataError, InputError
from toolace_edge.messages import Message, Tool, ToolCall

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
    """Reads the JSONL form of the OpenAI / TRL tool-calling data, gzip or plain.

    Raises DataError with the line number.
    """
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield example_from(json.loads(line), str(number))
            except InputError as error:
                raise DataError(str(path), number, f"not a training line ({error})") from error
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DataError(str(path), number, f"not a training line ({type(error).__name__}: {error})") from error


def example_from(record: Mapping[str, Any], number: str = "") -> Example:
    """One parsed line; without an id of its own its `number` is that.

    Arguments are put into the order of the tool's properties, in which a grammar writes them.
    """
    tools = tuple(_tool(entry["function"]) for entry in record["tools"])
    by_name = {tool.name: tool for tool in tools}
    messages = tuple(_message(entry, by_name) for entry in record["messages"])
    if not messages or messages[-1].role != "assistant":
        raise ValueError("the last message must be the assistant's answer")
    name = str(record.get("id", number))
    return Example(record.get("source", "user"), tools, messages[:-1], messages[-1].calls, name)


def as_openai(tool: Tool) -> dict[str, Any]:
    """A tool as OpenAI's lines and servers have it."""
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}


def _tool(function: Mapping[str, Any]) -> Tool:
    return Tool(function["name"], function.get("description") or "", function["parameters"])


def _message(entry: Mapping[str, Any], by_name: Mapping[str, Tool]) -> Message:
    message = Message.of(entry)
    calls = (replace(call, arguments=ordered(call.arguments, by_name.get(call.name))) for call in message.calls)
    return replace(message, calls=tuple(calls))


def ordered(arguments: Mapping[str, Any], tool: Tool | None) -> dict[str, Any]:
    """The same arguments in the order of the tool's schema."""
    return dict(arguments if tool is None else in_schema_order(dict(arguments), tool.parameters))


def in_schema_order(value: Any, schema: Any) -> Any:
    """`value` with the keys of its objects in the order of the schema's properties, as a grammar has them written."""
    if not isinstance(schema, Mapping):
        return value
    if isinstance(value, list):
        return [in_schema_order(item, schema.get("items")) for item in value]
    if not isinstance(value, Mapping):
        return value
    properties = schema.get("properties") or {}
    place = {name: i for i, name in enumerate(properties)}
    names = sorted(value, key=lambda name: place.get(name, len(place)))
    return {name: in_schema_order(value[name], properties.get(name)) for name in names}


def name_words(name: str) -> list[str]:
    """The words of a name as they stand in it: `getHTMLPage_2` is get, HTML, Page, 2."""
    return _WORD.findall(name)


def flat_name(name: str) -> str:
    """A name without case and punctuation: `getWeather` and `get_weather` are one."""
    return "".join(ch for ch in name.lower() if ch.isalnum())
