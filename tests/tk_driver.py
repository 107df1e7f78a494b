"""The window of examples/tk_app.py used by a program, with a scripted model: `python -m tests.tk_driver SCENARIO`.

A process of its own, as Tk dies when what is left of a window is collected in another thread than its own.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading
import tkinter as tk
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

from toolace_edge import Agent, registry

from .test_evaluate import scripted

APP = Path(__file__).parent.parent / "examples" / "tk_app.py"
TIMER = '<|call|>{"name":"set_timer","arguments":{"minutes":10}}<|end|>'
HANG = '<|call|>{"name":"hang","arguments":{}}<|end|>'
TICK_MS = 20


def fail(self: tk.Tk, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What a callback raises ends the process; Tk alone would go on."""
    traceback.print_exception(kind, error, trace)
    os._exit(1)


tk.Tk.report_callback_exception = fail


def opened(*replies: str) -> Any:
    return lambda *args, **options: scripted(*replies)


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
        window = runpy.run_path(str(APP), run_name="tk_app")["Window"](root, agent)

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
        window = runpy.run_path(str(APP), run_name="tk_app")["Window"](root, agent)

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


if __name__ == "__main__":
    {"self_test": self_test, "cancel": cancel, "close": close}[sys.argv[1]]()
