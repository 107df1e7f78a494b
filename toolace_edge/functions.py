"""A Python function as a tool: its signature and docstring become a name, a description and a schema.

    @tool
    def set_timer(minutes: Annotated[int, "how long", {"minimum": 1}], label: str = "") -> str:
        "Set a timer."

Annotations: str int float bool None Any, Literal, Enum, Optional and unions, list, dict[str, ...], tuple, TypedDict,
dataclasses, and Annotated with a description (text) and further schema keywords (a dict). Descriptions also come from
the docstring. What has no schema is refused with the parameter's name; so are *args and **kwargs.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from toolace_edge.docstrings import read_docstring
from toolace_edge.errors import SchemaError, ToolError
from toolace_edge.messages import Tool
from toolace_edge.schema import normalise_parameters

F = TypeVar("F", bound=Callable[..., Any])
Schema = dict[str, Any]

_PLAIN: dict[Any, Schema] = {
    str: {"type": "string"}, int: {"type": "integer"}, float: {"type": "number"}, bool: {"type": "boolean"},
    None: {"type": "null"}, type(None): {"type": "null"}, Any: {}, object: {}, list: {"type": "array"},
    tuple: {"type": "array"}, dict: {"type": "object"}, inspect.Parameter.empty: {},
}  # fmt: skip
_ARRAYS = (list, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_OBJECTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


def tool(function: F) -> F:
    """Make a function a tool: `function.tool` describes it, the function itself stays as it is. Raises ToolError."""
    function.tool = from_function(function)  # type: ignore[attr-defined]
    return function


def from_function(function: Callable[..., Any]) -> Tool:
    """The tool that a function is. Raises ToolError where its signature cannot be told to a model."""
    known = getattr(function, "tool", None)
    if isinstance(known, Tool):
        return known
    name = getattr(function, "__name__", "")
    if not name.replace("_", "").isalnum() or not name.isascii() or len(name) > 64:
        raise ToolError(f"{function!r:.80} has no usable name.", hint="Tools are made of named functions (def).")
    description, notes = read_docstring(function.__doc__)
    properties: Schema = {}
    required = []
    for parameter, annotation in parameters_of(function).values():
        where = f"{name}({parameter.name})"
        schema = schema_of(annotation, where)
        if parameter.default is None:
            schema = _without_null(schema)
        if parameter.name in notes:
            schema.setdefault("description", notes[parameter.name])
        if parameter.default is inspect.Parameter.empty:
            required.append(parameter.name)
        elif parameter.default is not None:
            schema["default"] = _plain(parameter.default)
        properties[parameter.name] = schema
    try:
        schema = normalise_parameters({"type": "object", "properties": properties, "required": required}, name)
    except SchemaError as error:
        raise ToolError(str(error), hint=error.hint) from None
    return Tool(name, description, schema)


def parameters_of(function: Callable[..., Any]) -> dict[str, tuple[inspect.Parameter, Any]]:
    """Each parameter with its annotation, evaluated. Raises ToolError for what cannot be given by name."""
    name = getattr(function, "__name__", repr(function))
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise ToolError(
            f"{name}: its annotations cannot be read: {error}.", hint="Import what they name where the function is."
        ) from None
    found = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
            raise ToolError(f"{name}: {stars}{parameter.name} has no schema.", hint="Name each parameter.")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise ToolError(f"{name}: {parameter.name} cannot be given by name.", hint="Remove the `/`.")
        found[parameter.name] = (parameter, hints.get(parameter.name, inspect.Parameter.empty))
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


def schema_of(annotation: Any, where: str) -> Schema:
    """A schema, not yet normalised, of the values that an annotation names. `where` is for errors."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:  # first: with a dict in it, it has no hash
        return _annotated_schema(annotation, where)
    if isinstance(annotation, collections.abc.Hashable) and annotation in _PLAIN:
        return dict(_PLAIN[annotation])
    if is_required_mark(origin):
        return schema_of(arguments[0], where)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return _union_schema(arguments, where)
    if origin in _ARRAYS:
        return {"type": "array", "items": schema_of(arguments[0], where)}
    if origin is tuple:
        return _tuple_schema(arguments, where)
    if origin in _OBJECTS and arguments[0] is str:
        return {"type": "object", "additionalProperties": schema_of(arguments[1], where)}
    if isinstance(annotation, type):
        return _class_schema(annotation, where)
    raise _unknown(annotation, where)


def _class_schema(annotation: type, where: str) -> Schema:
    if issubclass(annotation, enum.Enum):
        return {"enum": [member.value for member in annotation]}
    if is_typed_dict(annotation):
        keys: frozenset[str] = annotation.__required_keys__  # type: ignore[attr-defined]
        return _members_schema(annotation, [name for name in annotation.__annotations__ if name in keys], where)
    if dataclasses.is_dataclass(annotation):
        missing = dataclasses.MISSING
        fields = [field for field in dataclasses.fields(annotation) if field.init]
        required = [field.name for field in fields if field.default is missing and field.default_factory is missing]
        schema = _members_schema(annotation, required, where)
        kept = {field.name for field in fields}
        return {**schema, "properties": {k: v for k, v in schema["properties"].items() if k in kept}}
    raise _unknown(annotation, where)


def _members_schema(annotation: type, required: list[str], where: str) -> Schema:
    hints = typing.get_type_hints(annotation, include_extras=True)
    properties = {name: schema_of(hint, f"{where}.{name}") for name, hint in hints.items()}
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _annotated_schema(annotation: Any, where: str) -> Schema:
    inner, *notes = get_args(annotation)
    schema = schema_of(inner, where)
    for note in notes:
        if isinstance(note, str):
            schema["description"] = note
        elif isinstance(note, Mapping):
            schema |= note
        else:
            raise ToolError(
                f"{where}: Annotated with {note!r} says nothing here.", hint="Use text or a dict of keywords."
            )
    return schema


def _union_schema(arguments: tuple[Any, ...], where: str) -> Schema:
    parts = [schema_of(argument, where) for argument in arguments]
    if all(part.keys() == {"type"} for part in parts):
        return {"type": [part["type"] for part in parts]}
    return {"anyOf": parts}


def _tuple_schema(arguments: tuple[Any, ...], where: str) -> Schema:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return {"type": "array", "items": schema_of(arguments[0], where)}
    parts = [schema_of(argument, where) for argument in arguments if argument != ()]
    if not parts:
        return {"type": "array", "maxItems": 0}
    return {"type": "array", "prefixItems": parts, "minItems": len(parts), "maxItems": len(parts)}


def _unknown(annotation: Any, where: str) -> ToolError:
    named = getattr(annotation, "__name__", str(annotation))
    return ToolError(
        f"{where}: {named} has no JSON form that a model can write.",
        hint="Use str, int, float, bool, list, dict, tuple, Literal, Enum, TypedDict or a dataclass.",
    )


def is_required_mark(origin: Any) -> bool:
    """Required[...] and its like in a TypedDict, of typing or typing_extensions."""
    return getattr(origin, "_name", None) in ("Required", "NotRequired", "ReadOnly")


def is_typed_dict(annotation: Any) -> bool:
    """typing.is_typeddict, for those of typing_extensions too."""
    return isinstance(annotation, type) and issubclass(annotation, dict) and hasattr(annotation, "__required_keys__")


def _plain(value: Any) -> Any:
    """A default as JSON says it."""
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {key: _plain(member) for key, member in vars(value).items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
