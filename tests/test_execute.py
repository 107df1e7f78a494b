from __future__ import annotations

import asyncio
import enum
import functools
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal, TypedDict

import pytest

from toolace_edge.errors import InputError, ToolError
from toolace_edge.execute import Executor, as_text
from toolace_edge.messages import ToolCall, ToolResult


def add(a: int, b: int = 1) -> int:
    return a + b


def fail(kind: str) -> None:
    if kind == "exit":
        sys.exit("gone")
    raise KeyError(kind)


def test_a_call_runs_and_its_result_is_text() -> None:
    assert Executor([add]).run(ToolCall("add", {"a": 2}, "c1")) == ToolResult("add", "3", "c1")


def test_calls_run_in_order() -> None:
    seen: list[int] = []

    def note(n: int) -> str:
        seen.append(n)
        return f"{n} noted"

    results = Executor([note]).run_all([ToolCall("note", {"n": n}) for n in (1, 2)])
    assert [result.content for result in results] == ["1 noted", "2 noted"]
    assert seen == [1, 2]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (ToolCall("ad", {}), "Error: there is no tool 'ad'. The tools are: add, fail."),
        (ToolCall("add", {}), "Error: the arguments are wrong. arguments.a: is required and absent."),
        (ToolCall("add", {"a": "x"}), 'Error: the arguments are wrong. arguments.a: "x" is not of type integer.'),
        (ToolCall("fail", {"kind": "k"}), "Error: KeyError: 'k'"),
        (ToolCall("fail", {"kind": "exit"}), "Error: SystemExit: gone"),
    ],
)
def test_what_goes_wrong_is_said_to_the_model(call: ToolCall, words: str) -> None:
    assert Executor([add, fail]).run(call) == ToolResult(call.name, words, error=True)


def test_a_null_for_an_optional_argument_is_absent() -> None:
    executor = Executor([add])
    assert executor.run(ToolCall("add", {"a": 1, "b": None})).content == "2"
    assert executor.run(ToolCall("add", {"a": None})).error


def test_a_function_that_overruns_is_left_behind() -> None:
    release = threading.Event()

    def slow() -> None:
        release.wait(10)

    result = Executor([slow], timeout_s=0.05).run(ToolCall("slow", {}))
    release.set()
    assert result == ToolResult("slow", "Error: slow did not finish within 0.05 s.", error=True)


def test_a_call_that_is_not_approved_does_not_run() -> None:
    ran: list[int] = []
    asked: list[ToolCall] = []

    def act() -> None:
        ran.append(1)

    def refuse(call: ToolCall) -> bool:
        asked.append(call)
        return False

    result = Executor([act], approve=refuse).run(ToolCall("act", {}))
    assert (result.error, result.content) == (True, "Error: the user did not allow this call.")
    assert asked == [ToolCall("act", {})]
    assert not ran
    assert not Executor([act], approve=lambda call: True).run(ToolCall("act", {})).error


def test_what_approve_does_to_the_call_changes_nothing_that_runs() -> None:
    got: list[Any] = []

    def pay(amount: float, shops: list[str], notes: dict[str, Any]) -> None:
        got.append((amount, shops, notes))

    def meddle(call: ToolCall) -> bool:
        call.arguments["amount"] = "ninety"  # type: ignore[index]
        call.arguments["shops"].append("mine")
        call.arguments["notes"]["a"]["b"] = 2
        return True

    written = ToolCall("pay", {"amount": 12.5, "shops": ["Lidl"], "notes": {"a": {"b": 1}}})
    assert Executor([pay], approve=meddle).run(written).outcome == "done"
    assert got == [(12.5, ["Lidl"], {"a": {"b": 1}})]
    assert written.arguments == {"amount": 12.5, "shops": ["Lidl"], "notes": {"a": {"b": 1}}}


def test_what_a_function_does_to_its_arguments_stays_with_it() -> None:
    def empty(items: list, more: Any) -> int:  # type: ignore[type-arg]
        items.clear()
        more["a"].clear()
        return len(items)

    call = ToolCall("empty", {"items": [1, [2]], "more": {"a": [1]}})
    assert Executor([empty]).run(call).content == "0"
    assert call.arguments == {"items": [1, [2]], "more": {"a": [1]}}


def test_arguments_that_are_nested_too_deeply_are_said_to_the_model() -> None:
    def look(x: Any) -> None: ...

    deep: list[Any] = []
    for _ in range(sys.getrecursionlimit()):
        deep = [deep]
    result = Executor([look]).run(ToolCall("look", {"x": deep}))
    assert (result.outcome, result.content) == ("invalid", "Error: the arguments are nested too deeply.")


@pytest.mark.parametrize("given", ["policy", "timeout_s"])
def test_a_pattern_that_fits_no_tool_is_refused(given: str) -> None:
    word: Any = {"policy": "deny", "timeout_s": 1}[given]
    with pytest.raises(InputError, match=rf"{given}: 'ad' fits no tool that runs\. Did you mean 'add'\?") as raised:
        Executor([add, fail], **{given: {"ad": word, "*": word}})
    assert raised.value.hint == "The tools that run are: add, fail."
    with pytest.raises(InputError, match=r"'mail\.\*' fits no tool"):
        Executor([add], **{given: {"add": word, "mail.*": word}})
    with pytest.raises(InputError, match=r"<function add at .* is not a tool's name"):
        Executor([add], **{given: {add: word}})
    Executor([add], **{given: {"a?d": word, "*": word}})
    Executor([], **{given: {"*": word}})


async def twice(n: int) -> int:
    """Twice as much."""
    await asyncio.sleep(0)
    return 2 * n


class Doubler:
    factor = 2

    async def times(self, n: int) -> int:
        await asyncio.sleep(0)
        return self.factor * n


class Wrapped:
    """A callable object around a function, as decorators make them."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function

    async def __call__(self, n: int) -> Any:
        return await self.function(n)


@functools.wraps(twice)
def plain_wrapper(n: int) -> Any:
    return twice(n)


@pytest.mark.parametrize("function", [twice, Doubler().times, Wrapped(twice), plain_wrapper])
def test_a_coroutine_runs_to_its_end(function: Callable[..., Any]) -> None:
    executor = Executor([function])
    result = executor.run(ToolCall(executor.tools[0].name, {"n": 21}))
    assert (result.content, result.outcome) == ("42", "done")


def test_what_a_coroutine_raises_is_said_to_the_model() -> None:
    async def break_off(kind: str) -> None:
        await asyncio.sleep(0)
        if kind == "cancelled":
            raise asyncio.CancelledError
        fail(kind)

    executor = Executor([break_off])
    words = {"x": "KeyError: 'x'", "exit": "SystemExit: gone", "cancelled": "CancelledError: "}
    for kind, said in words.items():
        result = executor.run(ToolCall("break_off", {"kind": kind}))
        assert (result.content, result.outcome) == (f"Error: {said}", "failed")


@pytest.mark.parametrize("outcome", ["timeout", "cancelled"])
def test_a_coroutine_that_waits_is_cancelled_once_and_may_tidy_up(outcome: str) -> None:
    begun, tidied = threading.Event(), threading.Event()

    async def wait() -> str:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.1)  # longer than what would be a second cancel
            tidied.set()
        return "over"

    started = time.monotonic()
    executor = Executor([wait], timeout_s=0.2 if outcome == "timeout" else 60)
    result = executor.run(ToolCall("wait", {}), cancelled=begun.is_set if outcome == "cancelled" else None)
    assert result.outcome == outcome
    assert tidied.wait(30)
    assert time.monotonic() - started < 50


def test_a_long_result_is_cut_and_says_so() -> None:
    def long() -> str:
        return "x" * 100

    content = Executor([long], max_result=10).run(ToolCall("long", {})).content
    assert content == "x" * 10 + "\n[cut: 90 of 100 characters are left out]"


def test_two_functions_of_one_name_are_refused() -> None:
    with pytest.raises(ToolError, match="add is the name of two functions"):
        Executor([add, add])


class Color(enum.Enum):
    RED = 1
    BLUE = 2


@dataclass
class Box:
    size: float
    color: Color = Color.RED


class Point(TypedDict):
    x: float


def test_arguments_become_what_the_annotations_name() -> None:
    seen: dict[str, Any] = {}

    def take(
        a: int,
        b: float,
        c: Color,
        d: Box,
        e: tuple[float, ...],
        f: list[Box],
        g: dict[str, Color],
        h: Point,
        i: Literal[1, 2],
        j: Box | str | None,
        k: tuple[int, str] = (0, ""),
    ) -> None:
        seen.update(locals())

    arguments = {
        "a": 2.0, "b": 1, "c": 2.0, "d": {"size": 3, "color": 2}, "e": [1, 2], "f": [{"size": 1}], "g": {"x": 1},
        "h": {"x": 1}, "i": 2.0, "j": {"size": 1}, "k": [1, "x"],
    }  # fmt: skip
    result = Executor([take]).run(ToolCall("take", arguments))
    assert result.content == "done"
    del seen["seen"]
    assert repr(seen) == repr({
        "a": 2, "b": 1.0, "c": Color.BLUE, "d": Box(3.0, Color.BLUE), "e": (1.0, 2.0), "f": [Box(1.0)],
        "g": {"x": Color.RED}, "h": {"x": 1.0}, "i": 2, "j": Box(1.0), "k": (1, "x"),
    })  # fmt: skip


@dataclass
class Found:
    name: str
    day: date
    size: int = field(init=False, default=1)


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), (None, "done"), (1.5, "1.5"), ({"é": [1]}, '{"é": [1]}'), (True, "true"), ({2, 1}, "[1, 2]"),
     (Found("a", date(2026, 1, 2)), '{"name": "a", "day": "2026-01-02", "size": 1}'),
     ([Color.BLUE, object], f'[2, "{object}"]')],
)  # fmt: skip
def test_results_are_text(value: Any, text: str) -> None:
    assert as_text(value) == text
