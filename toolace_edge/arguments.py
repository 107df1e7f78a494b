"""JSON arguments as a Python function wants them: enum members, dataclasses, tuples, floats where floats are named."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from toolace_edge.functions import is_required_mark, is_typed_dict, parameters_of, schema_of
from toolace_edge.schema import normalise
from toolace_edge.validate import check, same_json


def to_python(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments for the function. The arguments obey its schema."""
    parameters = parameters_of(function)
    return {name: as_annotated(parameters[name][1], value) for name, value in arguments.items()}


def as_annotated(annotation: Any, value: Any) -> Any:
    """A JSON value as the annotation names it; the value obeys the annotation's schema."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated or is_required_mark(origin):
        return as_annotated(arguments[0], value)
    if origin in (Union, types.UnionType):
        return as_annotated(_fitting(arguments, value), value)
    if origin is Literal:
        return next(one for one in arguments if same_json(one, value))
    if annotation in (int, float) and not isinstance(value, bool):
        return annotation(value)
    if annotation is tuple or origin is tuple:
        return _tuple(arguments, value)
    if isinstance(value, list) and arguments:
        return [as_annotated(arguments[0], item) for item in value]
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return next(member for member in annotation if same_json(member.value, value))
    return _object(annotation, arguments, value) if isinstance(value, Mapping) else value


def _fitting(annotations: tuple[Any, ...], value: Any) -> Any:
    """The first part of a union that the value obeys."""
    return next(part for part in annotations if not check(normalise(schema_of(part, "union"), "union"), value))


def _tuple(annotations: tuple[Any, ...], value: list[Any]) -> tuple[Any, ...]:
    if not annotations or annotations == ((),):
        return tuple(value)
    if annotations[-1] is Ellipsis:
        annotations = (annotations[0],) * len(value)
    return tuple(as_annotated(part, item) for part, item in zip(annotations, value, strict=True))


def _object(annotation: Any, arguments: tuple[Any, ...], value: Mapping[str, Any]) -> Any:
    if get_origin(annotation) in (dict, collections.abc.Mapping, collections.abc.MutableMapping):
        return {name: as_annotated(arguments[1], member) for name, member in value.items()}
    if not is_typed_dict(annotation) and not dataclasses.is_dataclass(annotation):
        return dict(value)
    hints = typing.get_type_hints(annotation, include_extras=True)
    members = {name: as_annotated(hints[name], member) for name, member in value.items()}
    return members if is_typed_dict(annotation) else annotation(**members)
