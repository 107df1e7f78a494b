"""The body of an operation's request, JSON or a form, as arguments of its tool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolace_edge.errors import SchemaError
from toolace_edge.sources.base import MAX_NOTE
from toolace_edge.sources.openapi_document import Document
from toolace_edge.sources.openapi_parameters import Properties, is_json, read_style, types_in, writable
from toolace_edge.sources.openapi_request import BODY, Body
from toolace_edge.sources.openapi_schema import read_schema
from toolace_edge.sources.openapi_text import plain
from toolace_edge.sources.openapi_values import Parameter

_FORM = "application/x-www-form-urlencoded"


def read_body(
    document: Document, operation: Mapping[str, Any], where: str, taken: Properties
) -> tuple[Body | None, Properties, list[str]]:
    """The body, the arguments that it adds to those in `taken`, and which of these are required. Raises SchemaError."""
    path = f"{where}.requestBody"
    given = document.follow(operation.get("requestBody"), path)
    if given is None:
        return None, {}, []
    content = given.get("content") if isinstance(given, Mapping) else None
    if not isinstance(content, Mapping) or not content:
        raise SchemaError(f"{path}.content", "must be an object of media types")
    kind = next((name for name in content if is_json(name)), None) or next(filter(_is_form, content), None)
    if kind is None:
        raise SchemaError(f"{path}.content", f"has no JSON and no form, only {', '.join(content)}"[:200])
    media = content[kind] if isinstance(content[kind], Mapping) else {}
    schema = read_schema(document, media.get("schema", {}), f"{path}.schema")
    form = None
    if _is_form(kind):
        form, schema["properties"] = _read_form(schema, media.get("encoding") or {}, path)
    content_type = "application/json" if "*" in kind else kind
    required = given.get("required") is True
    members: Properties = schema.get("properties", {})
    spread = schema.get("type") == "object" and "enum" not in schema and schema.get("additionalProperties") is False
    if spread and not members.keys() & taken.keys() and (required or not schema["required"]):
        return Body(content_type, tuple(members), required, form), members, list(schema["required"])
    if BODY in taken:
        raise SchemaError(path, f"{BODY!r} is the name of a parameter too")
    if note := plain(given.get("description"), MAX_NOTE):
        schema.setdefault("description", note)
    return Body(content_type, None, required, form), {BODY: schema}, [BODY] if required else []


def _is_form(media_type: str) -> bool:
    return media_type.split(";")[0].strip().lower() == _FORM


def _read_form(schema: Mapping[str, Any], encoding: Any, path: str) -> tuple[dict[str, Parameter], Properties]:
    """How each member of a form is written, and the schema of what can be. Raises SchemaError."""
    if schema.get("type") != "object" or schema.get("additionalProperties") is not False:
        raise SchemaError(f"{path}.schema", "a form needs an object whose names are all given")
    if not isinstance(encoding, Mapping) or not all(isinstance(one, Mapping) for one in encoding.values()):
        raise SchemaError(f"{path}.encoding", "must be an object of objects")
    form: dict[str, Parameter] = {}
    members: Properties = {}
    for name, member in schema.get("properties", {}).items():
        at = f"{path}.encoding.{name}"
        parameter = _read_member(name, member, encoding.get(name, {}), at)
        form[name], members[name] = parameter, writable(member, parameter, at)
    return form, members


def _read_member(name: str, schema: Mapping[str, Any], given: Mapping[str, Any], path: str) -> Parameter:
    """By style where one of its keywords is there, and then as in a query; else by content type, JSON for an object."""
    if given.keys() & {"style", "explode", "allowReserved"}:
        style, explode = read_style(given, "body", path)
        return Parameter(name, name, "body", style, explode, allow_reserved=given.get("allowReserved") is True)
    types = types_in(schema)
    kind = given.get("contentType", "application/json" if "object" in types else "text/plain")
    if not is_json(kind) and kind != "text/plain":
        raise SchemaError(f"{path}.contentType", f"{kind!r:.60} is not JSON or plain text")
    if "object" in types and (not is_json(kind) or types - {"object", "null"}):
        raise SchemaError(path, "an object beside other values has no form of its own")
    if "array" in types and "contentType" in given:
        raise SchemaError(f"{path}.contentType", "of a list is not supported")
    return Parameter(name, name, "body", "form", True, is_json=is_json(kind))
