"""One request that asks for several calls, as people put it: of one tool with other values, or of several tools."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from toolace_edge.messages import Message, ToolCall

from .examples import Example
from .made import Made, Slot
from .synth_values import Value, enumerated

if TYPE_CHECKING:
    from .synth import Synthesizer

_Row = Mapping[str, Value]
_AGAIN = ("and one with", "another with", "and another one with", "then for", "also for", "and the same for",
          "then with", "do it again with", "and also for", "plus one with", "and then", "as well as")  # fmt: skip
_FRAMES = (  # what stands before the first, those between, and the last
    ("First, ", "then ", "Finally, "), ("First, ", "Then ", "After that, "), ("1) ", "2) ", "and last: "),
    ("", "Also, ", "And "), ("", "Additionally, ", "Lastly, "), ("Please ", "Next, ", "And then "),
    ("I have some requests. ", "Second: ", "And finally, "), ("", "", ""), ("", "Another thing: ", "One more: "),
)  # fmt: skip
_STARTERS = frozenset(
    """a add are arrange as ask assign at book buy calculate call can cancel change check choose close compare compute
    convert could count create cut delete did display do does download draw estimate evaluate explain export fetch find
    for from get give has have help here hey how if in is it its left let list log look make mark measure move my
    need next no note now of on one open order our pause pick plan play please plot post print provide pull put
    record remind remove rename report reserve resize retrieve run save schedule search see send set share should show
    sort start stop submit suggest switch take tell that the there these this those to translate turn two update use
    verify was we what what's when where which who who's whose why will with work would write you your""".split()
)
LAST = (" and ", " and ", ", and ", ", ")  # before the last of a list
_NEXT = (". Also, ", ". Then ", ". Next, ", ". After that, ", ". Finally, ", ". ", "; ", ", and ", " and ",
         " and then ", ", then ", " and also ", ". Additionally, ", ". I also want to know: ",
         ", after that ", ". And ")  # fmt: skip


def of_one_tool(synth: Synthesizer, made: Made, count: int) -> Example:
    """`count` calls of `made`: at least one of its values differs from call to call, the others may be said once."""
    rng = synth.rng
    said = [slot for slot in made.slots if slot.required or rng.random() < 0.3]
    varying = _varying(rng, said)
    fixed = {slot.name: synth.values.make(slot.noun.kind, slot.noun.choices) for slot in said if slot not in varying}
    rows: list[dict[str, Value]] = []
    for _ in range(8 * count):
        row = {slot.name: synth.values.make(slot.noun.kind, slot.noun.choices) for slot in varying}
        if len(rows) < count and row not in rows:
            rows.append(row)
    text = _asked(synth, made, [slot for slot in said if slot not in varying], fixed, varying, rows)
    names = [slot.name for slot in said]
    calls = tuple(ToolCall(made.tool.name, {n: (fixed | row)[n].value for n in names}) for row in rows)
    return Example("synth_parallel", (made.tool,), (Message("user", text),), calls)


def of_several_tools(synth: Synthesizer, made: Sequence[Made]) -> Example | None:
    """A call of each of `made` in turn; one may be there twice."""
    parts = []
    for one in made:
        got = synth.request(one)
        if got is None:
            return None
        call = ToolCall(one.tool.name, got[1])
        parts.append(Example("synth_several", (one.tool,), (Message("user", got[0]),), (call,)))
    return join_requests(synth.rng, parts)


def join_requests(rng: random.Random, parts: Sequence[Example]) -> Example:
    """One request out of those of `parts`, each of one user turn, and their calls one after the other."""
    said = [part.request.strip() for part in parts]
    if rng.random() < 0.35:
        first, between, last = rng.choice(_FRAMES)
        openings = [first, *[between] * (len(said) - 2), last]
        whole = [one if one.endswith((".", "?", "!")) else one + "." for one in said]
        text = " ".join(o + lower_start(one) if o else one for o, one in zip(openings, whole, strict=True))
    else:
        text = rng.choice(("", "", "", "I need two things: " if len(said) == 2 else "I need a few things. "))
        said = [_open_ended(one, part.calls) for one, part in zip(said, parts, strict=True)]
        text += said[0]
        for one in said[1:]:
            joint = rng.choice(_NEXT)
            starts = joint.endswith(". ") or joint == ". And "
            text += joint + (one if starts and rng.random() < 0.8 else lower_start(one))
        text += rng.choice(("", ".", ".", "?"))
    tools = tuple({tool.name: tool for part in parts for tool in part.tools}.values())
    calls = tuple(call for part in parts for call in part.calls)
    return Example(f"{parts[0].source}_joined", tools, (Message("user", text),), calls)


def _open_ended(text: str, calls: Sequence[ToolCall]) -> str:
    """The text without its full stop or question mark, which stays where a value ends with it."""
    values = [value for call in calls for value in call.arguments.values() if isinstance(value, str)]
    return text if any(value and text.endswith(value) for value in values) else text.rstrip(".?")


def lower_start(text: str) -> str:
    """The text without a capital at its beginning, where the first word is a common one: names keep theirs."""
    first = text.split(" ", 1)[0].rstrip(",'")
    return text[0].lower() + text[1:] if first.lower() in _STARTERS and not first.isupper() else text


def _varying(rng: random.Random, said: Sequence[Slot]) -> list[Slot]:
    """The slots whose values differ: mostly one, at times two or all."""
    telling = [slot for slot in said if slot.noun.kind != "bool" and len(slot.noun.choices) != 1] or list(said)
    form = rng.random()
    if form < 0.3:
        return list(said)
    chosen = rng.sample(telling, min(len(telling), 1 if form < 0.75 else 2))
    return [slot for slot in said if slot in chosen]


def _asked(
    synth: Synthesizer, made: Made, once: Sequence[Slot], fixed: _Row, varying: Sequence[Slot], rows: Sequence[_Row]
) -> str:
    rng = synth.rng
    common = [synth.phrase(slot, fixed[slot.name]) for slot in once]
    listed = all(slot.noun.kind != "bool" and not slot.noun.kind.startswith("list_") for slot in varying)
    if listed and (len(varying) == 1 or (len(varying) == 2 and rng.random() < 0.6)):
        lists = [enumerated(rng, [row[slot.name].said for row in rows], LAST) for slot in varying]
        phrases = [synth.phrase(slot, Value(None, said)) for slot, said in zip(varying, lists, strict=True)]
        if len(varying) == 2 and rng.random() < 0.7:
            phrases[-1] += rng.choice((" respectively", ", respectively"))
        return synth.sentence(made, [*common, *phrases] if rng.random() < 0.5 else [*phrases, *common])
    parts = [" ".join(synth.phrase(slot, row[slot.name]) for slot in varying) for row in rows]
    if rng.random() < 0.55:
        first = synth.sentence(made, [*common, parts[0]] if rng.random() < 0.5 else [parts[0], *common])
        others = [f"{rng.choice((', ', '; ', ' ', '. '))}{rng.choice(_AGAIN)} {part}" for part in parts[1:]]
        return first.rstrip(".?") + "".join(others)
    joint = rng.choice((", and ", "; ", ", then ", " and also ", " and ", ". Also ", " and "))
    text = synth.sentence(made, [*common, joint.join(parts)] if rng.random() < 0.7 else [joint.join(parts), *common])
    return rng.choice(("", "", "", f"{len(rows)} times: ", "For each: ")) + text
