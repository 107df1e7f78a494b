"""The bank: written tools and requests (bank/*.txt, or a user's own files), as training lines with drawn values.

A small model learns to choose from tools that are near each other and requests that tell them apart. Both are written
down, which no program does well; the values are drawn, which nobody could write so many of.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from toolace_edge.messages import Message, Tool, ToolCall

from .bank_format import read_families
from .bank_types import TURNS, BankTool, Call, Family, Parameter, Request, Said, Span
from .examples import Example, flat_name
from .run_files import text_lines
from .several import LAST, join_requests, lower_start
from .synth_values import Value, ValueMaker, enumerated

Shown = tuple[Family, str]  # a tool, by the name it has in its family
FOLDER = Path(__file__).with_name("bank")
_OPENINGS = ("Hi, ", "Hello, ", "Hey, ", "Quick one: ", "Okay, ", "Hi there! ", "Good morning. ", "So, ", "hey ")
_ENDINGS = (" Thanks.", " Thank you!", " Thanks!", " Thx", " Thanks in advance.", " It's urgent.", " Cheers!")


class Bank:
    """Draws lines from `families`. Tools named in `but` (those of an evaluation) stay out, with their lines."""

    def __init__(self, families: Sequence[Family], values: ValueMaker, but: Collection[str] = ()) -> None:
        self.values, self.rng = values, values.rng
        hidden = {flat_name(name) for name in but}
        self.families = [one for family in families if (one := _without(family, hidden)).tools]

    def scene(self, lone: float, most: int = 2) -> tuple[list[Family], list[Shown]]:
        """A family, at times up to `most`, and which of their tools a line shows: one, `lone` often.

        A family comes up as often as it has tools: one with many near ones is the harder to choose from.
        """
        count = self.rng.randint(1, most) if self.rng.random() < 0.7 else 1
        drawn = self.rng.choices(self.families, [len(family.tools) for family in self.families], k=count)
        families = list({family.title: family for family in drawn}.values())
        shown = [(family, name) for family in families for name in family.tools]
        if self.rng.random() < lone:
            shown = [self.rng.choice(shown)]
        elif self.rng.random() < 0.5:
            shown = self.rng.sample(shown, self.rng.randint(min(2, len(shown)), len(shown)))
        return families, list({flat_name(name): (family, name) for family, name in shown}.values())

    def asked(self, shown: Sequence[Shown]) -> Example:
        """A request for one of the tools, for one of them several times, or for several; at times a conversation."""
        family, name = self.rng.choice(shown)
        form = self.rng.random()
        other: Example | None = None
        if family.talks and self.rng.random() < 0.25:
            other = self._one_of(family, family.talks)
        elif form < 0.2:
            other = self._one_of(family, family.tools[name].several)
        elif form < 0.36:
            other = self._one_of(family, family.mixed)
        elif form < 0.58 and len(shown) > 1:
            chosen = self.rng.sample(shown, min(len(shown), self.rng.choice((2, 2, 2, 3, 3, 4))))
            if self.rng.random() < 0.2:
                chosen.append(self.rng.choice(chosen))
            other = join_requests(self.rng, [self._part(*one) for one in chosen])
        if other is None or not all(_is_shown(tool, shown) for tool in other.tools):
            return self.single(family, name)
        return other

    def single(self, family: Family, name: str, *, plain: bool = False) -> Example:
        """A request for one call of the tool `name`; a plain one has no greeting or thanks."""
        return self._drawn(family, self.rng.choice(family.tools[name].single), plain=plain)

    def _part(self, family: Family, name: str) -> Example:
        """What a longer request asks of one tool: mostly one call, at times several."""
        written = family.tools[name].several
        if written and self.rng.random() < 0.25:
            return self._drawn(family, self.rng.choice(written), plain=True)
        return self.single(family, name, plain=True)

    def sibling(self, families: Sequence[Family], shown: Collection[str]) -> Example | None:
        """A request for a tool of `families` that is not among the `shown` names; None where all are."""
        others = [(family, name) for family in families for name in family.tools if name not in shown]
        return self.single(*self.rng.choice(others)) if others else None

    def unasked(self, family: Family) -> Example | None:
        """A request near the family's subject that none of its tools serves, if one is written."""
        return self._one_of(family, [request for one in family.tools.values() for request in one.none])

    def _one_of(self, family: Family, written: Sequence[Request]) -> Example | None:
        return self._drawn(family, self.rng.choice(written)) if written else None

    def _drawn(self, family: Family, request: Request, *, plain: bool = False) -> Example:
        values: list[Value] = []
        taken: set[tuple[str, str, str]] = set()
        for tool, name in request.drawn:
            parameter = family.tools[tool].parameters[name]
            for _ in range(20):  # calls of one request differ
                value = draw(parameter, self.values)
                key = (tool, name, json.dumps(value.value))
                if key not in taken:
                    break
            taken.add(key)
            values.append(value)
        text = re.sub(r"\{(\d+)\}", lambda match: values[int(match[1])].said, request.text)
        calls = tuple(_held(call, family.tools[call.tool], values) for call in request.calls)
        tools = tuple(family.tools[name].tool for name in dict.fromkeys(call.name for call in calls))
        turns = text.split(TURNS)
        if len(turns) == 1 and not plain:
            turns = [_typed(self.rng, text, request.text)]
        messages = [Message("assistant" if i % 2 else "user", turn) for i, turn in enumerate(turns)]
        return Example("bank", tools, tuple(messages), calls)


def _is_shown(tool: Tool, shown: Sequence[Shown]) -> bool:
    """Another family may have a tool of the same name: it is another tool."""
    return any(family.tools[name].tool is tool for family, name in shown)


def load_families(files: Iterable[Path] = ()) -> list[Family]:
    """Those of the files, else those that come along. Raises DataError where a file is not well formed."""
    return [
        family
        for file in files or sorted(FOLDER.glob("*.txt"))
        for family in read_families(text_lines(file), str(file))
    ]


def draw(parameter: Parameter, values: ValueMaker) -> Value:
    """A value for the parameter, of its type."""
    if not parameter.type.endswith("[]"):
        return _one(parameter, values)
    rng = values.rng
    items: list[Value] = []
    count, tries = rng.choice((2, 3, 3, 4, 5)), 0
    while len(items) < count:
        item, tries = _one(parameter, values), tries + 1
        if tries > 30 or item.value not in [other.value for other in items]:
            items.append(item)
    said = [item.said for item in items]
    if parameter.type != "string[]" and rng.random() < 0.3:
        text = rng.choice(("[{}]", "({})", "{}")).format(", ".join(said))
    else:
        text = enumerated(rng, said, LAST if count > 2 else (" and ", ", "))
    return Value([item.value for item in items], text)


def _one(parameter: Parameter, values: ValueMaker) -> Value:
    kind, rng = parameter.type.removesuffix("[]"), values.rng
    options = parameter.values
    wide = [option for option in options if not isinstance(option, Said)]
    option = rng.choice(wide if wide and rng.random() < 0.6 else options)
    if isinstance(option, Said):
        return Value(option.held, option.said)
    if isinstance(option, Span):
        return _number(rng, option, kind)
    made = values.of_kind(option.name)
    return Value(str(made.value), made.said) if kind == "string" else made


def _number(rng: random.Random, span: Span, kind: str) -> Value:
    number = round(rng.uniform(span.low, span.high), span.decimals)
    if not span.decimals:
        years = span.low < 1990 < span.high
        number = round(number, -rng.choice((0, 0, 1, 2))) if number > 1000 and not years else number
        number = int(min(max(number, span.low), span.high))
    said = f"{number:.{span.decimals}f}" if span.decimals else str(number)
    held = number if span.factor == 1 else round(number * span.factor, 10)
    if kind == "string":
        plain = f"{held:.10f}".rstrip("0").rstrip(".")  # never 3.473e+06
        return Value(plain if span.factor != 1 else said, said)
    if span.decimals:
        said = said.rstrip("0").rstrip(".") if rng.random() < 0.7 else said
    elif number >= 10_000 and rng.random() < 0.4:
        said = f"{number:,}"
    return Value(int(held) if float(held).is_integer() and (kind == "integer" or not span.decimals) else held, said)


def _held(call: Call, one: BankTool, values: Sequence[Value]) -> ToolCall:
    arguments: dict[str, Any] = {}
    for name, parameter in one.parameters.items():
        if name in call.fixed:
            value = call.fixed[name]
        elif name in call.slots:
            value = values[call.slots[name]].value
        else:
            continue
        place = arguments
        for part in parameter.path[:-1]:
            place = place.setdefault(part, {})
        place[parameter.path[-1]] = value
    return ToolCall(one.tool.name, arguments)


def _typed(rng: random.Random, text: str, template: str) -> str:
    """As people type: now and then a greeting, thanks, or neither capital nor full stop. Values stay as they are."""
    form = rng.random()
    if form < 0.06:
        return rng.choice(_OPENINGS) + (text if template.startswith("{") else lower_start(text))
    if template.endswith("}"):
        return text
    if form < 0.12:
        return (text if text[-1] in ".?!" else text + ".") + rng.choice(_ENDINGS)
    if form < 0.2:
        return (text if template.startswith("{") else lower_start(text)).rstrip(".?")
    return text


def _without(family: Family, hidden: Collection[str]) -> Family:
    kept = {name: one for name, one in family.tools.items() if flat_name(name) not in hidden and one.single}
    mixed, talks = ([one for one in written if _tools_of(one) <= set(kept)] for written in (family.mixed, family.talks))
    return Family(family.title, kept, mixed, talks)


def _tools_of(request: Request) -> set[str]:
    """Those that it calls, and those that only lend it values."""
    return {call.tool for call in request.calls} | {tool for tool, _ in request.drawn}


def unwritten(family: Family) -> list[str]:
    """What a family's tools lack: requests, or a parameter that no request says."""
    lacks = []
    for name, one in family.tools.items():
        written = (*one.single, *one.several, *family.mixed, *family.talks)
        calls = [call for request in written for call in request.calls]
        said = {key for call in calls if call.tool == name for key in (*call.fixed, *call.slots)}
        lacks += [f"{name}: no request says {key}" for key in one.parameters if key not in said]
        if len(one.single) < 3:
            lacks.append(f"{name}: {len(one.single)} lines that start with ?")
    return lacks
