"""The tools that come along, so that the first command works alone. They run offline and do what they say.

Notes and timers live as long as the program does.
"""

from __future__ import annotations

import sys
import threading
from datetime import date, datetime, timedelta
from typing import Annotated, Literal

from toolace_edge.builtin import arithmetic, places, units
from toolace_edge.tools import tool

__all__ = [
    "BUILTIN_TOOLS",
    "add_note",
    "calculate",
    "convert_units",
    "list_notes",
    "set_timer",
    "sun_times",
    "world_time",
]

_SECONDS = {"seconds": 1, "minutes": 60, "hours": 3600}
_MAX_TIMER_S = 7 * 86400
_notes: list[str] = []


@tool
def set_timer(
    duration: Annotated[int, "How long, in the unit", {"minimum": 1, "maximum": 100000}],
    unit: Literal["seconds", "minutes", "hours"],
    label: Annotated[str, "What the timer is for", {"maxLength": 80}] = "",
) -> str:
    """Set a timer that rings after a duration."""
    seconds = duration * _SECONDS[unit]
    if seconds > _MAX_TIMER_S:
        raise ValueError("a timer can run for a week at most")
    name = f"Timer {label!r}" if label else "Timer"
    timer = threading.Timer(seconds, lambda: print(f"\a{name} is over.", file=sys.stderr))
    timer.daemon = True
    timer.start()
    end = datetime.now().astimezone() + timedelta(seconds=seconds)
    return f"{name} set for {duration} {unit}; it rings at {end:%H:%M:%S} while this program runs."


@tool
def calculate(expression: Annotated[str, "What to calculate, as in 17 * 23 or 15% of 80", {"maxLength": 200}]) -> str:
    """Calculate the value of an arithmetic expression."""
    value = arithmetic.evaluate(expression)
    return f"{value:.12g}" if isinstance(value, float) else str(value)


@tool
def convert_units(
    value: Annotated[float, "The number to convert"],
    from_unit: Annotated[str, "The unit it is in, as in miles", {"maxLength": 40}],
    to_unit: Annotated[str, "The unit wanted, as in kilometers", {"maxLength": 40}],
) -> str:
    """Convert a value from one unit of measurement to another."""
    converted, name = units.convert(value, from_unit, to_unit)
    return f"{value:.12g} {from_unit} = {converted:.6g} {name}"


@tool
def add_note(text: Annotated[str, "What to write down", {"minLength": 1, "maxLength": 500}]) -> str:
    """Write down a note."""
    _notes.append(text)
    return f"Note {len(_notes)} added: {text}"


@tool
def list_notes() -> str:
    """Show all notes that were written down."""
    return "\n".join(f"{i}. {text}" for i, text in enumerate(_notes, start=1)) or "There are no notes."


@tool
def world_time(city: Annotated[str, "Name of the city", {"maxLength": 60}]) -> str:
    """Tell the current time in a city."""
    place = places.find_place(city)
    return f"In {place.name} it is {datetime.now(places.zone_of(place)):%H:%M on %A, %d %B %Y}."


@tool
def sun_times(
    city: Annotated[str, "Name of the city", {"maxLength": 60}],
    day: Annotated[str | None, "Which day, as in 2026-06-21; today if left out", {"format": "date"}] = None,
) -> str:
    """Tell when the sun rises and sets in a city."""
    place = places.find_place(city)
    zone = places.zone_of(place)
    when = date.fromisoformat(day) if day else datetime.now(zone).date()
    found = places.sun_times(place, when)
    if found is None:
        return f"In {place.name} the sun does not cross the horizon on {when}."
    rise, sets = (time.astimezone(zone) for time in found)
    return f"In {place.name} on {when} the sun rises at {rise:%H:%M} and sets at {sets:%H:%M}."


BUILTIN_TOOLS = (set_timer, calculate, convert_units, add_note, list_notes, world_time, sun_times)
