"""Made-up tools and requests for them, for what found data lacks: numbers with units, arrays, booleans, enums, nested
objects, optional arguments left out, the same tool several times, and requests that lack something required.

A tool is an action on a thing plus parameters; a parameter is a noun, a kind of value and units. The request says the
values in its own order and words, the gold call says them in the schema's. Everything is drawn from one seeded
`random.Random`, so a corpus is a function of its seed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toolace_edge.messages import Message, Tool, ToolCall

from .api_tools import ApiTools
from .examples import Example
from .made import Made, Noun, Slot
from .several import of_one_tool
from .synth_values import Value, ValueMaker

BANK = Path(__file__).with_name("synth_bank.txt")


def _read_bank() -> tuple[list[Noun], list[tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]]]:
    """The bank: `noun|other noun ; kind ; unit|unit ; choice|choice` lines, then `verbs > things > nouns` lines."""
    nouns, actions = [], []
    for line in BANK.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        if ">" in line:
            verbs, things, tied = (tuple(x.strip() for x in part.split("|") if x.strip()) for part in line.split(">"))
            actions.append((verbs, things, tied))
        else:
            words, kind, units, choices = (part.strip() for part in (line + ";;;").split(";")[:4])
            nouns.append(
                Noun(
                    tuple(words.split("|")),
                    kind,
                    tuple(filter(None, units.split("|"))),
                    tuple(filter(None, choices.split("|"))),
                )
            )
    return nouns, actions


class Synthesizer:
    """Makes tools and examples. `words` are nouns for names that no bank could list; the others are ValueMaker's."""

    def __init__(
        self,
        rng: random.Random,
        words: Sequence[str],
        phrases: Sequence[str],
        lexicon: Sequence[str],
        apis: ApiTools | None = None,
    ) -> None:
        self.rng = rng
        self.apis = apis
        self.words = words
        self.values = ValueMaker(rng, phrases, lexicon)
        self.nouns, self.actions = _read_bank()
        self.by_word = {noun.words[0]: noun for noun in self.nouns}

    # --- tools -----------------------------------------------------------------------------------------------------

    def make_tool(self, near: Made | None = None) -> Made:
        """A tool; with `near`, one about another thing of the same kind."""
        rng = self.rng
        if self.apis is not None and (near.family if near is not None else rng.random() < 0.6):
            return self.apis.make(near)
        verbs, things, tied = rng.choice(self.actions)
        if near is not None:
            alike = [action for action in self.actions if near.verb in action[0]]
            verbs, things, tied = next((action for action in alike if near.thing in action[1]), alike[0])
            things = tuple(t for t in things if not set(t.split()) & set(near.thing.split())) or things
        verb, thing = rng.choice(verbs), rng.choice(things)
        if rng.random() < 0.25:
            thing = rng.choice(self.words) + (" " + rng.choice(self.words) if rng.random() < 0.3 else "")
        count = rng.choices((1, 2, 3, 4, 5, 6), (14, 28, 28, 16, 9, 5))[0]
        pool = [self.by_word[w] for w in tied if w in self.by_word]
        rng.shuffle(pool)
        nouns = pool[: count if rng.random() < 0.75 else count // 2]
        while len(nouns) < count:
            nouns.append(rng.choice(self.nouns) if rng.random() < 0.6 else self._free_noun())
        slots = self._slots(nouns)
        tool = Tool(self._tool_name(verb, thing), self._describe(verb, thing), _parameters(slots))
        return Made(tool, verb, thing, slots)

    def _free_noun(self) -> Noun:
        kind = self.rng.choices(
            ("phrase", "int", "float", "word", "name", "bool", "list_word", "list_num", "id"),
            (24, 18, 12, 14, 8, 6, 7, 7, 4),
        )[0]
        words = self.rng.choice(self.words)
        if self.rng.random() < 0.4:
            words = self.rng.choice(self.words) + " " + words
        return Noun((words,), kind, (), ())

    def _slots(self, nouns: Sequence[Noun]) -> tuple[Slot, ...]:
        rng, slots, seen = self.rng, [], set()
        style = rng.choice(("snake", "snake", "snake", "camel", "kebab", "flat"))
        for i, noun in enumerate(nouns):
            word = rng.choice(noun.words)
            shown = word + (" " + rng.choice(("name", "value", "type", "id", "code")) if rng.random() < 0.04 else "")
            name = _cased(shown.split(), style)
            if name in seen:
                continue
            seen.add(name)
            schema = self._schema(noun)
            if rng.random() < 0.8:
                schema["description"] = self._parameter_text(noun)
            required = i == 0 or rng.random() < 0.7
            if not required and rng.random() < 0.4 and "enum" not in schema:
                schema["default"] = self.values.make(noun.kind, noun.choices).value
            slots.append(Slot(name, noun, word, schema, required))
        rng.shuffle(slots)
        if rng.random() < 0.6:
            slots.sort(key=lambda slot: not slot.required)
        return tuple(slots)

    def _schema(self, noun: Noun) -> dict[str, Any]:
        return self.values.schema(noun.kind, noun.choices)

    def _parameter_text(self, noun: Noun) -> str:
        rng = self.rng
        other = rng.choice(noun.words)
        unit = f" in {rng.choice(noun.units)}" if noun.units and rng.random() < 0.5 else ""
        text = rng.choice(
            ("The {}{}.", "The {}{}", "{}{}", "{}{} to use", "Value of the {}{}.", "The {}{} for the request.")
        ).format(other, unit)
        if noun.choices and rng.random() < 0.3:
            text += " One of " + ", ".join(noun.choices[:4])
        elif rng.random() < 0.1:
            text += f" (e.g. {self.values.make(noun.kind, noun.choices).said})"
        return text[0].upper() + text[1:]

    def _tool_name(self, verb: str, thing: str) -> str:
        rng = self.rng
        words = thing.split()
        first = rng.choice((verb, verb, verb, rng.choice(("get", "find", "do", "api", "my"))))
        style = rng.choice(("snake", "snake", "snake", "camel", "pascal", "dot"))
        if style == "dot":
            return f"{_cased(words[-1:], 'snake')}.{_cased([*first.split(), *words[:-1]], 'snake')}"[:64]
        return _cased([*first.split(), *words], style)[:64]

    def _describe(self, verb: str, thing: str) -> str:
        rng = self.rng
        if rng.random() < 0.06:
            return ""
        verb = rng.choice((verb, self._other_verb(verb)))
        text = rng.choice(
            (
                f"{verb} the {thing}",
                f"{verb} {thing}",
                f"{verb} a {thing}",
                f"{_third(verb)} the {thing}",
                f"Use this to {verb} a {thing}",
                f"{_third(verb)} {thing} for the given values",
                f"{verb} the {thing} based on the parameters given",
            )
        )
        return text[0].upper() + text[1:] + rng.choice((".", ".", ""))

    def _other_verb(self, verb: str) -> str:
        group = next((verbs for verbs, _, _ in self.actions if verb in verbs), (verb,))
        return self.rng.choice(group)

    # --- requests --------------------------------------------------------------------------------------------------

    def request(self, made: Made, *, leave_out: bool = False) -> tuple[str, dict[str, Any]] | None:
        """A request for `made` and the arguments it says; with `leave_out`, one required value is not said."""
        rng = self.rng
        said = [slot for slot in made.slots if slot.required or rng.random() < 0.5]
        missing: Slot | None = None
        if leave_out:
            required = [slot for slot in said if slot.required and slot.noun.kind != "bool"]
            if not required:
                return None
            missing = rng.choice(required)
        values = {slot.name: self.values.make(slot.noun.kind, slot.noun.choices) for slot in said}
        phrases = [self.phrase(slot, values[slot.name]) for slot in said if slot is not missing]
        if rng.random() < 0.6:
            rng.shuffle(phrases)
        text = self.sentence(made, phrases)
        return text, {slot.name: values[slot.name].value for slot in made.slots if slot in said}

    def phrase(self, slot: Slot, value: Value) -> str:
        rng, noun = self.rng, slot.noun
        word = rng.choice((slot.word, slot.word, rng.choice(noun.words)))
        if noun.kind == "bool":
            return rng.choice(
                (f"with {word}", f"{word} on", f"{word} enabled", f"include {word}")
                if value.value
                else (f"without {word}", f"no {word}", f"{word} off", f"{word} disabled")
            )
        unit = rng.choice(noun.units) if noun.units and rng.random() < 0.75 else ""
        amount = f"{value.said}{'' if unit in ('%', '°C') else ' '}{unit}".strip() if unit else value.said
        if noun.choices and rng.random() < 0.5:
            return rng.choice(
                (f"in {amount}", f"{amount} {word}", f"as {amount}", f"using {amount}", f"the {amount} one")
            )
        if noun.kind in ("city", "place", "country") and rng.random() < 0.6:
            return rng.choice(("in", "for", "near", "from", "at")) + f" {amount}"
        if noun.kind in ("date", "time", "year") and rng.random() < 0.6:
            return rng.choice(("on", "for", "at", "in", "from", "of")) + f" {amount}"
        if noun.kind in ("phrase", "title", "name", "word") and rng.random() < 0.45:
            quoted = rng.choice((f"'{amount}'", f'"{amount}"', amount, amount))
            return rng.choice(
                (
                    f"{quoted}",
                    f"called {quoted}",
                    f"for {quoted}",
                    f"named {quoted}",
                    f"about {quoted}",
                    f"by {quoted}",
                    f"{word} {quoted}",
                )
            )
        if unit and rng.random() < 0.4:
            return rng.choice((f"{amount} {word}", f"{amount} of {word}", f"{amount} for {word}", amount))
        return rng.choice(
            (
                f"{word} {amount}",
                f"{word} of {amount}",
                f"a {word} of {amount}",
                f"the {word} is {amount}",
                f"{word}: {amount}",
                f"{word} = {amount}",
                f"with {word} {amount}",
                f"{word} equal to {amount}",
                f"{amount} as the {word}",
                f"{amount} as {word}",
                f"whose {word} is {amount}",
            )
        )

    def sentence(self, made: Made, phrases: list[str]) -> str:
        rng = self.rng
        verb, thing = rng.choice((made.verb, self._other_verb(made.verb))), made.thing
        head = rng.choice(
            (
                f"{verb} the {thing}",
                f"{verb} a {thing}",
                f"{verb} {thing}",
                f"can you {verb} the {thing}",
                f"I want to {verb} the {thing}",
                f"please {verb} the {thing}",
                f"what is the {thing}",
                f"what's the {thing}",
                f"I need the {thing}",
                f"help me {verb} the {thing}",
                f"could you {verb} {thing} for me",
                f"I need to {verb} a {thing}",
                f"{thing}",
            )
        )
        joined = _join(rng, phrases)
        form = rng.random()
        if not phrases:
            text = head
        elif form < 0.6:
            text = head + rng.choice((" ", " ", " with ", " for ", " given ", ", ", " where ")) + joined
        elif form < 0.8:
            text = rng.choice(("", "with ", "given ", "for ", "I have ")) + joined + ", " + head
        else:
            text = (
                rng.choice(("I have ", "here is what I know: ", "we have ", ""))
                + joined
                + ". "
                + head[0].upper()
                + head[1:]
            )
        end = "?" if head.startswith(("what", "can", "could")) and form < 0.6 else rng.choice((".", ".", "", ""))
        if rng.random() < 0.75:
            text = text[0].upper() + text[1:]
        return " ".join((text + end).split())

    # --- examples --------------------------------------------------------------------------------------------------

    def example(self) -> Example:
        """One made tool with one request, or with several for the same tool (parallel calls)."""
        return self.asked(self.make_tool())

    def asked(self, made: Made) -> Example:
        """A request for `made`, one in four for several calls of it."""
        if self.rng.random() < 0.25:
            return of_one_tool(self, made, self.rng.choice((2, 2, 2, 3, 3, 4)))
        text, arguments = self.request(made) or ("", {})
        call = ToolCall(made.tool.name, arguments)
        return Example("synth", (made.tool,), (Message("user", text),), (call,))

    def lacking(self, made: Made) -> Example | None:
        """A request for `made` that leaves a required value unsaid: nothing should be called."""
        got = self.request(made, leave_out=True)
        return got and Example("synth_lacking", (made.tool,), (Message("user", got[0]),), ())


def _parameters(slots: Sequence[Slot]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {slot.name: slot.schema for slot in slots},
        "required": [slot.name for slot in slots if slot.required],
    }


def _join(rng: random.Random, phrases: Sequence[str]) -> str:
    if len(phrases) < 2:
        return "".join(phrases)
    last = rng.choice((" and ", ", ", ", and ", " and "))
    return rng.choice((", ", ", ", " ", " and ")).join(phrases[:-1]) + last + phrases[-1]


def _third(verb: str) -> str:
    first, _, rest = verb.partition(" ")
    ending = "es" if first.endswith(("s", "x", "ch", "sh")) else "s"
    return f"{first}{ending}{' ' + rest if rest else ''}"


def _cased(words: Sequence[str], style: str) -> str:
    words = ["".join(ch for ch in word if ch.isalnum() and ch.isascii()) for word in words]
    words = [word for word in words if word] or ["value"]
    if style == "camel":
        return words[0].lower() + "".join(word.capitalize() for word in words[1:])
    if style == "pascal":
        return "".join(word.capitalize() for word in words)
    return {"kebab": "-", "flat": ""}.get(style, "_").join(word.lower() for word in words)
