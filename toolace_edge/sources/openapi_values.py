"""An argument's value as the text that stands for it in a path, a query, a header, a cookie or a form.

Values are written as RFC 6570 says, which OpenAPI's styles stand for (`form`, `simple`, `deepObject`, and lists with
spaces or pipes between the values). Everything but letters, digits and `-._~` is percent-encoded in the path, the
query and a form. `deepObject` is defined for objects of words only; lists and objects inside are written as qs, PHP
and Stripe read them: `items[0][price]=9`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, unquote

from toolace_edge.errors import CallError

Place = Literal["path", "query", "header", "cookie", "body"]

_BETWEEN = {"form": ",", "simple": ",", "spaceDelimited": "%20", "pipeDelimited": "%7C"}
_RESERVED_LEFT = ":/?@!$'()*,;[]"  # of allowReserved; `&`, `=`, `+` and `#` would end the value


@dataclass(frozen=True, slots=True)
class Parameter:
    """`argument` is its name in the tool's schema, `name` the one on the wire; `is_json` writes the value as JSON.

    A member of a form is one too, with `body` as its place.
    """

    argument: str
    name: str
    place: Place
    style: str
    explode: bool
    is_json: bool = False
    allow_reserved: bool = False


def pairs(parameter: Parameter, value: Any) -> list[str]:
    """`name=value` of a query or a form; none for null or an empty list, which RFC 6570 takes for undefined."""
    value = _defined(parameter, value)
    if value is None:
        return []
    name, left = encoded(parameter.name), _RESERVED_LEFT if parameter.allow_reserved else ""
    if parameter.is_json or not isinstance(value, list | Mapping):
        return [f"{name}={encoded(word(parameter, value), left)}"]
    if parameter.style == "deepObject":
        return list(_bracketed(parameter, name, value, left))
    if isinstance(value, Mapping):
        words = [(encoded(key), encoded(word(parameter, one), left)) for key, one in value.items()]
        if parameter.explode:
            return [f"{key}={one}" for key, one in words]
        return [f"{name}={_joined(parameter, [one for pair in words for one in pair])}"]
    listed = [encoded(word(parameter, one), left) for one in value]
    if parameter.explode:
        return [f"{name}={one}" for one in listed]
    return [f"{name}={_joined(parameter, listed)}"]


def _defined(parameter: Parameter, value: Any) -> Any:
    """The value without an object's null members; None where nothing is left. In JSON, the value itself."""
    if parameter.is_json:
        return value
    if isinstance(value, Mapping):
        value = {key: one for key, one in value.items() if one is not None}
    return None if value in ([], {}) else value


def is_defined(parameter: Parameter, value: Any) -> bool:
    """Whether there is anything to write: RFC 6570 takes null, an empty list and an empty object for undefined."""
    return _defined(parameter, value) is not None


def _bracketed(parameter: Parameter, name: str, value: Any, left: str) -> Iterator[str]:
    """Each word with the way to it: `name[key][0]=word`. CallError for a key that would end its brackets."""
    if value is None:
        return
    if not isinstance(value, list | Mapping):
        yield f"{name}={encoded(word(parameter, value), left)}"
        return
    for key, one in value.items() if isinstance(value, Mapping) else enumerate(value):
        if any(char in str(key) for char in "[]"):
            raise CallError(f"{parameter.argument} has the key {key!r:.60}, whose brackets would be read as an index")
        yield from _bracketed(parameter, f"{name}%5B{encoded(str(key))}%5D", one, left)


def _joined(parameter: Parameter, words: list[str]) -> str:
    """Several words as one text, which comes apart in the same places. CallError where it would not."""
    between = _BETWEEN[parameter.style]
    if any(between in word for word in words):
        raise CallError(f"{parameter.argument} holds a {unquote(between)!r}, which stands between its values")
    return between.join(words)


def simple(parameter: Parameter, value: Any, *, encode: bool) -> str:
    """A value in a path (encoded) or a header (as it is): words with commas between."""

    def text(one: Any) -> str:
        if parameter.is_json and not encode:
            return json.dumps(one, separators=(",", ":"))  # ASCII, as a header must be
        found = word(parameter, one)
        return encoded(found) if encode else _header_text(parameter, found)

    value = _defined(parameter, value)
    if parameter.is_json:
        return text(value)
    if isinstance(value, Mapping) and parameter.explode:
        return _joined(parameter, [f"{text(key)}={text(one)}" for key, one in value.items()])
    if isinstance(value, Mapping):
        return _joined(parameter, [text(part) for pair in value.items() for part in pair])
    return _joined(parameter, [text(one) for one in value]) if isinstance(value, list) else text(value)


def _header_text(parameter: Parameter, text: str) -> str:
    if parameter.place == "header" and not (text.isprintable() and text.isascii()):
        raise CallError(f"{parameter.argument} holds a character that a header cannot carry")
    return text


def word(parameter: Parameter, value: Any) -> str:
    """One value that is no list or object, as text; in a parameter that is JSON, any value."""
    if parameter.is_json:
        return json_text(value)
    if isinstance(value, list | Mapping):
        raise CallError(f"{parameter.argument} holds a list or an object in a place that has no form for it")
    return value if isinstance(value, str) else json_text(value)


def encoded(text: str, left: str = "") -> str:
    return quote(text, safe=left)


def json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
