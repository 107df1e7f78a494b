"""A window that acts: type a request, watch the calls, allow or deny them, press Cancel. Run: python examples/tk_app.py

Tk's loop is one thread and may not wait. So `agent.stream` is iterated in another, which only puts the events into a
queue; the window looks into it twenty times a second. Cancel is a method that any thread may call. The question
whether a call may run goes the other way: the thread that would run it waits, and the window answers (`Approval`).

`--self-test REQUEST` types the request, presses the buttons, prints what the window then says, and ends.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
import tkinter as tk
from collections.abc import Callable

from toolace_edge import Agent, ToolCall
from toolace_edge.errors import ToolaceEdgeError
from toolace_edge.events import CallBegun, CallFinished, Event, Failed, Finished, Prefill, ResultReady

POLL_MS = 50
ENDS = {"no_call": "No tool fits.", "cancelled": "Cancelled."}


def set_timer(minutes: int) -> str:
    """Set a timer."""
    return f"It rings in {minutes} minutes."


def wait_seconds(seconds: int) -> str:
    """Wait for some seconds."""
    time.sleep(seconds)
    return f"{seconds} seconds are over."


class Approval:
    """One question at a time: `ask` waits in the thread that runs tools, the window's thread answers."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.call: ToolCall | None = None  # what is asked now
        self.allowed = self.stopped = False

    def ask(self, call: ToolCall) -> bool:
        """For `Agent(approve=)`."""
        with self.changed:
            self.call, self.allowed = None if self.stopped else call, False
            self.changed.wait_for(lambda: self.call is None)
            return self.allowed

    def answer(self, allowed: bool) -> None:
        with self.changed:
            self.call, self.allowed = None, allowed
            self.changed.notify_all()

    def stop(self, stopped: bool = True) -> None:
        """Cancel, or the window closes: every question is answered no until `stop(False)`."""
        with self.changed:
            self.stopped = stopped
            self.answer(False)


class Question(tk.Toplevel):
    """The call, and two buttons. Closing it is a no; it holds nothing up, so Cancel can be pressed meanwhile."""

    def __init__(self, root: tk.Tk, call: ToolCall, answer: Callable[[bool], None]) -> None:
        super().__init__(root)
        self.allow = tk.Button(self, text="Allow", command=lambda: answer(True))
        self.deny = tk.Button(self, text="Deny", command=lambda: answer(False))
        tk.Label(self, text=f"May this run?\n\n{call}", wraplength=500).grid(row=0, column=0, columnspan=2)
        self.allow.grid(row=1, column=0)
        self.deny.grid(row=1, column=1)
        self.bind("<Escape>", lambda _: answer(False))
        self.protocol("WM_DELETE_WINDOW", lambda: answer(False))
        self.title("toolace-edge")
        self.transient(root)
        self.deny.focus_set()


class Window:
    """An entry, two buttons, a text, and one request at a time."""

    def __init__(self, root: tk.Tk, agent: Agent, approval: Approval) -> None:
        self.root, self.agent, self.approval = root, agent, approval
        self.question: Question | None = None
        self.events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()  # None: the request is done
        self.worker: threading.Thread | None = None
        self.entry = tk.Entry(root, width=60)
        self.send = tk.Button(root, text="Send", command=self.ask)
        self.cancel = tk.Button(root, text="Cancel", command=self.stop, state="disabled")
        self.status = tk.Label(root, anchor="w")
        self.text = tk.Text(root, width=80, height=20, state="disabled")
        self.entry.grid(row=0, column=0, sticky="ew")
        self.send.grid(row=0, column=1)
        self.cancel.grid(row=0, column=2)
        self.text.grid(row=1, column=0, columnspan=3, sticky="nsew")
        self.status.grid(row=2, column=0, columnspan=3, sticky="ew")
        self.entry.bind("<Return>", lambda _: self.ask())
        root.columnconfigure(0, weight=1)
        root.rowconfigure(1, weight=1)
        root.protocol("WM_DELETE_WINDOW", self.close)
        root.title("toolace-edge")

    def ask(self) -> None:
        """Begin with what the entry says, unless a request is being worked on."""
        request = self.entry.get().strip()
        if self.worker is not None or not request:
            return
        self.show(f"> {request}")
        self.approval.stop(False)
        self.send["state"], self.cancel["state"] = "disabled", "normal"
        self.worker = threading.Thread(target=self.work, args=(request,), daemon=True)
        self.worker.start()
        self.root.after(POLL_MS, self.poll)

    def work(self, request: str) -> None:
        """In the other thread: nothing of Tk's is touched here."""
        try:
            for event in self.agent.stream(request):
                self.events.put(event)
        except ToolaceEdgeError:
            pass  # the event `Failed` has told it
        finally:
            self.events.put(None)

    def poll(self) -> None:
        """In Tk's thread: show what is there, and come back until the request is done."""
        while not self.events.empty():
            event = self.events.get()
            if event is None:
                self.worker = None
                self.send["state"], self.cancel["state"], self.status["text"] = "normal", "disabled", ""
                return
            self.tell(event)
        if self.question is None and self.approval.call is not None:
            self.question = Question(self.root, self.approval.call, self.answer)
        self.root.after(POLL_MS, self.poll)

    def answer(self, allowed: bool) -> None:
        """What the user says to the open question."""
        if self.question is not None:
            self.question.destroy()
            self.question = None
            self.approval.answer(allowed)

    def tell(self, event: Event) -> None:
        if isinstance(event, Prefill):
            self.status["text"] = f"reading {event.read} of {event.total} tokens ..."
        elif isinstance(event, CallBegun):
            self.status["text"] = f"calling {event.name} ..."
        elif isinstance(event, CallFinished):
            self.show(str(event.call))
        elif isinstance(event, ResultReady):
            self.show(event.result.content)
        elif isinstance(event, Finished) and event.run.stop in ENDS:
            self.show(ENDS[event.run.stop])
        elif isinstance(event, Failed):
            self.show(f"Error: {event.error}")

    def show(self, line: str) -> None:
        self.text["state"] = "normal"
        self.text.insert("end", line + "\n")
        self.text["state"] = "disabled"
        self.text.see("end")

    def stop(self) -> None:
        """Cancel. The agent first: a question that is open then ends as cancelled, not as denied."""
        self.agent.cancel()
        self.approval.stop()
        self.answer(False)

    def close(self) -> None:
        """The window goes at once; a tool that still runs is left behind."""
        self.stop()
        self.root.destroy()


def self_test(window: Window, request: str) -> None:
    """Use the window as a person would who allows everything, and print its text."""

    def look() -> None:
        if window.question is not None:
            window.question.allow.invoke()
        if window.worker is not None:
            window.root.after(POLL_MS, look)
            return
        print(window.text.get("1.0", "end").strip())
        window.close()

    window.entry.insert(0, request)
    window.send.invoke()
    window.root.after(POLL_MS, look)


def main() -> None:
    approval = Approval()
    with Agent(
        tools=[set_timer, wait_seconds],
        policy={"set_timer": "allow", "*": "ask"},
        approve=approval.ask,
        max_steps=1,
    ) as agent:
        window = Window(tk.Tk(), agent, approval)
        if sys.argv[1:2] == ["--self-test"]:
            self_test(window, " ".join(sys.argv[2:]))
        window.root.mainloop()


if __name__ == "__main__":
    main()
