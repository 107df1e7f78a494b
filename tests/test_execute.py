from __future__ import annotations

import enum
import sys
import threading
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import pytest

from toolace_edge.errors import ToolError
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


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), (None, "done"), (1.5, "1.5"), ({"é": [1]}, '{"é": [1]}'), (True, "true"), ({1, 2}, '"{1, 2}"')],
)
def test_results_are_text(value: Any, text: str) -> None:
    assert as_text(value) == text
