"""An operation's parameters as arguments of one tool."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from toolace_edge.errors import SchemaError
from toolace_edge.sources.base import MAX_NOTE
from toolace_edge.sources.openapi_document import Document
from toolace_edge.sources.openapi_schema import read_schema
from toolace_edge.sources.openapi_text import plain
from toolace_edge.sources.openapi_values import Parameter

_IN_QUERY = ("form", "spaceDelimited", "pipeDelimited", "deepObject")
_STYLES = {"path": ("simple",), "header": ("simple",), "cookie": ("form",), "query": _IN_QUERY, "body": _IN_QUERY}
_SET_ELSEWHERE = ("accept", "content-type", "authorization")  # OpenAPI: such a definition is ignored
_SET_BY_HTTP = ("host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect",
                "keep-alive", "proxy-authorization", "cookie")  # fmt: skip

_WORDS = ("string", "number", "boolean")

Properties = dict[str, dict[str, Any]]


def read_parameters(
    document: Document,
    item: Mapping[str, Any],
    operation: Mapping[str, Any],
    where: str,
    sent_along: Collection[tuple[str, str]],
) -> tuple[list[tuple[Parameter, bool]], Properties]:
    """Each parameter, and whether it is required; the schema of each, by the argument's name. Raises SchemaError.

    Those of `sent_along` (place, name in lower case in a header) are no arguments: they are credentials.
    """
    found: dict[tuple[str, str], tuple[Mapping[str, Any], str]] = {}
    for owner in (item, operation):  # an operation's own replace the path's
        listed = owner.get("parameters") or []
        if not isinstance(listed, list):
            raise SchemaError(f"{where}.parameters", "must be a list")
        for i, entry in enumerate(listed):
            path = f"{where}.parameters[{i}]"
            given = document.follow(entry, path)
            if not isinstance(given, Mapping) or not isinstance(given.get("name"), str) or not given["name"]:
                raise SchemaError(path, "must be an object with a name")
            found[given["name"], str(given.get("in"))] = given, f"{where}.parameters.{given['name']}"
    parameters: list[tuple[Parameter, bool]] = []
    properties: Properties = {}
    for (name, place), (given, path) in found.items():
        if place == "header" and name.lower() in _SET_ELSEWHERE:
            continue
        if (place, name.lower() if place == "header" else name) in sent_along:
            continue
        argument = name if name not in properties else f"{place}_{name}"
        if argument in properties:
            raise SchemaError(path, f"{argument!r} is the name of another parameter too")
        parameter = _parameter(given, argument, path)
        properties[argument] = _schema(document, given, parameter, path)
        parameters.append((parameter, given.get("required") is True or place == "path"))
    return parameters, properties


def _parameter(given: Mapping[str, Any], argument: str, path: str) -> Parameter:
    name, place = given["name"], given.get("in")
    if place not in ("path", "query", "header", "cookie"):
        raise SchemaError(f"{path}.in", f"{place!r:.40} is not path, query, header or cookie")
    if place in ("header", "cookie") and not (name.isascii() and name.replace("-", "").replace("_", "").isalnum()):
        raise SchemaError(f"{path}.name", f"{name!r:.60} cannot be the name of a {place}")
    if place == "header" and name.lower() in _SET_BY_HTTP:
        raise SchemaError(f"{path}.name", f"{name!r:.60} is set by HTTP itself")
    style, explode = read_style(given, place, path)
    return Parameter(argument, name, place, style, explode, "content" in given, given.get("allowReserved") is True)


def read_style(given: Mapping[str, Any], place: str, path: str) -> tuple[str, bool]:
    """The `style` and `explode` of a parameter, or of a form's member (`body`). Raises SchemaError."""
    style = given.get("style", _STYLES[place][0])
    if style not in _STYLES[place]:
        raise SchemaError(f"{path}.style", f"{style!r:.40} is not supported in a {place}")
    explode = given.get("explode", style == "form")
    if not isinstance(explode, bool):
        raise SchemaError(f"{path}.explode", "must be true or false")
    if style in ("spaceDelimited", "pipeDelimited") and explode:
        style = "form"  # with a name for each value, the three are the same
    return style, explode


def _schema(document: Document, given: Mapping[str, Any], parameter: Parameter, path: str) -> dict[str, Any]:
    if parameter.is_json:
        content = given["content"]
        if not isinstance(content, Mapping) or len(content) != 1 or not is_json(next(iter(content))):
            raise SchemaError(f"{path}.content", "must be one JSON media type")
        media = document.follow(next(iter(content.values())), path)
        schema = read_schema(document, media.get("schema", {}) if isinstance(media, Mapping) else None, path)
    else:
        schema = read_schema(document, given.get("schema", {}), f"{path}.schema")
        schema = writable(schema, parameter, f"{path}.schema")
    if note := plain(given.get("description"), MAX_NOTE):
        schema["description"] = note
    return schema


def writable(schema: Mapping[str, Any], parameter: Parameter, path: str) -> dict[str, Any]:
    """The schema of what has a form there: outside JSON words, lists and objects of words, in brackets deeper ones.

    Where any value would do, any word does. Raises SchemaError.
    """
    if parameter.is_json or parameter.style == "deepObject":
        return dict(schema)
    if "anyOf" in schema:
        return {**schema, "anyOf": [writable(one, parameter, path) for one in schema["anyOf"]]}
    node: dict[str, Any] = _words_at_least(schema)
    types = types_in(schema)
    inner: list[Any] = []
    if "object" in types:
        if parameter.place == "cookie" or parameter.style in ("spaceDelimited", "pipeDelimited"):
            raise SchemaError(path, f"an object has no form in a {parameter.place} of style {parameter.style}")
        if parameter.explode and parameter.style == "form" and node.get("additionalProperties", False) is not False:
            raise SchemaError(path, "its free names would become parameters of their own")
        node["properties"] = {name: _words_at_least(one) for name, one in node.get("properties", {}).items()}
        node["additionalProperties"] = _words_at_least(node.get("additionalProperties", False))
        inner += [*node["properties"].values(), node["additionalProperties"]]
    if "array" in types:
        if parameter.place == "cookie":
            raise SchemaError(path, "a list has no form in a cookie")
        if "prefixItems" in node:
            node["prefixItems"] = [_words_at_least(one) for one in node["prefixItems"]]
        node["items"] = _words_at_least(node.get("items", {}))
        inner += [*node.get("prefixItems", ()), node["items"]]
    if any(types_in(one) & {"object", "array"} for one in inner if isinstance(one, Mapping)):
        raise SchemaError(path, "lists and objects inside others have no form outside JSON and deepObject")
    return node


def _words_at_least(schema: Any) -> Any:
    """The schema, of words where it is of any value: a list in its place would be written as something else."""
    if schema is True:
        schema = {}
    if not isinstance(schema, Mapping):
        return schema
    return dict(schema) if schema.keys() & {"type", "enum", "anyOf"} else {**schema, "type": list(_WORDS)}


def types_in(schema: Mapping[str, Any]) -> set[str]:
    """The JSON types that a value may have."""
    found: set[str] = set()
    for node in schema.get("anyOf", [schema]):
        types = node.get("type", ())
        found.update([types] if isinstance(types, str) else types)
    return found


def is_json(media_type: object) -> bool:
    """application/json, one that ends in +json, or a range that JSON is in."""
    kind = str(media_type).split(";")[0].strip().lower()
    return kind in ("application/json", "application/*", "*/*", "text/json") or kind.endswith("+json")
