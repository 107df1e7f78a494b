"""Threads at one engine: in turn, in order, without mixing, and usable after cancels at any moment."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from toolace_edge.engines.scripted import ScriptedEngine
from toolace_edge.engines.turns import Turns
from toolace_edge.errors import Cancelled, EngineError
from toolace_edge.formats import get
from toolace_edge.messages import Answer, Tool
from toolace_edge.session import Session

from .tiny import tiny_tokenizer_json

MUCH_S = 60.0
NOTE = Tool(
    "note",
    "Note a number.",
    {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["n"]},
)


def wait_until(condition: object) -> None:
    end = time.monotonic() + MUCH_S
    while not condition() and time.monotonic() < end:  # type: ignore[operator]
        time.sleep(0.002)
    assert condition()  # type: ignore[operator]


def test_whoever_came_first_is_first() -> None:
    turns, order, threads = Turns(), [], []

    def take(number: int) -> None:
        with turns.turn():
            order.append(number)

    with turns.turn():
        for number in range(5):
            threads.append(threading.Thread(target=take, args=(number,)))
            threads[-1].start()
            wait_until(lambda number=number: len(turns._queue) == number + 2)
    for thread in threads:
        thread.join(MUCH_S)
    assert order == [0, 1, 2, 3, 4]


def test_a_thread_that_waits_can_be_cancelled() -> None:
    turns, stop, raised = Turns(), threading.Event(), []

    def wait() -> None:
        try:
            with turns.turn(stop.is_set):
                raise AssertionError("it was another's turn")
        except Cancelled as error:
            raised.append(error)

    with turns.turn():
        thread = threading.Thread(target=wait)
        thread.start()
        wait_until(lambda: len(turns._queue) == 2)
        stop.set()
        thread.join(MUCH_S)
        assert len(raised) == 1
    with turns.turn():
        pass


def test_a_thread_does_not_wait_for_itself() -> None:
    turns = Turns()
    with turns.turn(), pytest.raises(EngineError, match="in this thread already"), turns.turn():
        pass
    with turns.turn():
        pass


def test_the_end_waits_for_its_turn_and_is_the_end() -> None:
    turns, freed = Turns(), []
    with turns.turn():
        closer = threading.Thread(target=turns.end, args=(lambda: freed.append(1),))
        closer.start()
        wait_until(lambda: len(turns._queue) == 2)
        assert not freed
    closer.join(MUCH_S)
    assert freed == [1]
    turns.end(lambda: freed.append(2))
    assert freed == [1]
    with pytest.raises(EngineError, match="The model is closed") as raised, turns.turn():
        pass
    assert type(raised.value) is EngineError  # a traceback names a class that can be caught
    assert raised.value.hint == "Open the model again."
    assert not turns._queue


def test_what_freeing_raises_passes() -> None:
    def fail() -> None:
        raise EngineError("It does not let go.")

    with pytest.raises(EngineError, match="does not let go"):
        Turns().end(fail)


def session(engine: ScriptedEngine) -> Session:
    return Session(engine, get("compact"), [NOTE], rounds=1, tool_choice="required")


def calls_of(answer: Answer) -> list[tuple[str, object]]:
    return [(call.name, call.arguments) for call in answer.calls]


def test_eight_threads_with_fifty_requests_each_get_the_answers_of_one() -> None:
    engine = ScriptedEngine.noise(tiny_tokenizer_json(), seed=3)
    alone = session(engine)
    requests = [f"note {number}" for number in range(50)]
    expected = [calls_of(alone.complete(request)) for request in requests]
    assert len({str(one) for one in expected}) > 10  # noise: mixed-up answers would show

    def ask(number: int) -> list[list[tuple[str, object]]]:
        """Half of the threads share a session; each begins somewhere else."""
        mine = alone if number % 2 else session(engine)
        answers = {i: calls_of(mine.complete(requests[i])) for i in [*range(number, 50), *range(number)]}
        return [answers[i] for i in range(50)]

    with ThreadPoolExecutor(8) as pool:
        for answers in pool.map(ask, range(8)):
            assert answers == expected
    assert not engine.turns._queue
    assert engine.cancelled is None


def test_two_hundred_cancels_at_random_moments_leave_it_usable() -> None:
    engine = ScriptedEngine.noise(tiny_tokenizer_json(), seed=3)
    asked = session(engine)
    expected = calls_of(asked.complete("note 7"))
    dice, outcomes = random.Random(1), []

    def ask(others: threading.Event) -> None:
        while not others.is_set():
            try:
                outcomes.append(calls_of(asked.complete("note 7")) == expected)
            except Cancelled:
                outcomes.append(None)

    done = threading.Event()
    thread = threading.Thread(target=ask, args=(done,))
    thread.start()
    for _ in range(200):
        time.sleep(dice.uniform(0, 0.004))
        asked.cancel()
    done.set()
    thread.join(MUCH_S)
    assert not thread.is_alive()
    assert None in outcomes
    assert False not in outcomes
    assert calls_of(asked.complete("note 7")) == expected


LEAVING = """
import sys, threading
from toolace_edge import Agent
agent = Agent(sys.argv[1], [])
begun = threading.Event()
def work():
    agent.run("Tell me of every day of the week, one after the other.", on_event=lambda event: begun.set())
threading.Thread(target=work, daemon=True).start()
begun.wait(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize("model", ["nano", "nano-gguf"])
def test_a_program_may_end_in_the_midst_of_an_answer(model: str) -> None:
    ended = subprocess.run([sys.executable, "-c", LEAVING, model], capture_output=True, text=True, timeout=MUCH_S * 2)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_leaving_stops_whoever_has_the_turn_and_waits_for_that() -> None:
    engine = ScriptedEngine.noise(tiny_tokenizer_json(), seed=1)
    session, ended = Session(engine, get("compact"), [NOTE]), []
    begun, go_on = threading.Event(), threading.Event()

    def on_step(*_: object) -> None:
        begun.set()
        go_on.wait(MUCH_S)

    def ask() -> None:
        with pytest.raises(Cancelled):
            session.complete("note a number", on_step=on_step)
        ended.append(True)

    asking = threading.Thread(target=ask)
    asking.start()
    begun.wait(MUCH_S)
    leaving = threading.Thread(target=engine.turns.leave)
    leaving.start()
    wait_until(lambda: engine.turns.is_leaving)
    go_on.set()
    leaving.join(MUCH_S)
    asking.join(MUCH_S)
    assert ended
    with pytest.raises(Cancelled, match="ends"):
        session.complete("note a number")
