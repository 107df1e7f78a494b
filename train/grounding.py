"""Can an answer be known from what was said? Lines whose values come from elsewhere teach a model to invent them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .examples import Example

_WORD = re.compile(r"\w+")
_CLOCK = re.compile(r"\d\d:\d\d")


def is_grounded(example: Example) -> bool:
    """Every text among the arguments shares a word with the conversation, or has all its words in the tool's schema.

    A time of day need not: "6 am" is held as 06:00.
    """
    said = _words(" ".join(message.content for message in example.messages))
    tools = {tool.name: tool for tool in example.tools}
    for call in example.calls:
        shown = _words(str(tools[call.name].parameters)) if call.name in tools else set()
        for text in texts(dict(call.arguments)):
            words = _words(text)
            if words and not words & said and not words <= shown and not _CLOCK.fullmatch(text):
                return False
    return True


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))


def texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from texts(part)
