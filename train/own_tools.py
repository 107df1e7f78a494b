"""Requests for the tools that come with the program, so that the model knows those that everybody meets first.

Templates with drawn values; the tools themselves are the runtime's, and a row shows all of them or some.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from toolace_edge.builtin import BUILTIN_TOOLS
from toolace_edge.functions import from_function
from toolace_edge.messages import Message, ToolCall

from .examples import Example
from .synth_values import ValueMaker

_UNITS = {
    "length": "miles kilometers meters feet inches centimeters yards",
    "mass": "pounds kilograms grams ounces tonnes",
    "volume": "liters gallons cups milliliters pints",
    "temperature": "celsius fahrenheit kelvin",
    "speed": "mph km/h knots",
    "time": "hours minutes seconds days weeks",
}
_PLEASE = ("", "", "", "", "please ", "can you ", "could you ", "I want you to ", "hey, ")
_OPERATIONS = ("{a} times {b}", "{a} * {b}", "{a} + {b}", "{a} plus {b}", "{a} minus {b}", "{a} - {b}", "{a} / {b}",
               "{a} divided by {b}", "{p}% of {b}", "sqrt({a})", "({a} + {b}) * {c}", "{a}^2", "{a} x {b}")  # fmt: skip


class OwnTools:
    """Draws requests; `values` gives cities, dates, texts and numbers."""

    def __init__(self, rng: random.Random, values: ValueMaker) -> None:
        self.rng, self.values = rng, values
        self.tools = {tool.name: tool for tool in (from_function(function) for function in BUILTIN_TOOLS)}
        self.makers: dict[str, Callable[[], tuple[str, dict[str, Any]]]] = {
            "set_timer": self._timer,
            "calculate": self._calculate,
            "convert_units": self._convert,
            "add_note": self._note,
            "list_notes": self._notes,
            "world_time": self._time,
            "sun_times": self._sun,
        }

    def asked(self, names: Sequence[str]) -> Example:
        """A request for one of the tools `names`, at times for two at once."""
        first = self.request(self.rng.choice(names))
        if self.rng.random() > 0.15:
            return first
        second = self.request(self.rng.choice(names))
        tools = tuple({tool.name: tool for tool in (*first.tools, *second.tools)}.values())
        text = (
            first.request.rstrip(".?")
            + self.rng.choice((" and ", ", and ", " and also ", ". ", ", then "))
            + second.request
        )
        return Example("own", tools, (Message("user", text),), (*first.calls, *second.calls))

    def request(self, name: str) -> Example:
        """A request for the tool `name`."""
        text, arguments = self.makers[name]()
        if self.rng.random() < 0.5:
            text = text[0].upper() + text[1:]
        text += self.rng.choice(
            ("", "", "", ".", "?" if text.lower().startswith(("what", "when", "how", "can")) else "")
        )
        return Example("own", (self.tools[name],), (Message("user", text),), (ToolCall(name, arguments),))

    def _ask(self, *forms: str) -> str:
        return self.rng.choice(_PLEASE) + self.rng.choice(forms)

    def _timer(self) -> tuple[str, dict[str, Any]]:
        rng = self.rng
        unit = rng.choice(("seconds", "minutes", "minutes", "minutes", "hours"))
        amount = rng.choice((rng.randint(1, 12), rng.randint(1, 90), rng.choice((5, 10, 15, 20, 25, 30, 45, 60, 90))))
        shown = unit[:-1] if amount == 1 or rng.random() < 0.15 else unit
        span = f"{amount}{rng.choice((' ', ' ', ' ', '-'))}{shown}"
        arguments: dict[str, Any] = {"duration": amount, "unit": unit}
        text = self._ask(f"set a timer for {span}", f"start a {span} timer", f"set a {span} timer", f"timer {span}",
                         f"remind me in {span}", f"wake me in {span}", f"count down {span}", f"start a timer of {span}",
                         f"alert me after {span}", f"I need a timer for {span}")  # fmt: skip
        if rng.random() < 0.3:
            label = rng.choice((self.values.make("word", ()).said, self.values.make("phrase", ()).said)).lower()[:60]
            arguments["label"] = label
            text += rng.choice(
                (f" for the {label}", f" for {label}", f" called {label}", f" to {label}", f" labelled {label}")
            )
        return text, arguments

    def _calculate(self) -> tuple[str, dict[str, Any]]:
        rng = self.rng
        numbers = {k: rng.choice((rng.randint(1, 20), rng.randint(1, 100), rng.randint(1, 5000))) for k in "abcp"}
        expression = rng.choice(_OPERATIONS).format(**numbers)
        head = rng.choice(
            ("what is", "what's", "calculate", "compute", "how much is", "", "work out", "can you calculate")
        )
        text = f"{head} {expression}".strip()
        return text, {"expression": expression}

    def _convert(self) -> tuple[str, dict[str, Any]]:
        rng = self.rng
        one, other = rng.sample(rng.choice(list(_UNITS.values())).split(), 2)
        value = rng.choice((rng.randint(1, 20), rng.randint(1, 500), round(rng.uniform(0, 100), 1)))
        said = f"{value} {one}"
        text = rng.choice((f"convert {said} to {other}", f"how many {other} are {said}", f"what is {said} in {other}",
                           f"{said} in {other}", f"change {said} into {other}", f"how much is {said} in {other}",
                           f"please convert {said} into {other}"))  # fmt: skip
        return text, {"value": value, "from_unit": one, "to_unit": other}

    def _note(self) -> tuple[str, dict[str, Any]]:
        said = self.values.make("phrase", ()).said
        text = self._ask(f"write down {said}", f"note that {said}", f"add a note: {said}", f"make a note: {said}",
                         f"take a note that says {said}", f"remember that {said}", f"note to self: {said}",
                         f"add a note to {said}", f"write down that {said}", f"add a note saying '{said}'")  # fmt: skip
        return text, {"text": said}

    def _notes(self) -> tuple[str, dict[str, Any]]:
        return self._ask("show my notes", "list my notes", "what notes do I have", "what did I write down",
                         "read my notes", "show me all my notes", "list all notes"), {}  # fmt: skip

    def _city(self) -> str:
        return str(self.values.make("city", ()).value)

    def _time(self) -> tuple[str, dict[str, Any]]:
        city = self._city()
        return self._ask(f"what time is it in {city}", f"what's the time in {city}", f"tell me the time in {city}",
                         f"current time in {city}", f"time in {city}", f"how late is it in {city}",
                         f"what is the local time in {city}"), {"city": city}  # fmt: skip

    def _sun(self) -> tuple[str, dict[str, Any]]:
        city, arguments = self._city(), {}
        text = self._ask(f"when does the sun rise in {city}", f"when is sunset in {city}", f"sunrise in {city}",
                         f"what time does the sun set in {city}", f"when will the sun go down in {city}",
                         f"tell me the sunrise and sunset in {city}")  # fmt: skip
        arguments = {"city": city}
        if self.rng.random() < 0.3:
            day = f"{self.rng.randint(2020, 2030)}-{self.rng.randint(1, 12):02}-{self.rng.randint(1, 28):02}"
            arguments["day"] = day
            text += f" on {day}"
        return text, arguments
