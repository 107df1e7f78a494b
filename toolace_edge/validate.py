"""Does a value obey a normalised schema? The subset that schema.py lets through, read as JSON Schema 2020-12 reads it.

jsonschema is the oracle of the tests, not a dependency: it matches patterns by backtracking (a hostile pattern stops
the program) and knows most formats only with further packages.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from toolace_edge import patterns

MAX_PROBLEMS = 20
_STRING_KEYWORDS = ("minLength", "maxLength", "pattern", "format")


def check(schema: Mapping[str, Any], value: Any, where: str = "arguments") -> list[str]:
    """The value's problems, each a sentence that starts with its place; empty when there are none."""
    problems = []
    for problem in _problems(schema, value, where):
        problems.append(problem)
        if len(problems) == MAX_PROBLEMS:
            break
    return problems


def _problems(schema: Mapping[str, Any], value: Any, where: str) -> Iterator[str]:
    if "enum" in schema and not any(same_json(value, one) for one in schema["enum"]):
        yield f"{where}: {show(value)} is not one of {', '.join(show(one) for one in schema['enum'][:10])}"
        return
    if "type" in schema and not has_type(value, schema["type"]):
        yield f"{where}: {show(value)} is not of type {_type_names(schema['type'])}"
        return
    if "anyOf" in schema and not any(_fits(branch, value) for branch in schema["anyOf"]):
        yield f"{where}: {show(value)} fits none of the {len(schema['anyOf'])} alternatives"
    for part in schema.get("allOf", ()):
        yield from _problems(part, value, where)
    if isinstance(value, str):
        yield from _string_problems(schema, value, where)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _number_problems(schema, value, where)
    elif isinstance(value, list | tuple):
        yield from _array_problems(schema, value, where)
    elif isinstance(value, Mapping):
        yield from _object_problems(schema, value, where)


def _fits(schema: Mapping[str, Any], value: Any) -> bool:
    return next(_problems(schema, value, ""), None) is None


def has_type(value: Any, types: str | list[str]) -> bool:
    """Whether a JSON value is of one of the types. 1.0 is an integer; a bool, NaN and infinity are no numbers."""
    wanted = [types] if isinstance(types, str) else types
    if value is None or isinstance(value, bool):
        return ("null" if value is None else "boolean") in wanted
    if isinstance(value, int | float):
        finite = isinstance(value, int) or (value - value == 0)
        return finite and ("number" in wanted or ("integer" in wanted and value == int(value)))
    if isinstance(value, str):
        return "string" in wanted
    if isinstance(value, list | tuple):
        return "array" in wanted
    return isinstance(value, Mapping) and "object" in wanted


def same_json(one: Any, other: Any) -> bool:
    """Equal as JSON values: 1 equals 1.0, true does not equal 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same_json(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(same_json(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def _string_problems(schema: Mapping[str, Any], value: str, where: str) -> Iterator[str]:
    if len(value) < schema.get("minLength", 0):
        yield f"{where}: has {len(value)} characters, fewer than the {schema['minLength']} wanted"
    if len(value) > schema.get("maxLength", len(value)):
        yield f"{where}: has {len(value)} characters, more than the {schema['maxLength']} allowed"
    if "pattern" in schema or "format" in schema:
        held = {"type": "string", **{key: schema[key] for key in _STRING_KEYWORDS[2:] if key in schema}}
        if not patterns.matches(held, value):
            what = f"format {schema['format']}" if "format" in schema else f"pattern {schema['pattern']}"
            yield f"{where}: {show(value)} does not have the {what}"


def _number_problems(schema: Mapping[str, Any], value: float, where: str) -> Iterator[str]:
    if value < schema.get("minimum", value):
        yield f"{where}: {value} is below the minimum {schema['minimum']}"
    if value > schema.get("maximum", value):
        yield f"{where}: {value} is above the maximum {schema['maximum']}"
    if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
        yield f"{where}: {value} is not above {schema['exclusiveMinimum']}"
    if "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]:
        yield f"{where}: {value} is not below {schema['exclusiveMaximum']}"
    if "multipleOf" in schema and exact(value) % exact(schema["multipleOf"]):
        yield f"{where}: {value} is not a multiple of {schema['multipleOf']}"


def exact(number: float) -> Fraction:
    """The number as it is written: 0.1 is a tenth, not the double next to it."""
    return Fraction(repr(number))


def _array_problems(schema: Mapping[str, Any], value: list[Any] | tuple[Any, ...], where: str) -> Iterator[str]:
    if len(value) < schema.get("minItems", 0):
        yield f"{where}: has {len(value)} items, fewer than the {schema['minItems']} wanted"
    if len(value) > schema.get("maxItems", len(value)):
        yield f"{where}: has {len(value)} items, more than the {schema['maxItems']} allowed"
    prefix = schema.get("prefixItems", ())
    for i, item in enumerate(value):
        yield from _problems(prefix[i] if i < len(prefix) else schema.get("items", {}), item, f"{where}[{i}]")


def _object_problems(schema: Mapping[str, Any], value: Mapping[str, Any], where: str) -> Iterator[str]:
    if len(value) < schema.get("minProperties", 0):
        yield f"{where}: has {len(value)} properties, fewer than the {schema['minProperties']} wanted"
    if len(value) > schema.get("maxProperties", len(value)):
        yield f"{where}: has {len(value)} properties, more than the {schema['maxProperties']} allowed"
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{where}.{name}: is required and absent"
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    for name, member in value.items():
        if name in properties:
            yield from _problems(properties[name], member, f"{where}.{name}")
        elif others is False:
            yield f"{where}.{name}: is not a known name; {_known(properties)}"
        elif isinstance(others, Mapping):
            yield from _problems(others, member, f"{where}.{name}")


def fills(schema: Any, value: Any, *, characters: int, items: int) -> bool:
    """Whether a text or list in `value` is as long as it may be, where the schema says nothing of its length."""
    known = schema if isinstance(schema, Mapping) else {}
    if isinstance(value, str):
        return len(value) >= characters and known.keys().isdisjoint(("maxLength", "enum", "const", "pattern", "format"))
    if isinstance(value, Mapping):
        properties, others = known.get("properties", {}), known.get("additionalProperties")
        return any(
            fills(properties.get(name, others), member, characters=characters, items=items)
            for name, member in value.items()
        )
    if isinstance(value, list | tuple):
        if len(value) >= items and known.keys().isdisjoint(("maxItems", "prefixItems", "enum", "const")):
            return True
        return any(fills(known.get("items"), item, characters=characters, items=items) for item in value)
    return False


def _known(properties: Mapping[str, Any]) -> str:
    return f"known are {', '.join(list(properties)[:20])}" if properties else "none are known here"


def _type_names(types: str | list[str]) -> str:
    return types if isinstance(types, str) else " or ".join(types)


def show(value: Any) -> str:
    """The value as JSON, cut to a length that fits into a sentence."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
