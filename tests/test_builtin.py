from __future__ import annotations

import re
from datetime import date, datetime, timedelta

import pytest

from toolace_edge import builtin
from toolace_edge.builtin import BUILTIN_TOOLS, arithmetic, places, units
from toolace_edge.execute import Executor
from toolace_edge.messages import ToolCall, ToolResult
from toolace_edge.tools import load_tools


def run(name: str, **arguments: object) -> ToolResult:
    return Executor(BUILTIN_TOOLS).run(ToolCall(name, arguments))


def test_the_builtin_tools_load_and_describe_themselves() -> None:
    tools = load_tools(BUILTIN_TOOLS)
    assert [tool.name for tool in tools] == [
        "set_timer", "calculate", "convert_units", "add_note", "list_notes", "world_time", "sun_times",
    ]  # fmt: skip
    assert all(tool.description for tool in tools)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("17 * 23", 391), ("17 times 23", 391), ("what is 17 x 23?", 391), ("2 + 3 * 4", 14), ("(2 + 3) * 4", 20),
        ("10 divided by 4", 2.5), ("2^10", 1024), ("5 squared", 25), ("15% of 80", 12), ("20 percent of 50", 10),
        ("100 - 10%", 99.9), ("square root of 16 plus 1", 5), ("sqrt(2)**2", 2.0000000000000004), ("-3 + 5", 2),
        ("1,000 + 1", 1001), ("7 // 2", 3), ("7 mod 4", 3), ("max(1, 2, 3)", 3), ("2 * pi", 6.283185307179586),
        ("min(5,100,7)", 5), ("max(1,200)", 200), ("sqrt(1,024)", 32), ("12,345,678 / 2", 6172839),
        ("100 / 10% of 50", 20), ("20% of 50% of 100", 10), ("15% of (1,000 + 20)", 153), ("17 % 5", 2),
        ("0x10 + 5", 21),
        ("12 minus 5", 7), ("0.1 + 0.2", 0.30000000000000004), ("10 / 5", 2), ("3 plus 4 =", 7),
    ],
)  # fmt: skip
def test_arithmetic_is_read_as_people_write_it(text: str, value: float) -> None:
    assert arithmetic.evaluate(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('x')", "().__class__", "9**9**9", "10**400", "2**99999", "1/0", "'a' * 10", "[1]*9",
        "lambda: 1", "a + 1", "1 if 2 else 3", "", "hello", "f(1)", "(" * 150, "x" * 500, "sqrt(-1)", "(-8)**0.5",
        "True + 1", "max(key=1)", "sqrt()", "1e999 * 2", "round(1, 2, 3)", "min(1)", "exp(1000)", "0 ** -1",
    ],
)  # fmt: skip
def test_what_is_not_arithmetic_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        arithmetic.evaluate(text)


def test_calculate_answers_in_short() -> None:
    assert run("calculate", expression="0.1 + 0.2").content == "0.3"
    assert run("calculate", expression="1 / 0") == ToolResult(
        "calculate", "Error: ValueError: division by zero has no value", error=True
    )


@pytest.mark.parametrize(
    ("value", "source", "target", "wanted"),
    [
        (5, "miles", "kilometers", 8.04672), (1, "mi", "km", 1.609344), (100, "celsius", "fahrenheit", 212),
        (32, "degrees Fahrenheit", "°C", 0), (0, "c", "kelvin", 273.15), (6, "feet", "m", 1.8288),
        (12, "inches", "foot", 1), (60, "miles per hour", "km/h", 96.56064), (2, "Hours", "minutes", 120),
        (1, "pound", "ounces", 16), (1, "gallon", "quarts", 4), (3, "teaspoons", "tablespoon", 1),
        (1, "GB", "MB", 1000), (100, "square feet", "square meters", 9.290304), (1, "kwh", "joules", 3.6e6),
    ],
)  # fmt: skip
def test_units_are_converted(value: float, source: str, target: str, wanted: float) -> None:
    assert units.convert(value, source, target)[0] == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [("miles", "kg", "length"), ("miles", "celsius", "temperature"), ("parsnips", "m", "not a unit")],
)
def test_units_of_different_kinds_are_refused(source: str, target: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        units.convert(1, source, target)


@pytest.mark.parametrize("unit", ["Mb", "Gb"])
def test_what_may_be_bits_is_not_taken_for_bytes(unit: str) -> None:
    with pytest.raises(ValueError, match="may mean bits"):
        units.convert(8, unit, "byte")


def test_a_number_is_repeated_as_it_was_given() -> None:
    said = run("convert_units", value=1000001, from_unit="m", to_unit="km").content
    assert said == "1000001 m = 1000 kilometer"


@pytest.mark.parametrize(
    "city", ["Paris, France", "Boston, MA, USA", "São Paulo, Brazil", "Washington, D.C.", "Toronto, Ontario"]
)
def test_a_city_may_say_where_it_is(city: str) -> None:
    assert places.find_place(city).name.startswith(city[:2].replace("ã", "a"))


@pytest.mark.parametrize(
    "city", ["Paris, Texas", "London, Ontario", "Melbourne, Florida", "Vancouver, WA", "Toronto, USA"]
)
def test_a_city_of_the_same_name_elsewhere_is_not_known(city: str) -> None:
    with pytest.raises(ValueError, match="is not among the"):
        places.find_place(city)


def test_every_city_lies_somewhere() -> None:
    for place in places.PLACES.values():
        assert places._AROUND.get(place.name) or places._AROUND.get(place.zone), place.name


def test_no_temperature_is_below_absolute_zero() -> None:
    assert run("convert_units", value=-1, from_unit="kelvin", to_unit="celsius").error


def test_notes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtin, "_notes", [])
    assert run("list_notes").content == "There are no notes."
    assert run("add_note", text="buy milk").content == "Note 1 added: buy milk"
    assert run("list_notes").content == "1. buy milk"


def test_a_timer_says_when_it_rings(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[float] = []

    class Timer:
        daemon = False

        def __init__(self, seconds: float, ring: object) -> None:
            started.append(seconds)

        def start(self) -> None:
            assert self.daemon

    monkeypatch.setattr(builtin.threading, "Timer", Timer)
    content = run("set_timer", duration=10, unit="minutes", label="pasta").content
    assert content.startswith("Timer 'pasta' set for 10 minutes; it rings at ")
    rings = re.search(r"\d\d:\d\d:\d\d", content)
    assert rings
    wanted = datetime.now().astimezone() + timedelta(minutes=10)
    assert rings[0] in {f"{wanted - timedelta(seconds=late):%H:%M:%S}" for late in range(3)}
    assert started == [600]
    assert run("set_timer", duration=1000, unit="hours").error


def test_world_time_knows_its_cities() -> None:
    assert re.fullmatch(r"In Tokyo it is \d\d:\d\d on \w+, \d\d \w+ \d{4}\.", run("world_time", city="tokyo").content)
    assert "In Sao Paulo" in run("world_time", city="São Paulo, Brazil").content
    assert "Atlantis" in run("world_time", city="Atlantis").content
    for place in places.PLACES.values():
        places.zone_of(place)


@pytest.mark.parametrize(
    ("city", "day", "rise", "sets"),  # local times of published almanacs
    [
        ("Oslo", "2024-06-21", "03:54", "22:44"), ("London", "2024-12-21", "08:04", "15:53"),
        ("New York", "2024-03-20", "06:59", "19:08"), ("Sydney", "2024-01-01", "05:48", "20:09"),
        ("Singapore", "2024-06-21", "07:01", "19:12"),
    ],
)  # fmt: skip
def test_the_sun_keeps_its_times(city: str, day: str, rise: str, sets: str) -> None:
    place = places.find_place(city)
    found = places.sun_times(place, date.fromisoformat(day))
    assert found is not None
    for time, wanted in zip(found, (rise, sets), strict=True):
        local = time.astimezone(places.zone_of(place))
        hour, minute = map(int, wanted.split(":"))
        assert abs(local.hour * 60 + local.minute - hour * 60 - minute) <= 3, (local, wanted)


def test_the_sun_may_stay_up() -> None:
    north = places.Place("North", "UTC", 80.0, 0.0)
    assert places.sun_times(north, date(2024, 6, 21)) is None
    assert "sun rises at" in run("sun_times", city="Oslo").content
    assert run("sun_times", city="Oslo", day="2023-02-29").error
