"""An operation of an OpenAPI document and a call's arguments -> the bytes of one HTTP request.

How each value is written is openapi_values.py's. A path argument can never leave its place: it is not empty, and no
part of it is `.` or `..`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from toolace_edge.errors import CallError
from toolace_edge.messages import Tool
from toolace_edge.sources.openapi_security import Alternative, Credentials
from toolace_edge.sources.openapi_values import Parameter, encoded, is_defined, json_text, pairs, simple, word

BODY = "body"  # the argument that holds a body which does not stand among the others
_IN_LITERAL_PATHS = "/:@!$&'()*+,;=-._~%"
TEMPLATE = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class Body:
    """`arguments` stand among the tool's own; None: the whole body is the one argument `body`.

    `form` says how each member of a form is written, None that the body is JSON.
    """

    content_type: str
    arguments: tuple[str, ...] | None
    required: bool
    form: Mapping[str, Parameter] | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """A tool and how it is called. `base_url` is None where the document names no server."""

    tool: Tool
    method: str
    path: str
    base_url: str | None
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    security: tuple[Alternative, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None


def build_request(
    operation: Operation, arguments: Mapping[str, Any], base_url: str, sent_along: Credentials
) -> Request:
    """The request of a call whose arguments obey the tool's schema. CallError for a value that has no place."""
    url = base_url.rstrip("/") + _path(operation, arguments)
    in_query = [each for each in operation.parameters if each.place == "query" and each.name not in sent_along.query]
    query = [pair for each in in_query for pair in pairs(each, arguments.get(each.argument))]
    query += [f"{encoded(name)}={encoded(value)}" for name, value in sent_along.query.items()]
    headers = {"Accept": "application/json, */*;q=0.5"}
    cookies = dict(sent_along.cookies)
    for each in operation.parameters:
        value = arguments.get(each.argument)
        if each.place not in ("header", "cookie") or not is_defined(each, value):
            continue
        if each.place == "header":
            headers[each.name] = simple(each, value, encode=False)
        else:
            cookies.setdefault(each.name, encoded(word(each, value)))
    headers |= sent_along.headers
    if cookies:
        key = next((name for name in headers if name.lower() == "cookie"), "Cookie")  # a credential may be one whole
        written = [f"{name}={value}" for name, value in cookies.items()]
        headers[key] = "; ".join([headers[key], *written] if key in headers else written)
    body = _body(operation.body, arguments)
    if body is not None and operation.body is not None:
        headers["Content-Type"] = operation.body.content_type
    return Request(operation.method, f"{url}?{'&'.join(query)}" if query else url, headers, body)


def _path(operation: Operation, arguments: Mapping[str, Any]) -> str:
    found = {each.name: each for each in operation.parameters if each.place == "path"}
    pieces = TEMPLATE.split(operation.path)  # literal, name, literal, name, ..., literal
    path = "".join(
        _segment(found[piece], arguments) if i % 2 else quote(piece, safe=_IN_LITERAL_PATHS)
        for i, piece in enumerate(pieces)
    )
    if any(segment in (".", "..") for segment in path.split("/")):
        raise CallError(f"these arguments make the path {path!r:.80}, which leads elsewhere")
    return path


def _segment(parameter: Parameter, arguments: Mapping[str, Any]) -> str:
    value = arguments.get(parameter.argument)
    segment = "" if not is_defined(parameter, value) else simple(parameter, value, encode=True)
    text = unquote(segment)
    if not text or any(part in (".", "..") for part in re.split(r"[/\\]", text)):
        raise CallError(f"{parameter.argument} is {text!r:.60}, which cannot be a part of a path")
    return segment


def _body(body: Body | None, arguments: Mapping[str, Any]) -> bytes | None:
    if body is None:
        return None
    if body.arguments is None:
        return _written(body, arguments[BODY]) if BODY in arguments else None
    members = {name: arguments[name] for name in body.arguments if name in arguments}
    return _written(body, members) if members or body.required else None


def _written(body: Body, value: Any) -> bytes:
    if body.form is None:
        return json_text(value).encode()
    return "&".join(pair for name, one in value.items() for pair in pairs(body.form[name], one)).encode()
