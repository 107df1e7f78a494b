"""What a bank file says: values, parameters, tools, requests with slots, and families of these."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from toolace_edge.messages import Tool

TURNS = " // "  # between the turns of a conversation


@dataclass(frozen=True, slots=True)
class Said:
    """One value: what the request says and what the call holds."""

    said: str
    held: Any


@dataclass(frozen=True, slots=True)
class Span:
    """Numbers from `low` to `high` of so many decimals; the call holds the number times `factor`."""

    low: float
    high: float
    decimals: int
    factor: float


@dataclass(frozen=True, slots=True)
class Kind:
    """Values of one of KINDS."""

    name: str


Values = Said | Span | Kind


@dataclass(frozen=True, slots=True)
class Parameter:
    """`path` are the names from the outermost object inwards."""

    path: tuple[str, ...]
    type: str
    optional: bool
    values: tuple[Values, ...]  # one of these is drawn; none for a boolean
    description: str

    @property
    def name(self) -> str:
        return ".".join(self.path)


@dataclass(frozen=True, slots=True)
class Call:
    """A call that a request asks for: its tool, what the words imply, and the slots (by number) that fill the rest."""

    tool: str
    fixed: Mapping[str, Any]
    slots: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Request:
    """`text` with slots `{0}`, `{1}` ...; `drawn` says which tool's parameter each is drawn for.

    A conversation's turns stand with TURNS between them.
    """

    text: str
    drawn: tuple[tuple[str, str], ...]
    calls: tuple[Call, ...]


@dataclass(slots=True)
class BankTool:
    """A tool with its parameters by name, and the requests that are for it alone."""

    tool: Tool
    parameters: dict[str, Parameter]
    single: list[Request] = field(default_factory=list)
    several: list[Request] = field(default_factory=list)
    none: list[Request] = field(default_factory=list)


@dataclass(slots=True)
class Family:
    """Tools that are near each other, by name, the requests for several of them, and conversations."""

    title: str
    tools: dict[str, BankTool] = field(default_factory=dict)
    mixed: list[Request] = field(default_factory=list)
    talks: list[Request] = field(default_factory=list)


def held_value(text: str, kind: str) -> Any:
    """The JSON value that `text` writes for a parameter of this type."""
    if kind in ("string", "enum"):
        return text.strip('"')
    try:
        value = json.loads(text.replace(",", "") if kind in ("integer", "number") else text)
    except ValueError:
        raise ValueError(f"{text!r} is no {kind}; `said -> held` writes what the call holds") from None
    wanted: Any = {"integer": int, "number": (int, float), "boolean": bool}.get(kind, list)
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind != "boolean"):
        raise ValueError(f"{text} is no {kind}")
    if kind.endswith("[]"):
        of: Any = {"integer[]": int, "number[]": (int, float)}.get(kind, str)
        if not all(isinstance(item, of) and not isinstance(item, bool) for item in value):
            raise ValueError(f"{text} is no {kind}")
    return value


def property_of(parameter: Parameter) -> dict[str, Any]:
    kind, text = parameter.type, {"description": parameter.description} if parameter.description else {}
    if kind == "enum":
        members = dict.fromkeys(value.held for value in parameter.values if isinstance(value, Said))
        return {"type": "string", "enum": list(members), **text}
    if kind.endswith("[]"):
        return {"type": "array", "items": {"type": kind[:-2]}, **text}
    return {"type": kind, **text}
