"""The window of examples/tk_app.py used by a program, with a scripted model: `python -m tests.tk_driver SCENARIO`.

A process of its own, as Tk dies when what is left of a window is collected in another thread than its own.
"""

from __future__ import annotations

import functools
import os
import runpy
import sys
import threading
import tkinter as tk
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from toolace_edge import Agent, ToolCall, registry

from .test_evaluate import scripted

APP = Path(__file__).parent.parent / "examples" / "tk_app.py"
TIMER = '<|call|>{"name":"set_timer","arguments":{"minutes":10}}<|end|>'
HANG = '<|call|>{"name":"hang","arguments":{}}<|end|>'
ACT = '<|call|>{"name":"act","arguments":{}}<|end|>'
TICK_MS = 20
MUCH_S = 60


def fail(self: tk.Tk, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What a callback raises ends the process; Tk alone would go on."""
    traceback.print_exception(kind, error, trace)
    os._exit(1)


tk.Tk.report_callback_exception = fail


def opened(*replies: str) -> Any:
    return lambda *args, **options: scripted(*replies)


@functools.cache
def app() -> dict[str, Any]:
    return runpy.run_path(str(APP), run_name="tk_app")


def self_test() -> None:
    sys.argv = ["tk_app.py", "--self-test", "ten", "minutes"]
    registry.open_model = opened(TIMER)
    runpy.run_path(str(APP), run_name="__main__")


def cancel() -> None:
    """The tool only ends by Cancel, and only Tk's loop presses it: a loop that waits for it would wait for ever."""
    begun, release = threading.Event(), threading.Event()

    def hang() -> None:
        """Hang."""
        begun.set()
        release.wait()

    registry.open_model = opened(HANG)
    with Agent(tools=[hang], max_steps=1) as agent:
        root = tk.Tk()
        window = app()["Window"](root, agent, app()["Approval"]())

        def press() -> None:
            if begun.is_set():
                assert (window.send["state"], window.cancel["state"]) == ("disabled", "normal")
                window.cancel.invoke()
                root.after(TICK_MS, look)
            else:
                root.after(TICK_MS, press)

        def look() -> None:
            if window.worker is not None:
                root.after(TICK_MS, look)
                return
            assert (window.send["state"], window.cancel["state"]) == ("normal", "disabled")
            print(window.text.get("1.0", "end").strip())
            if release.is_set():
                window.close()
                return
            release.set()  # from now on the tool ends by itself
            window.send.invoke()
            root.after(TICK_MS, look)

        window.entry.insert(0, "hang")
        window.ask()
        window.ask()  # a second press while it works is none
        root.after(TICK_MS, press)
        root.mainloop()


def close() -> None:
    """Closing the window while a tool runs ends the program."""
    begun = threading.Event()

    def hang() -> None:
        """Hang."""
        begun.set()
        threading.Event().wait()

    registry.open_model = opened(HANG)
    with Agent(tools=[hang], max_steps=1) as agent:
        root = tk.Tk()
        window = app()["Window"](root, agent, app()["Approval"]())

        def leave() -> None:
            if begun.is_set():
                window.close()
            else:
                root.after(TICK_MS, leave)

        window.entry.insert(0, "hang")
        window.send.invoke()
        root.after(TICK_MS, leave)
        root.mainloop()
    print("closed")


def with_question(use: Callable[[Any, list[str]], None]) -> tuple[Any, list[str]]:
    """A window whose one tool is asked for, used by `use` in each tick. The window, and what ran."""
    ran: list[str] = []

    def act() -> None:
        """Act."""
        ran.append("act")

    registry.open_model = opened(ACT)
    approval = app()["Approval"]()
    with Agent(tools=[act], approve=approval.ask, max_steps=1) as agent:
        root = tk.Tk()
        window = app()["Window"](root, agent, approval)
        window.entry.insert(0, "act")

        def tick() -> None:
            root.after(TICK_MS, tick)
            use(window, ran)

        root.after(TICK_MS, tick)
        root.mainloop()
    return window, ran


def questions() -> None:
    """Each question of five requests is answered in another way; only Allow lets the call run."""
    presses: list[tuple[Callable[[Any], None], int]] = [
        (lambda window: window.question.deny.invoke(), 0),
        (lambda window: window.question.allow.invoke(), 1),
        (lambda window: window.question.tk.eval(window.question.protocol("WM_DELETE_WINDOW")), 1),
        (lambda window: window.cancel.invoke(), 1),
        (lambda window: window.question.allow.invoke(), 2),
    ]
    expected = 0

    def use(window: Any, ran: list[str]) -> None:
        nonlocal expected
        if window.question is not None:
            assert len(ran) == expected, "it ran before it was allowed"
            press, expected = presses.pop(0)
            press(window)
            assert window.question is None
        elif window.worker is None:
            assert len(ran) == expected
            if presses:
                window.send.invoke()
            else:
                print(window.text.get("1.0", "end").strip())
                window.close()

    with_question(use)


def close_question() -> None:
    """The window closes while a question is open: nothing runs, and nobody waits for an answer any more."""

    def use(window: Any, ran: list[str]) -> None:
        if window.question is not None:
            window.close()
        elif window.worker is None:
            window.send.invoke()

    window, ran = with_question(use)
    window.worker.join(MUCH_S)
    print(window.worker.is_alive(), ran, window.approval.ask(ToolCall("late", {})))


if __name__ == "__main__":
    scenarios = (self_test, cancel, close, questions, close_question)
    {scenario.__name__: scenario for scenario in scenarios}[sys.argv[1]]()
