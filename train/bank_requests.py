"""The lines of a bank file that are requests: their slots, and the calls that they ask for."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from .bank_types import TURNS, BankTool, Call, Family, Request, held_value, property_of

_SLOT = re.compile(r"\{([^{}]*)\}")
NOTHING = "nothing"


def put_request(family: Family, tool: str, mark: str, line: str) -> None:
    text, _, implied = (part.strip() for part in line.partition("=>"))
    if mark == "+":
        family.mixed.append(_mixed(family, text, implied))
    elif mark == "~":
        family.talks.append(_talk(family, text, implied))
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
    for k, told in slots.items():  # a number's own value may take the place of one that is for all, and no other
        _refuse_twice(told, {*fixed.get(0, {}), *fixed.get(k, {})})
    calls = [
        Call(name, fixed.get(0, {}) | fixed.get(k, {}), slots.get(0, {}) | slots.get(k, {}))
        for k in range(1, count + 1)
    ]
    for call in calls:
        _check(call, one)
    return Request(text, tuple(drawn), tuple(calls))


def _mixed(family: Family, text: str, implied: str) -> Request:
    request = _of_family(family, text, implied)
    if len({call.tool for call in request.calls}) < 2:
        raise ValueError("a line that starts with + calls two tools at least")
    for call in request.calls:
        _check(call, family.tools[call.tool])
    return request


def _talk(family: Family, text: str, implied: str) -> Request:
    turns = text.split(TURNS)
    if len(turns) < 3 or len(turns) % 2 == 0 or not all(turn.strip() for turn in turns):
        raise ValueError(f"a conversation has the user's turn first and last, and{TURNS}between turns")
    request = _of_family(family, text, "" if implied == NOTHING else implied)
    if implied == NOTHING:
        return Request(request.text, request.drawn, ())
    named = {key[:-2] for key, _ in _implied(implied) if key.endswith("()")}
    calls = tuple(call for call in request.calls if not named or call.tool in named)
    if len(calls) != 1:
        raise ValueError(f"{len(calls)} calls in a line that starts with ~; `=> tool()` says which one is meant")
    _check(calls[0], family.tools[calls[0].tool])
    return Request(request.text, request.drawn, calls)


def _of_family(family: Family, text: str, implied: str) -> Request:
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
    for name, told in slots.items():
        _refuse_twice(told, fixed.get(name, {}))
    names = list(dict.fromkeys([*slots, *fixed]))
    calls = [Call(name.partition("#")[0], fixed.get(name, {}), slots.get(name, {})) for name in names]
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


def _refuse_twice(slots: Collection[str], fixed: Collection[str]) -> None:
    """A value that is drawn, and another that the words imply: the call would contradict the words."""
    if twice := [name for name in slots if name in fixed]:
        raise ValueError(f"{twice[0]!r} stands in a slot and after => for the same call")


def _check(call: Call, one: BankTool) -> None:
    held = {*call.fixed, *call.slots}
    if unknown := held - set(one.parameters):
        raise ValueError(f"{one.tool.name} has no parameter {sorted(unknown)[0]!r}")
    for name, value in call.fixed.items():
        parameter = one.parameters[name]
        if parameter.type == "enum" and value not in property_of(parameter)["enum"]:
            raise ValueError(f"{value!r} is no member of {name}")
    for parameter in one.parameters.values():
        if not parameter.optional and parameter.name not in held:
            raise ValueError(f"{one.tool.name} requires {parameter.name!r}, which the line does not say")
