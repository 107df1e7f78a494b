"""What the formats share in reading answers, and in letting a model write text."""

from __future__ import annotations

import json
from typing import Any

from toolace_edge.errors import FormatError
from toolace_edge.formats.values import Rules
from toolace_edge.messages import ToolCall


def decoded(answer: str | bytes) -> str:
    """An answer's characters. A grammar writes whole ones; anything else is a fault worth hearing of."""
    if isinstance(answer, str):
        return answer
    try:
        return answer.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"The answer is not UTF-8 at byte {error.start}.") from error


def text_rule(rules: Rules, *, not_first: str = "") -> str:
    """Free text of bounded length, or nothing. `not_first`: a character that it may not begin with."""
    most = rules.limits.max_text
    if most < 1:
        return ""
    first = f"[^{not_first}]" if not_first else "(?s:.)"
    return rules.terminal(f"/{first}(?s:.){{0,{most - 1}}}/") + "?"


def _no_constant(name: str) -> Any:
    raise FormatError(f"{name} is not JSON.")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def json_call(text: str, at: int) -> tuple[ToolCall, int]:
    """The call that begins at a character as {"name": ..., "arguments": {...}}, and where it ends."""
    try:
        value, end = _DECODER.raw_decode(text, at)
    except (json.JSONDecodeError, RecursionError) as error:
        raise FormatError(f"No call in JSON at character {at} of {text[:200]!r}: {error}.") from error
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise FormatError(f"A call names its tool; this does not: {text[at : at + 200]!r}.")
    arguments = value.get("arguments", {})
    if not isinstance(arguments, dict):
        raise FormatError(f"The arguments of {value['name']} are not an object: {text[at : at + 200]!r}.")
    return ToolCall(value["name"], arguments), end
