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
    ~ I need a loan. // How much? // {monthly_payment.principal} dollars, and {monthly_payment.rate}% is fine.

`?` is one call of the tool above it, `&` several, `!` none, `+` calls of several tools of the family. `~` is a
conversation, whose last turn, the user's, asks for one call, or for none (`=> nothing`); where it has slots of several
tools, `=> monthly_payment()` says which is called. After `=>` stand the arguments that the words imply. Values are
ranges, lists of `said -> held`, or kinds of synth_values.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from toolace_edge.errors import DataError
from toolace_edge.messages import Tool

from .bank_requests import put_request
from .bank_types import BankTool, Family, Kind, Parameter, Said, Span, Values, held_value, property_of

KINDS = frozenset(
    "city country person first_name company date date_text time year email url id phrase word title".split()
)
_TYPES = frozenset("string integer number boolean enum string[] integer[] number[]".split())
_RANGE = re.compile(r"(-?\d+(?:\.\d+)?)\.\.(-?\d+(?:\.\d+)?)(?:/(\d))?(?:\*(\d*\.?\d+))?")
_PARAMETER = re.compile(r"- ([A-Za-z_][\w.-]*): *([a-z]+(?:\[\])?)(\?)?(?: *= *(.+?))? +; *(.*)")
_TOOL = re.compile(r"tool ([A-Za-z][A-Za-z0-9_.-]{0,63}): *(.+)")


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
                head, last = [], ""
            elif line.startswith("tool "):
                head = [line]
                last = _put_tool(families[-1], head)
            elif line.startswith("- "):
                if not head:
                    raise ValueError("a parameter stands right below its tool, before the requests")
                head.append(line)
                last = _put_tool(families[-1], head)
            elif line.startswith(("? ", "& ", "! ", "+ ", "~ ")):
                put_request(families[-1], last, line[0], line[2:])
                head = []
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
        if kind == "integer" and (decimals or not float(factor or 1).is_integer()):
            raise ValueError(f"{text} makes no {kind}")
        if not decimals and not (float(low).is_integer() and float(high).is_integer()):
            raise ValueError(f"{text} is drawn without decimals; {low}..{high}/1 has one")
        return Span(float(low), float(high), int(decimals or 0), float(factor or 1))
    said, _, held = (part.strip() for part in text.partition(" -> "))
    if not said:
        raise ValueError("an empty value")
    return Said(said, held_value(held or said, kind))


def _schema(parameters: Sequence[Parameter]) -> dict[str, Any]:
    root: dict[str, Any] = {"type": "object", "properties": {}, "required": []}
    for parameter in parameters:
        place = root
        for name in parameter.path[:-1]:
            inner = {"type": "object", "properties": {}, "required": []}
            if not parameter.optional and name not in place["required"]:
                place["required"].append(name)
            place = place["properties"].setdefault(name, inner)
        place["properties"][parameter.path[-1]] = property_of(parameter)
        if not parameter.optional:
            place["required"].append(parameter.path[-1])
    return root
