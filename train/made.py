"""A made tool and what its requests are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from toolace_edge.messages import Tool


@dataclass(frozen=True, slots=True)
class Noun:
    """A parameter: how people call it, what its values are, their units, a closed list where there is one."""

    words: tuple[str, ...]
    kind: str
    units: tuple[str, ...]
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Slot:
    """A parameter of one made tool."""

    name: str
    noun: Noun
    word: str
    schema: dict[str, Any]
    required: bool


@dataclass(frozen=True, slots=True)
class Made:
    """A made tool with what is needed to make requests for it."""

    tool: Tool
    verb: str
    thing: str
    slots: tuple[Slot, ...]
    family: str = ""  # what others of its kind share
