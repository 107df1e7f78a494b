"""One spelling for all schemas: a node's keywords as JSON Schema 2020-12 has them, whatever dialect they came in.

    BFCL, Python, Java   `dict`, `float`, `tuple`, `ArrayList`, `String`; `any` or no type: no constraint; `optional`
    OpenAPI              `nullable: true`; int32 and its like as ranges; `example`, `xml`, `discriminator` say nothing
    draft 3 and 4        `exclusiveMinimum: true` beside `minimum`; `required: true` on a property
    draft 7              `items: [..]` and `additionalItems`; `definitions`
    serialisers          a keyword that is null is absent (`const` and `default` aside)

Annotations go, but `description` and `default`, which the model reads. A keyword that the decoder cannot hold, or does
not know, is refused with its path; nothing is dropped that would constrain a value.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from typing import Any

from toolace_edge import patterns
from toolace_edge.errors import SchemaError
from toolace_edge.messages import is_text

Node = dict[str, Any]

MAX_ENUM = 1000  # values
MAX_NAME = 128  # characters of a property's name
MAX_LENGTH = 1024  # what minLength may ask for, and bytes of a value in an enum; more would not fit into an answer
MAX_ITEMS = 64  # what minItems may ask for

_TYPES = {
    "object": "object dict map hashmap hashtable",
    "number": "number float double decimal",
    "integer": "integer int long short byte bigint",
    "string": "string str char",
    "array": "array list tuple arraylist queue stack",
    "boolean": "boolean bool",
    "null": "null none nonetype",
    "any": "any",
}
TYPE_NAMES = {spelling: name for name, spellings in _TYPES.items() for spelling in spellings.split()}

MAX_SAFE = 2**53 - 1  # the largest integer that every JSON reader keeps exactly; int64 is held to it
_INTEGER_FORMATS = {
    "int8": (-(2**7), 2**7 - 1), "int16": (-(2**15), 2**15 - 1),
    "int32": (-(2**31), 2**31 - 1), "int64": (-MAX_SAFE, MAX_SAFE),
    "uint8": (0, 2**8 - 1), "uint16": (0, 2**16 - 1), "uint32": (0, 2**32 - 1), "uint64": (0, MAX_SAFE),
}  # fmt: skip
# The same in a string (Google's documents, where JSON would lose the last digits): so many digits are always in range.
_DIGITS = {
    "int8": 2, "int16": 4, "int32": 9, "int64": 18, "uint8": 2, "uint16": 4, "uint32": 9, "uint64": 19,
}  # fmt: skip
_SILENT_FORMATS = {"float", "double", "decimal", "password"}  # say how to show or to store, not which values

_ANNOTATIONS = frozenset((
    "title", "examples", "example", "deprecated", "readOnly", "writeOnly", "$schema", "$id", "id", "$comment", "$defs",
    "definitions", "$vocabulary", "contentMediaType", "contentEncoding", "discriminator", "xml", "externalDocs",
    "optional", "propertyOrdering", "enumDescriptions", "markdownDescription", "errorMessage",
))  # fmt: skip
_READ_WITH_OTHERS = frozenset(("nullable", "additionalItems"))  # see _translate_nullable, _translate_tuple
_REFUSED = {
    "not": "a grammar cannot say what a value is not",
    "if": "conditions cannot be held; use anyOf with one alternative a case",
    "then": "conditions cannot be held; use anyOf with one alternative a case",
    "else": "conditions cannot be held; use anyOf with one alternative a case",
    "contains": "what an array must contain cannot be held",
    "minContains": "what an array must contain cannot be held",
    "maxContains": "what an array must contain cannot be held",
    "propertyNames": "names of free properties cannot be held; list them in `properties`",
    "patternProperties": "names of free properties cannot be held; list them in `properties`",
    "dependentSchemas": "what depends on another property cannot be held; use anyOf",
    "dependentRequired": "what depends on another property cannot be held; use anyOf",
    "dependencies": "what depends on another property cannot be held; use anyOf",
    "unevaluatedProperties": "use additionalProperties",
    "unevaluatedItems": "use items",
    "$dynamicRef": "only local $ref is followed",
    "$recursiveRef": "only local $ref is followed",
    "$anchor": "only $ref with a JSON pointer (#/$defs/NAME) is followed",
    "$dynamicAnchor": "only local $ref is followed",
}
_TEXT = {"type": "string"}
_SAYS_NOTHING_EMPTY = frozenset(("patternProperties", "dependentSchemas", "dependentRequired", "dependencies"))


def translate(schema: Mapping[str, Any], path: str) -> Node:
    """The node with 2020-12 keywords only, its subschemas as they were. `type` is a list, `const` an enum of one."""
    for key in schema:
        if not isinstance(key, str):
            raise SchemaError(path, f"{key!r:.40} is not a keyword; keywords are text")
    schema = {key: value for key, value in schema.items() if value is not None or key in ("const", "default")}
    node: Node = {}
    for key, value in schema.items():
        if key in _READERS:
            node.update(_READERS[key](value, f"{path}.{key}"))
        elif key in _REFUSED and not _says_nothing(key, value):
            raise SchemaError(f"{path}.{key}", _REFUSED[key])
        elif key not in _ANNOTATIONS | _READ_WITH_OTHERS | _REFUSED.keys() and not key.startswith("x-"):
            raise SchemaError(f"{path}.{key}", "is not a known keyword", hint=_suggestion(key))
    _translate_nullable(schema, node, path)
    _translate_tuple(schema, node, path)
    _translate_exclusive(schema, node)
    _translate_format(node, path)
    return node


def _says_nothing(key: str, value: Any) -> bool:
    """`{}` where names would stand; of names, that they are text, as zod writes it."""
    if key == "propertyNames":
        return value is True or (isinstance(value, Mapping) and value.keys() <= {"type"} and value in ({}, _TEXT))
    return key in _SAYS_NOTHING_EMPTY and value == {}


def required_by_flag(schema: Any) -> bool:
    """Draft 3: `required: true` on a property itself."""
    return isinstance(schema, Mapping) and str(schema.get("required")).lower() == "true"


def _suggestion(key: str) -> str:
    near = difflib.get_close_matches(key, [*_READERS, *_REFUSED], n=1)
    return f"Did you mean `{near[0]}`?" if near else "Remove it, or rename it to `x-...` if it is a note."


def _translate_nullable(schema: Mapping[str, Any], node: Node, path: str) -> None:
    nullable = schema.get("nullable", False)
    if not isinstance(nullable, bool):
        raise SchemaError(f"{path}.nullable", "must be true or false")
    if nullable and "type" in node and "null" not in node["type"]:
        node["type"] = [*node["type"], "null"]


def _translate_tuple(schema: Mapping[str, Any], node: Node, path: str) -> None:
    """Draft 7's `items: [..]`, `additionalItems`."""
    if isinstance(node.get("items"), list):
        if "prefixItems" in node:
            raise SchemaError(f"{path}.items", "is a list beside prefixItems; give one of them")
        node["prefixItems"] = node.pop("items")
        if "additionalItems" in schema:
            node["items"] = _subschema(schema["additionalItems"], f"{path}.additionalItems")["additionalItems"]


def _translate_exclusive(schema: Mapping[str, Any], node: Node) -> None:
    """Draft 4's booleans."""
    for key, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(schema.get(key), bool):
            del node[key]
            if schema[key] and bound in node:
                node[key] = node.pop(bound)


def _translate_format(node: Node, path: str) -> None:
    name = node.pop("format", None)
    if name is None or name in _SILENT_FORMATS:
        return
    if name in _INTEGER_FORMATS:
        types = node.get("type", ())
        if "string" in types:
            sign = "" if name.startswith("u") else "-?"
            digits = patterns.portable(f"^(?:0|{sign}[1-9][0-9]{{0,{_DIGITS[name] - 1}}})$")
            node["patterns"] = [*node.get("patterns", ()), digits]
        if types and not {"integer", "number"} & set(types):
            return
        low, high = _INTEGER_FORMATS[name]
        own = {"minimum": node.get("minimum", low - 1) >= low, "maximum": node.get("maximum", high + 1) <= high}
        node["minimum"], node["maximum"] = max(low, node.get("minimum", low)), min(high, node.get("maximum", high))
        node["by_format"] = [key for key, is_own in own.items() if not is_own]  # what no keyword says
    elif name == "url":
        node["format"] = "uri"
    elif name in patterns.FORMATS:
        node["format"] = name
    else:
        raise SchemaError(
            f"{path}.format",
            f"{name!r} cannot be held",
            hint=f"Known formats are {', '.join(sorted(patterns.FORMATS))}; a pattern may say the same.",
        )


Reader = Callable[[Any, str], Node]


def _type(value: Any, path: str) -> Node:
    names = value if isinstance(value, list) else [value]
    if not names:
        raise SchemaError(path, "is an empty list, so no value fits")
    types: list[str] = []
    for name in names:
        known = TYPE_NAMES.get(name.lower()) if isinstance(name, str) else None
        if known is None:
            raise SchemaError(path, f"{name!r} is not a type", hint=f"Types are {', '.join(_TYPES)}.")
        if known not in types:
            types.append(known)
    return {} if "any" in types else {"type": types}


def _enum(value: Any, path: str) -> Node:
    if not isinstance(value, list):
        raise SchemaError(path, "must be a list of values")
    if not value:
        raise SchemaError(path, "is empty, so no value fits")
    if len(value) > MAX_ENUM:
        raise SchemaError(path, f"has {len(value)} values; {MAX_ENUM} are the limit")
    return {"enum": [_literal(one, f"{path}[{i}]") for i, one in enumerate(value)]}


def _const(value: Any, path: str) -> Node:
    return {"enum": [_literal(value, path)]}


def _literal(value: Any, path: str) -> Any:
    length = _json_bytes(value, path)
    if length > MAX_LENGTH:
        raise SchemaError(path, f"is {length} bytes long; an answer has room for {MAX_LENGTH}")
    return value


def _default(value: Any, path: str) -> Node:
    _json_bytes(value, path)
    return {"default": value}


def _json_bytes(value: Any, path: str) -> int:
    """The length of a value as JSON; refused where it is none."""
    try:
        return len(json.dumps(value, ensure_ascii=False, allow_nan=False).encode())
    except UnicodeEncodeError:
        raise SchemaError(path, "holds half of a surrogate pair, which is not text") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise SchemaError(path, f"is not a JSON value ({error})") from None


def _required(value: Any, path: str) -> Node:
    if isinstance(value, bool) or (isinstance(value, str) and value.lower() in ("true", "false")):
        return {}  # draft 3: belongs to the object that holds this property, see required_by_flag
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise SchemaError(path, "must be a list of property names")
    return {"required": list(dict.fromkeys(value))}


def _properties(value: Any, path: str) -> Node:
    if not isinstance(value, Mapping):
        raise SchemaError(path, "must be an object: a name and a schema for each property")
    for name in value:
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
            raise SchemaError(path, f"{name!r:.40} is not a name of 1 to {MAX_NAME} characters")
        if not is_text(name):
            raise SchemaError(path, f"{name!r:.40} holds half of a surrogate pair, which is not text")
    return {"properties": dict(value)}


def _subschema(value: Any, path: str) -> Node:
    if not isinstance(value, Mapping | bool | list):
        raise SchemaError(path, "must be a schema (an object)")
    return {path.rsplit(".", 1)[-1]: value}


def _subschemas(value: Any, path: str) -> Node:
    if not isinstance(value, list) or not value:
        raise SchemaError(path, "must be a list of schemas, with one at least")
    return {path.rsplit(".", 1)[-1]: value}


def _pattern(value: Any, path: str) -> Node:
    try:
        return {"patterns": [patterns.portable(_text(value, path)["pattern"])]}
    except patterns.PatternError as error:
        raise SchemaError(path, f"{value!r:.80} {error}") from None


def _text(value: Any, path: str) -> Node:
    if not isinstance(value, str):
        raise SchemaError(path, "must be text")
    if not is_text(value):
        raise SchemaError(path, "holds half of a surrogate pair, which is not text")
    return {path.rsplit(".", 1)[-1]: value}


def _number(value: Any, path: str) -> Node:
    key = path.rsplit(".", 1)[-1]
    if isinstance(value, bool) and key.startswith("exclusive"):
        return {key: value}  # draft 4
    if isinstance(value, bool) or not isinstance(value, int | float) or value - value != 0:
        raise SchemaError(path, "must be a number")
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise SchemaError(path, "is an integer of more than 64 bits")
    if key == "multipleOf" and value <= 0:
        raise SchemaError(path, "must be above 0")
    if key == "multipleOf" and value > 2**53:
        raise SchemaError(path, f"{value} is too large: doubles hold no integers above 2^53 exactly")
    if key == "multipleOf" and value * 2**20 != int(value * 2**20):
        raise SchemaError(
            path,
            f"{value} is not exact in binary, so programs differ about its multiples",
            hint="Use an integer (cents, not euros), or a binary fraction such as 0.5.",
        )
    return {key: value}


_UNBOUNDED = 2**31  # a count above this bounds nothing, and might not fit the grammar's integers


def _count(limit: int | None) -> Reader:
    def read(value: Any, path: str) -> Node:
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value % 1 != 0:
            raise SchemaError(path, "must be a whole number, 0 or above")
        if limit is not None and value > limit:
            raise SchemaError(path, f"asks for {value}; an answer has room for {limit}")
        return {path.rsplit(".", 1)[-1]: int(min(value, _UNBOUNDED))}

    return read


def _unique_items(value: Any, path: str) -> Node:
    if value is not False:
        raise SchemaError(
            path, "that items differ cannot be held", hint="Say it in the description; check it in the tool."
        )
    return {}


_READERS: dict[str, Reader] = {
    "type": _type, "enum": _enum, "const": _const,
    "description": _text, "default": _default,
    "$ref": _text, "anyOf": _subschemas, "oneOf": _subschemas, "allOf": _subschemas,
    "properties": _properties, "required": _required, "additionalProperties": _subschema,
    "minProperties": _count(None), "maxProperties": _count(None),
    "items": _subschema, "prefixItems": _subschemas, "minItems": _count(MAX_ITEMS), "maxItems": _count(None),
    "uniqueItems": _unique_items,
    "minLength": _count(MAX_LENGTH), "maxLength": _count(None), "pattern": _pattern, "format": _text,
    "minimum": _number, "maximum": _number, "exclusiveMinimum": _number, "exclusiveMaximum": _number,
    "multipleOf": _number,
}  # fmt: skip
