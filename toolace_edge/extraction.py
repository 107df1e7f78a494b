"""A type or a schema as one tool to be called: what a text says comes back as a value of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from toolace_edge.annotations import as_annotated, schema_of
from toolace_edge.messages import Tool
from toolace_edge.schema import normalise, normalise_parameters
from toolace_edge.sources.base import shorten, valid_name

_MAX_DESCRIPTION = 400  # characters
_ONLY = "value"  # the one argument of a tool for what is no object


@dataclass(frozen=True, slots=True)
class Target:
    """The tool, and what makes the value from its arguments."""

    tool: Tool
    build: Callable[[Mapping[str, Any]], Any]


def target_of(model: Any) -> Target:
    """An annotation of those in annotations.py, pydantic models among them, or a JSON schema. Raises ToolError."""
    name = valid_name(str(getattr(model, "__name__", "extract")))
    make: Callable[[Any], Any]
    if isinstance(model, Mapping):
        schema, make = dict(model), _as_it_is
        name = valid_name(str(schema.get("title", name)))
    else:
        schema, make = schema_of(model, name), partial(as_annotated, model)
    description = shorten(schema.get("description", ""), _MAX_DESCRIPTION)
    node = normalise(schema, name)
    free = not node.get("properties") and node.get("additionalProperties") is True  # a tool's own would be no names
    if node.get("type") == "object" and not free and "anyOf" not in node and "enum" not in node:
        return Target(Tool(name, description, normalise_parameters(schema, name)), lambda given: make(dict(given)))
    parameters = {"type": "object", "properties": {_ONLY: node}, "required": [_ONLY], "additionalProperties": False}
    return Target(Tool(name, description, parameters), lambda given: make(given[_ONLY]))


def _as_it_is(value: Any) -> Any:
    return value
