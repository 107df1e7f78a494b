"""A Python function as a tool: its signature and docstring become a name, a description and a schema.

    def set_timer(minutes: Annotated[int, "how long", {"minimum": 1}], label: str = "") -> str:
        "Set a timer."

Which annotations there are says annotations.py; descriptions also come from the docstring. A parameter without an
annotation is refused, as the model would not be told what to write (`Any` says that anything will do), and so are *args
and **kwargs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from toolace_edge.annotations import Schema, as_annotated, as_json, hints_of, is_model, schema_of
from toolace_edge.docstrings import read_docstring
from toolace_edge.errors import SchemaError, ToolError
from toolace_edge.messages import Tool
from toolace_edge.schema import normalise_parameters


def from_function(function: Callable[..., Any]) -> Tool:
    """The tool that a function is. Raises ToolError where its signature cannot be told to a model."""
    known = getattr(function, "tool", None)
    if isinstance(known, Tool):
        return known
    name = getattr(function, "__name__", "")
    if not name.replace("_", "").isalnum() or not name.isascii() or len(name) > 64:
        raise ToolError(f"{function!r:.80} has no usable name.", hint="Tools are made of named functions (def).")
    _check_runs(function, name)
    description, notes = read_docstring(function.__doc__)
    properties: Schema = {}
    required = []
    for parameter, annotation in _parameters_of(function, name):
        schema = schema_of(annotation, f"{name}({parameter.name})")
        if parameter.default is None:
            schema = _without_null(schema)
        if parameter.name in notes and ("description" not in schema or is_model(annotation)):
            schema["description"] = notes[parameter.name]
        if parameter.default is inspect.Parameter.empty:
            required.append(parameter.name)
        elif parameter.default is not None:
            schema["default"] = as_json(parameter.default)
        properties[parameter.name] = schema
    try:
        schema = normalise_parameters({"type": "object", "properties": properties, "required": required}, name)
    except SchemaError as error:
        raise ToolError(str(error), hint=error.hint) from None
    return Tool(name, description, schema)


def to_python(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments for the function, as its annotations name them. The arguments obey its schema."""
    hints = hints_of(function, getattr(function, "__name__", repr(function)))
    return {name: as_annotated(hints.get(name, Any), value) for name, value in arguments.items()}


def check_takes(function: Callable[..., Any], described: Tool) -> None:
    """ToolError where calls that obey the definition cannot be calls of the function."""
    _check_runs(function, described.name)
    hints_of(function, described.name)
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # some builtins do not tell
        return
    by_name = {one.name: one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    if not any(one.kind is one.VAR_KEYWORD for one in parameters):
        for name in described.parameters["properties"]:
            if name not in by_name:
                raise ToolError(f"{described.name}: the function takes no {name}, which the definition has.", hint="")
    needed = [one.name for one in parameters if one.default is one.empty and one.kind is one.POSITIONAL_ONLY]
    needed += [name for name, one in by_name.items() if one.default is one.empty]
    for name in needed:
        if name not in by_name or name not in described.parameters["required"]:
            raise ToolError(
                f"{described.name}: the function needs {name}, which the definition does not require.",
                hint="Give the parameter a default, or add it to the definition's `required`.",
            )


def _check_runs(function: Callable[..., Any], name: str) -> None:
    """ToolError for a generator: calling it does nothing yet."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ToolError(f"{name} yields, so a call of it has no result.", hint="Return a list instead.")


def _parameters_of(function: Callable[..., Any], name: str) -> list[tuple[inspect.Parameter, Any]]:
    """Each parameter with its annotation, evaluated. Raises ToolError for what cannot be given by name."""
    hints = hints_of(function, name)
    found = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
            raise ToolError(f"{name}: {stars}{parameter.name} has no schema.", hint="Name each parameter.")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise ToolError(f"{name}: {parameter.name} cannot be given by name.", hint="Remove the `/`.")
        if parameter.name not in hints:
            raise ToolError(
                f"{name}: {parameter.name} has no annotation, so the model is not told what to write.",
                hint=f"Write `{parameter.name}: str`, or what it is; `Any` takes every JSON value.",
            )
        found.append((parameter, hints[parameter.name]))
    return found


def _without_null(schema: Schema) -> Schema:
    """A parameter that is None by default is left out, not given as null."""
    rest = dict(schema)
    if isinstance(schema.get("type"), list):
        kept = [name for name in schema["type"] if name != "null"]
        rest["type"] = kept[0] if len(kept) == 1 else kept
    if "anyOf" in schema:
        parts = [part for part in schema["anyOf"] if part != {"type": "null"}]
        rest = {**parts[0], **rest} if len(parts) == 1 else {**rest, "anyOf": parts}
        if len(parts) == 1:
            del rest["anyOf"]
    return rest
