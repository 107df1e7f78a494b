"""An operation of an OpenAPI document and a call's arguments -> the bytes of one HTTP request.

Values are written as RFC 6570 says, which OpenAPI's styles stand for (`form`, `simple`, `deepObject`, and lists with
spaces or pipes between the values). Everything but letters, digits and `-._~` is percent-encoded in the path and the
query. A path argument can never leave its place: it is not empty, and no part of it is `.` or `..`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, unquote

from toolace_edge.errors import CallError
from toolace_edge.messages import Tool
from toolace_edge.sources.openapi_security import Alternative, Credentials

Place = Literal["path", "query", "header", "cookie"]

BODY = "body"  # the argument that holds a body which does not stand among the others
_BETWEEN = {"form": ",", "simple": ",", "spaceDelimited": "%20", "pipeDelimited": "%7C"}
_RESERVED_LEFT = ":/?@!$'()*,;[]"  # of allowReserved; `&`, `=`, `+` and `#` would end the value
_IN_LITERAL_PATHS = "/:@!$&'()*+,;=-._~%"
TEMPLATE = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class Parameter:
    """`argument` is its name in the tool's schema, `name` the one on the wire; `is_json` writes the value as JSON."""

    argument: str
    name: str
    place: Place
    style: str
    explode: bool
    is_json: bool = False
    allow_reserved: bool = False


@dataclass(frozen=True, slots=True)
class Body:
    """`arguments` stand among the tool's own; None: the whole body is the one argument `body`."""

    content_type: str
    arguments: tuple[str, ...] | None
    required: bool


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
    pairs = [pair for each in operation.parameters if each.place == "query" for pair in _query(each, arguments)]
    pairs += [f"{_encoded(name)}={_encoded(value)}" for name, value in sent_along.query.items()]
    headers = {"Accept": "application/json, */*;q=0.5"}
    cookies = dict(sent_along.cookies)
    for each in operation.parameters:
        value = arguments.get(each.argument)
        if value is None or each.place not in ("header", "cookie"):
            continue
        if each.place == "header":
            headers[each.name] = _simple(each, value, encode=False)
        else:
            cookies.setdefault(each.name, _encoded(_word(each, value)))
    headers |= sent_along.headers
    if cookies:
        headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
    body = _body(operation.body, arguments)
    if body is not None and operation.body is not None:
        headers["Content-Type"] = operation.body.content_type
    return Request(operation.method, f"{url}?{'&'.join(pairs)}" if pairs else url, headers, body)


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
    encoded = "" if value is None else _simple(parameter, value, encode=True)
    text = unquote(encoded)
    if not text or any(part in (".", "..") for part in re.split(r"[/\\]", text)):
        raise CallError(f"{parameter.argument} is {text!r:.60}, which cannot be a part of a path")
    return encoded


def _query(parameter: Parameter, arguments: Mapping[str, Any]) -> list[str]:
    """`name=value` pairs; none for what is absent, null or an empty list, which RFC 6570 takes for undefined."""
    value = arguments.get(parameter.argument)
    if value is None or (value in ([], {}) and not parameter.is_json):
        return []
    name, left = _encoded(parameter.name), _RESERVED_LEFT if parameter.allow_reserved else ""
    if parameter.is_json or not isinstance(value, list | Mapping):
        return [f"{name}={_encoded(_word(parameter, value), left)}"]
    if isinstance(value, Mapping):
        words = [(_encoded(key), _encoded(_word(parameter, one), left)) for key, one in value.items()]
        if parameter.style == "deepObject":
            return [f"{name}%5B{key}%5D={word}" for key, word in words]
        if parameter.explode:
            return [f"{key}={word}" for key, word in words]
        return [f"{name}={_joined(parameter, [word for pair in words for word in pair])}"]
    listed = [_encoded(_word(parameter, one), left) for one in value]
    if parameter.explode:
        return [f"{name}={word}" for word in listed]
    return [f"{name}={_joined(parameter, listed)}"]


def _joined(parameter: Parameter, words: list[str]) -> str:
    """Several words as one text, which comes apart in the same places. CallError where it would not."""
    between = _BETWEEN[parameter.style]
    if any(between in word for word in words):
        raise CallError(f"{parameter.argument} holds a {unquote(between)!r}, which stands between its values")
    return between.join(words)


def _simple(parameter: Parameter, value: Any, *, encode: bool) -> str:
    """A value in a path (encoded) or a header (as it is): words with commas between."""

    def word(one: Any) -> str:
        text = _word(parameter, one)
        return _encoded(text) if encode else _header_text(parameter, text)

    if parameter.is_json:
        return word(value)
    if isinstance(value, Mapping) and parameter.explode:
        return _joined(parameter, [f"{word(key)}={word(one)}" for key, one in value.items()])
    if isinstance(value, Mapping):
        return _joined(parameter, [word(part) for pair in value.items() for part in pair])
    return _joined(parameter, [word(one) for one in value]) if isinstance(value, list) else word(value)


def _header_text(parameter: Parameter, text: str) -> str:
    if parameter.place == "header" and not (text.isprintable() and text.isascii()):
        raise CallError(f"{parameter.argument} holds a character that a header cannot carry")
    return text


def _word(parameter: Parameter, value: Any) -> str:
    """One value that is no list or object, as text; in a parameter that is JSON, any value."""
    if parameter.is_json:
        return _json(value)
    if isinstance(value, list | Mapping):
        raise CallError(f"{parameter.argument} holds a list or an object in a place that has no form for it")
    return value if isinstance(value, str) else _json(value)


def _encoded(text: str, left: str = "") -> str:
    return quote(text, safe=left)


def _body(body: Body | None, arguments: Mapping[str, Any]) -> bytes | None:
    if body is None:
        return None
    if body.arguments is None:
        return _json(arguments[BODY]).encode() if BODY in arguments else None
    members = {name: arguments[name] for name in body.arguments if name in arguments}
    return _json(members).encode() if members or body.required else None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
