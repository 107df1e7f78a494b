"""A Python annotation as a JSON schema, and JSON values as what the annotation names: both ways in one place.

    str int float bool None Any, list, dict[str, ...], tuple, Literal, Enum, Optional and unions
    date datetime time UUID     text in the format of JSON Schema; a time of day comes with its offset from UTC
    Decimal                     a number, its digits as they were written
    dataclass, TypedDict        an object of what their fields are, closed
    pydantic models             what `model_json_schema` says, through `model_validate`
    Annotated                   with a description (text), further schema keywords (a dict), or pydantic's Field

pydantic is imported only where an annotation is its own already.

Of a union's parts the first that fits is taken. What has no schema is refused with its place.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

from toolace_edge.errors import ToolError
from toolace_edge.schema import normalise
from toolace_edge.validate import check, same_json

Schema = dict[str, Any]

_PLAIN: dict[Any, Schema] = {
    str: {"type": "string"}, int: {"type": "integer"}, float: {"type": "number"}, bool: {"type": "boolean"},
    None: {"type": "null"}, type(None): {"type": "null"}, Any: {}, object: {}, list: {"type": "array"},
    tuple: {"type": "array"}, dict: {"type": "object"}, Decimal: {"type": "number"},
    date: {"type": "string", "format": "date"}, datetime: {"type": "string", "format": "date-time"},
    time: {"type": "string", "format": "time"}, UUID: {"type": "string", "format": "uuid"},
}  # fmt: skip
_ARRAYS = (list, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_OBJECTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_HINT = (
    "Use str, int, float, bool, date, datetime, time, UUID, Decimal, list, dict[str, ...], tuple, Literal, Enum, "
    "Optional or a union of these, a TypedDict, a dataclass or a pydantic model."
)


def hints_of(owner: Any, name: str) -> dict[str, Any]:
    """The annotations of a function or a class, evaluated. ToolError where they name what is not there."""
    try:
        return typing.get_type_hints(owner, include_extras=True)
    except (NameError, TypeError) as error:
        raise ToolError(
            f"{name}: its annotations cannot be read: {error}.", hint="Import what they name where it is defined."
        ) from None


def _is_pydantic_dataclass(annotation: Any) -> bool:
    return dataclasses.is_dataclass(annotation) and hasattr(annotation, "__pydantic_validator__")


def is_model(annotation: Any) -> bool:
    """Whether it is a pydantic model, or what looks like one."""
    wanted = ("model_json_schema", "model_validate")
    return isinstance(annotation, type) and all(callable(getattr(annotation, name, None)) for name in wanted)


# --- to a schema -------------------------------------------------------------------------------------------------


def schema_of(annotation: Any, where: str) -> Schema:
    """A schema, not yet normalised, of the values that an annotation names. `where` is for errors: ToolError."""
    try:
        return _schema(annotation, where)
    except RecursionError:
        raise ToolError(
            f"{where}: its type refers to itself, so its values have no bound.",
            hint="Write out as many levels as are needed.",
        ) from None


def _schema(annotation: Any, where: str) -> Schema:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:  # first: with a dict in it, it has no hash
        return _annotated_schema(annotation, where)
    if isinstance(annotation, collections.abc.Hashable) and annotation in _PLAIN:
        return dict(_PLAIN[annotation])
    if _is_required_mark(origin):
        return _schema(arguments[0], where)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return _union_schema(arguments, where)
    if origin in _ARRAYS:
        return {"type": "array", "items": _schema(arguments[0], where)}
    if origin is tuple:
        return _tuple_schema(arguments, where)
    if origin in _OBJECTS and arguments[0] is str:
        return {"type": "object", "additionalProperties": _schema(arguments[1], where)}
    if isinstance(annotation, type):
        return _class_schema(annotation, where)
    raise _unknown(annotation, where)


def _class_schema(annotation: type, where: str) -> Schema:
    if is_model(annotation):
        return _model_schema(annotation, where)
    if issubclass(annotation, enum.Enum):
        return {"enum": [member.value for member in annotation]}
    if _is_typed_dict(annotation):
        names = list(annotation.__annotations__)
        return _members_schema(annotation, names, _required_keys(annotation, names, where), where)
    if _is_pydantic_dataclass(annotation):
        return _pydantic_schema(annotation, where)
    if dataclasses.is_dataclass(annotation):
        missing = dataclasses.MISSING
        fields = [field for field in dataclasses.fields(annotation) if field.init]
        required = [field.name for field in fields if field.default is missing and field.default_factory is missing]
        for name, asked in inspect.signature(annotation).parameters.items():
            gathers = asked.kind in (asked.VAR_POSITIONAL, asked.VAR_KEYWORD)  # of an __init__ of its own
            if asked.default is asked.empty and name not in required and not gathers:
                raise ToolError(f"{where}: {annotation.__name__} asks for {name}, which is no field.", hint=_HINT)
        return _members_schema(annotation, [field.name for field in fields], required, where)
    raise _unknown(annotation, where)


def _required_keys(annotation: Any, names: Iterable[str], where: str) -> list[str]:
    """Of a TypedDict: what Python says, corrected by the marks, which it does not see in postponed annotations."""
    required, hints = set(annotation.__required_keys__), hints_of(annotation, where)
    for name in names:
        hint = hints[name]
        while get_args(hint) and (get_origin(hint) is Annotated or _is_required_mark(get_origin(hint))):
            mark = getattr(get_origin(hint), "_name", "")
            if mark in ("Required", "NotRequired"):
                (required.add if mark == "Required" else required.discard)(name)
            hint = get_args(hint)[0]
    return [name for name in names if name in required]


def _members_schema(annotation: type, names: Iterable[str], required: list[str], where: str) -> Schema:
    hints = hints_of(annotation, where)
    properties = {name: _schema(hints[name], f"{where}.{name}") for name in names}
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _model_schema(annotation: Any, where: str) -> Schema:
    """Normalised at once: its references count from its own root."""
    return _written_by_pydantic(annotation.model_json_schema, annotation.__name__, where)


def _written_by_pydantic(write: Callable[[], Schema], named: str, where: str) -> Schema:
    try:
        schema = write()
    except (RuntimeError, NameError, TypeError) as error:  # what pydantic's own are made of
        said = str(error).partition("\n")[0]
        raise ToolError(f"{where}: {named} has no JSON schema: {said}", hint=_HINT) from None
    return normalise(schema, where)


def _annotated_schema(annotation: Any, where: str) -> Schema:
    inner, *notes = get_args(annotation)
    theirs = (inner, *(note for note in notes if _is_pydantic(note)))
    whole: Any = Annotated
    schema = _pydantic_schema(whole[theirs], where) if len(theirs) > 1 else _schema(inner, where)
    for note in (note for note in notes if not _is_pydantic(note)):
        if isinstance(note, str):
            schema["description"] = note
        elif isinstance(note, Mapping):
            schema |= note
        else:
            raise ToolError(
                f"{where}: Annotated with {note!r} says nothing here.", hint="Use text or a dict of keywords."
            )
    return schema


def _is_pydantic(note: Any) -> bool:
    """Whether it is pydantic's: Field(...) or a constraint of annotated_types."""
    return type(note).__module__.partition(".")[0] in ("pydantic", "annotated_types")


def _pydantic_schema(annotation: Any, where: str) -> Schema:
    return _written_by_pydantic(lambda: _adapter(annotation).json_schema(), str(annotation), where)


def _adapter(annotation: Any) -> Any:
    """pydantic's reader and writer: who has a Field, or a dataclass of pydantic's, has loaded it already."""
    from pydantic import TypeAdapter

    return TypeAdapter(annotation)


def _union_schema(arguments: tuple[Any, ...], where: str) -> Schema:
    parts = [_schema(argument, where) for argument in arguments]
    if all(part.keys() == {"type"} for part in parts):
        return {"type": list(dict.fromkeys(part["type"] for part in parts))}
    return {"anyOf": parts}


def _tuple_schema(arguments: tuple[Any, ...], where: str) -> Schema:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return {"type": "array", "items": _schema(arguments[0], where)}
    parts = [_schema(argument, where) for argument in arguments if argument != ()]
    if not parts:
        return {"type": "array", "maxItems": 0}
    return {"type": "array", "prefixItems": parts, "minItems": len(parts), "maxItems": len(parts)}


def _unknown(annotation: Any, where: str) -> ToolError:
    named = getattr(annotation, "__name__", str(annotation))
    return ToolError(f"{where}: {named} has no JSON form that a model can write.", hint=_HINT)


def _is_required_mark(origin: Any) -> bool:
    """Required[...] and its like in a TypedDict, of typing or typing_extensions."""
    return getattr(origin, "_name", None) in ("Required", "NotRequired", "ReadOnly")


def _is_typed_dict(annotation: Any) -> bool:
    """typing.is_typeddict, for those of typing_extensions too."""
    return isinstance(annotation, type) and issubclass(annotation, dict) and hasattr(annotation, "__required_keys__")


# --- from JSON ---------------------------------------------------------------------------------------------------


def as_annotated(annotation: Any, value: Any) -> Any:
    """A JSON value as the annotation names it. It obeys the annotation's schema, or another that stands in its place:
    then what cannot be made of it is a ValueError or a TypeError.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated or _is_required_mark(origin):
        return as_annotated(arguments[0], value)
    if origin in (Union, types.UnionType):
        return as_annotated(_fitting(arguments, value), value)
    if origin is Literal:
        return next((one for one in arguments if same_json(one, value)), value)
    if annotation in (int, float) and not isinstance(value, bool):
        return annotation(value)
    if annotation is tuple or origin is tuple:
        return _tuple(arguments, value)
    if isinstance(value, list) and arguments:
        return [as_annotated(arguments[0], item) for item in value]
    if isinstance(annotation, type):
        return _instance(annotation, value)
    if origin in _OBJECTS:
        return {name: as_annotated(arguments[1], member) for name, member in value.items()}
    return dict(value) if isinstance(value, Mapping) else value


def _instance(annotation: Any, value: Any) -> Any:
    if annotation in _READ:
        return _READ[annotation](value)
    if is_model(annotation):
        return annotation.model_validate(value)
    if _is_pydantic_dataclass(annotation):
        return _adapter(annotation).validate_python(value)
    if issubclass(annotation, enum.Enum):
        return next((member for member in annotation if same_json(member.value, value)), None) or annotation(value)
    if _is_typed_dict(annotation) or dataclasses.is_dataclass(annotation):
        hints = hints_of(annotation, annotation.__name__)
        members = {name: as_annotated(hints[name], member) for name, member in value.items()}
        return members if _is_typed_dict(annotation) else annotation(**members)
    return dict(value) if isinstance(value, Mapping) else value


def _fitting(annotations: tuple[Any, ...], value: Any) -> Any:
    """The first part of a union that the value obeys; anything where none is."""
    return next((part for part in annotations if not check(normalise(schema_of(part, "union"), "union"), value)), Any)


def _tuple(annotations: tuple[Any, ...], value: list[Any]) -> tuple[Any, ...]:
    if not annotations or annotations == ((),):
        return tuple(value)
    if annotations[-1] is Ellipsis:
        annotations = (annotations[0],) * len(value)
    return tuple(as_annotated(part, item) for part, item in zip(annotations, value, strict=True))


def _iso(text: str) -> str:
    """An RFC 3339 time as Python 3.10 reads it too: no Z, and six digits of a second or none."""
    text = re.sub(r"\.(\d+)", lambda found: f".{found[1][:6]:0<6}", text)
    return re.sub("[Zz]$", "+00:00", text)


_READ: dict[type, Callable[[Any], Any]] = {
    date: date.fromisoformat,
    datetime: lambda text: datetime.fromisoformat(_iso(text)),
    time: lambda text: time.fromisoformat(_iso(text)),
    UUID: UUID,
    Decimal: lambda number: Decimal(str(number)),  # the shortest digits that name the double: those that were written
}


# --- to JSON -----------------------------------------------------------------------------------------------------


def as_json(value: Any) -> Any:
    """A value of an annotation, such as a parameter's default, as JSON says it; what has no such form stays itself."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Decimal) and value.is_finite():
        return int(value) if value == value.to_integral_value() else float(value)
    if is_model(type(value)):
        return value.model_dump(mode="json")
    if _is_pydantic_dataclass(type(value)):
        return _adapter(type(value)).dump_python(value, mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}
    if isinstance(value, Mapping):
        return {key: as_json(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return value
