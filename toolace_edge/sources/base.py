"""What every source gives: tools whose calls are handed on as JSON, and names and texts that fit a prompt."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from toolace_edge.messages import Tool

MAX_NAME = 64  # characters of a tool's name
MAX_DESCRIPTION = 400  # characters of a tool's description: strangers write pages, a prompt has room for sentences
MAX_NOTE = 200  # characters of an argument's description
CALL_TIMEOUT_S = 25.0  # below the executor's own limit, so that the call is ended and not only left behind

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class SourceTool:
    """A tool of a server: the executor gives `call` the arguments as they are and takes the text that comes back.

    `call` raises CallError with what the model shall read.
    """

    tool: Tool
    call: Callable[[Mapping[str, Any]], str]

    def __call__(self, arguments: Mapping[str, Any]) -> str:
        return self.call(arguments)


def valid_name(text: str, taken: Collection[str] = ()) -> str:
    """A tool's name as near to `text` as the rules for names allow, with a number where it is taken."""
    name = _NOT_IN_NAMES.sub("_", text).strip("_")[:MAX_NAME] or "tool"
    for number in range(2, len(taken) + 3):
        if name not in taken:
            break
        suffix = f"_{number}"
        name = _NOT_IN_NAMES.sub("_", text).strip("_")[: MAX_NAME - len(suffix)] + suffix
    return name


def shorten(text: object, limit: int) -> str:
    """The text on one line, cut between words where it is longer than `limit` characters."""
    words = " ".join(text.encode("utf-8", "replace").decode().split()) if isinstance(text, str) else ""
    if len(words) <= limit:
        return words
    return words[: limit - 1].rsplit(" ", 1)[0].rstrip(",;:") + "…"
