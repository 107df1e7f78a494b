"""The form of a bank file: families of tools, and requests for them with slots in which values are drawn.

    ## loans
    tool monthly_payment: Compute the fixed monthly payment of a loan.
    - principal: number = 2000..400000 ; Amount borrowed, in dollars.
    - rate: number = 1.5..14/1*0.01 ; Interest a year as a decimal, e.g. 0.05 for 5%.
    - insured: boolean? ; Whether the payment includes insurance.
    ? What do I pay a month on {principal} dollars at {rate}%, insurance included? => insured=true
    & Monthly payment for {principal} dollars at {rate1}% and at {rate2}%.
    ! Is it wise to take out a loan now?
    + Payment on {monthly_payment.principal} dollars at {monthly_payment.rate}%, and the weather in {forecast.city}.

`?` is one call of the tool above it, `&` several, `!` none, `+` calls of several tools of the family. After `=>` stand
the arguments that the words imply. Values are ranges, lists of `said -> held`, or kinds of synth_values.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from toolace_edge.errors import DataError
from toolace_edge.messages import Tool

KINDS = frozenset(
    "city country person first_name company date date_text time year email url id phrase word title".split()
)
_TYPES = frozenset("string integer number boolean enum string[] integer[] number[]".split())
_RANGE = re.compile(r"(-?\d+(?:\.\d+)?)\.\.(-?\d+(?:\.\d+)?)(?:/(\d))?(?:\*(\d*\.?\d+))?")
_PARAMETER = re.compile(r"- ([A-Za-z_][\w.-]*): *([a-z]+(?:\[\])?)(\?)?(?: *= *(.+?))? +; *(.*)")
_TOOL = re.compile(r"tool ([A-Za-z][A-Za-z0-9_.-]{0,63}): *(.+)")
_SLOT = re.compile(r"\{([^{}]*)\}")


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
    """`text` with slots `{0}`, `{1}` ...; `drawn` says which tool's parameter each is drawn for."""

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
    """Tools that are near each other, by name, and the requests for several of them."""

    title: str
    tools: dict[str, BankTool] = field(default_factory=dict)
    mixed: list[Request] = field(default_factory=list)


def read_families(lines: Iterable[str], name: str) -> list[Family]:
    """Parses one file. Raises DataError with the number of the first wrong line."""
    families: list[Family] = []
    head: list[str] = []  # the tool being read: its line and those of its parameters
    last = ""
    for number, line in enumerate(lines, 1):
        line = line.strip()
        try:
            if line.startswith("## "):
                families.append(Family(line[3:]))
                last = ""
            elif line.startswith("tool "):
                head = [line]
                last = _put_tool(families[-1], head)
            elif line.startswith("- "):
                head.append(line)
                last = _put_tool(families[-1], head)
            elif line.startswith(("? ", "& ", "! ", "+ ")):
                _put_request(families[-1], last, line[0], line[2:])
            elif line:
                raise ValueError("starts like no line of a bank")
        except (ValueError, KeyError, IndexError) as error:
            raise DataError(name, number, str(error) or "is out of place") from error
    return families


def _put_tool(family: Family, head: Sequence[str]) -> str:
    opening = _TOOL.fullmatch(head[0])
    if opening is None:
        raise ValueError("not `tool NAME: DESCRIPTION`")
    parameters = [_parameter(line) for line in head[1:]]
    names = [parameter.name for parameter in parameters]
    if len(set(names)) < len(names):
        raise ValueError("two parameters of one name")
    if len(head) == 1 and opening[1] in family.tools:
        raise ValueError(f"a second tool {opening[1]!r} in its family")
    tool = Tool(opening[1], opening[2], _schema(parameters))
    family.tools[opening[1]] = BankTool(tool, dict(zip(names, parameters, strict=True)))
    return opening[1]


def _parameter(line: str) -> Parameter:
    match = _PARAMETER.fullmatch(line)
    if match is None:
        raise ValueError("not `- NAME: TYPE[?] [= VALUES] ; DESCRIPTION`")
    name, kind, optional, values, description = match.groups()
    if kind not in _TYPES:
        raise ValueError(f"unknown type {kind!r}")
    if name[-1].isdigit():
        raise ValueError(f"the name {name!r} ends in a digit")
    if (values is None) != (kind == "boolean"):
        raise ValueError("a boolean has no values, everything else has")
    drawn = () if values is None else tuple(_value(item.strip(), kind.removesuffix("[]")) for item in values.split("|"))
    if kind == "enum" and not all(isinstance(value, Said) for value in drawn):
        raise ValueError("an enum needs a list of values")
    return Parameter(tuple(name.split(".")), kind, bool(optional), drawn, description)


def _value(text: str, kind: str) -> Values:
    if text.startswith("@"):
        if text[1:] not in KINDS:
            raise ValueError(f"unknown kind {text!r}")
        if kind in ("integer", "number") and text != "@year":
            raise ValueError(f"{text} makes no {kind}")
        return Kind(text[1:])
    if span := _RANGE.fullmatch(text):
        low, high, decimals, factor = span.groups()
        if float(low) >= float(high):
            raise ValueError(f"{text} is empty")
        if kind == "integer" and decimals:
            raise ValueError(f"{text} makes no {kind}")
        return Span(float(low), float(high), int(decimals or 0), float(factor or 1))
    said, _, held = (part.strip() for part in text.partition(" -> "))
    if not said:
        raise ValueError("an empty value")
    return Said(said, held_value(held or said, kind))


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
    return value


def _schema(parameters: Sequence[Parameter]) -> dict[str, Any]:
    root: dict[str, Any] = {"type": "object", "properties": {}, "required": []}
    for parameter in parameters:
        place = root
        for name in parameter.path[:-1]:
            inner = {"type": "object", "properties": {}, "required": []}
            if not parameter.optional and name not in place["required"]:
                place["required"].append(name)
            place = place["properties"].setdefault(name, inner)
        place["properties"][parameter.path[-1]] = _property(parameter)
        if not parameter.optional:
            place["required"].append(parameter.path[-1])
    return root


def _property(parameter: Parameter) -> dict[str, Any]:
    kind, text = parameter.type, {"description": parameter.description} if parameter.description else {}
    if kind == "enum":
        members = dict.fromkeys(value.held for value in parameter.values if isinstance(value, Said))
        return {"type": "string", "enum": list(members), **text}
    if kind.endswith("[]"):
        return {"type": "array", "items": {"type": kind[:-2]}, **text}
    return {"type": kind, **text}


def _put_request(family: Family, tool: str, mark: str, line: str) -> None:
    text, _, implied = (part.strip() for part in line.partition("=>"))
    if mark == "+":
        family.mixed.append(_mixed(family, text, implied))
    else:
        one = family.tools[tool]
        request = _of_one_tool(one, text, implied, mark)
        {"?": one.single, "&": one.several, "!": one.none}[mark].append(request)


def _of_one_tool(one: BankTool, text: str, implied: str, mark: str) -> Request:
    name = one.tool.name
    fixed: dict[int, dict[str, Any]] = {}  # by call; 0 is for all
    for key, value in _implied(implied):
        number, _, inner = key.partition(".") if mark == "&" and key[0].isdigit() else ("0", "", key)
        fixed.setdefault(int(number), {})[inner] = held_value(value, one.parameters[inner].type)
    slots: dict[int, dict[str, int]] = {}
    drawn: list[tuple[str, str]] = []

    def number_of(match: re.Match[str]) -> str:
        key, call = match[1], 0
        if key not in one.parameters and mark == "&" and key[-1:].isdigit():
            key, call = key[:-1], int(key[-1])
        if key not in one.parameters or one.parameters[key].type == "boolean":
            raise ValueError(f"no parameter with values is called {match[1]!r}")
        number = slots.setdefault(call, {}).setdefault(key, len(drawn))
        if number == len(drawn):
            drawn.append((name, key))
        return f"{{{number}}}"

    text = _SLOT.sub(number_of, text)
    if mark == "!":
        return Request(text, tuple(drawn), ())
    count = max([1, *slots, *fixed])
    if (count > 1) != (mark == "&"):
        raise ValueError(f"{count} calls in a line that starts with {mark}")
    calls = [
        Call(name, fixed.get(0, {}) | fixed.get(k, {}), slots.get(0, {}) | slots.get(k, {}))
        for k in range(1, count + 1)
    ]
    for call in calls:
        _check(call, one)
    return Request(text, tuple(drawn), tuple(calls))


def _mixed(family: Family, text: str, implied: str) -> Request:
    fixed: dict[str, dict[str, Any]] = {}  # by the name of a call: that of its tool, at times with #2
    slots: dict[str, dict[str, int]] = {}
    drawn: list[tuple[str, str]] = []

    def number_of(match: re.Match[str]) -> str:
        named = [_split(family, part) for part in match[1].split("=")]
        number = slots.get(named[0][0], {}).get(named[0][1], len(drawn))
        for name, parameter in named:
            slots.setdefault(name, {})[parameter] = number
        if number == len(drawn):
            drawn.append((named[0][0].partition("#")[0], named[0][1]))
        return f"{{{number}}}"

    text = _SLOT.sub(number_of, text)
    for key, value in _implied(implied):
        if key.endswith("()"):
            _ = family.tools[key[:-2].partition("#")[0]]
            fixed.setdefault(key[:-2], {})
            continue
        called, parameter = _split(family, key)
        kind = family.tools[called.partition("#")[0]].parameters[parameter].type
        fixed.setdefault(called, {})[parameter] = held_value(value, kind)
    names = list(dict.fromkeys([*slots, *fixed]))
    calls = [Call(name.partition("#")[0], fixed.get(name, {}), slots.get(name, {})) for name in names]
    if len({call.tool for call in calls}) < 2:
        raise ValueError("a line that starts with + calls two tools at least")
    for call in calls:
        _check(call, family.tools[call.tool])
    return Request(text, tuple(drawn), tuple(calls))


def _split(family: Family, key: str) -> tuple[str, str]:
    """`tool#2.parameter` in its two halves; names of tools may hold dots."""
    for name, one in family.tools.items():
        match = re.fullmatch(rf"({re.escape(name)}(?:#\d)?)\.(.+)", key)
        if match and match[2] in one.parameters:
            return match[1], match[2]
    raise ValueError(f"no tool and parameter of the family are called {key!r}")


def _implied(text: str) -> list[tuple[str, str]]:
    pairs = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        key, sign, value = (piece.strip() for piece in part.partition("="))
        if not sign and not key.endswith("()"):
            raise ValueError(f"after => stands name=value, not {part!r}")
        pairs.append((key, value))
    return pairs


def _check(call: Call, one: BankTool) -> None:
    held = {*call.fixed, *call.slots}
    if unknown := held - set(one.parameters):
        raise ValueError(f"{one.tool.name} has no parameter {sorted(unknown)[0]!r}")
    for name, value in call.fixed.items():
        parameter = one.parameters[name]
        if parameter.type == "enum" and value not in _property(parameter)["enum"]:
            raise ValueError(f"{value!r} is no member of {name}")
    for parameter in one.parameters.values():
        if not parameter.optional and parameter.name not in held:
            raise ValueError(f"{one.tool.name} requires {parameter.name!r}, which the line does not say")
