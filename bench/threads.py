"""One model, many threads: no error, no answer of somebody else, no memory that grows, and usable after any cancel.

    python bench/threads.py                                    # 8 threads x 50 requests, 200 cancels: minutes
    python bench/threads.py --model nano-gguf --threads 4 --requests 10 --cancels 20

Every request is answered alone first; these answers are what each thread has to get. Threads use two sets of tools in
turn, so that the cached prompt is one time theirs and another time not, and half of those with the same tools share a
session. The cancels come from outside at random moments of a request, with a seed. Memory is the process's resident
set; its growth is counted over the second half of the answers, when everything that is made once is there. Ends with 1
where a line says what must not be.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from toolace_edge.errors import Cancelled
from toolace_edge.registry import Model, open_model
from toolace_edge.session import Session
from toolace_edge.tools import load_tools

MAX_GROWTH_MB = 10.0
OPTIONS = {"rounds": 0, "max_new_tokens": 32}


def set_timer(minutes: int) -> None:
    """Set a timer."""


def set_thermostat(room: Literal["kitchen", "bedroom"], degrees: int) -> None:
    """Set the temperature of a room."""


SETS = ((set_timer,), (set_thermostat,))
WORDS = ("set a timer for {} minutes", "set the kitchen to {} degrees")

Calls = list[tuple[str, Any]]


@dataclass
class Report:
    """`right`, of each answer: whether it is that of the same request alone. `growth_mb`: None where nobody tells."""

    right: list[bool] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0
    growth_mb: float | None = None
    cancelled: int = 0

    @property
    def different(self) -> int:
        return self.right.count(False)

    @property
    def is_good(self) -> bool:
        return not self.errors and not self.different and (self.growth_mb is None or self.growth_mb < MAX_GROWTH_MB)


class Memory:
    """What the process holds, looked at after each answer."""

    def __init__(self) -> None:
        self.seen_mb: list[float] = []

    def look(self) -> None:
        if sys.platform.startswith("linux"):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.seen_mb.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)

    @property
    def growth_mb(self) -> float | None:
        """From the most of the first half to the end."""
        half = len(self.seen_mb) // 2
        return round(self.seen_mb[-1] - max(self.seen_mb[:half]), 1) if half else None


def asked(session: Session, request: str) -> Calls:
    return [(call.name, call.arguments) for call in session.complete(request).calls]


def requests(tools: int, count: int) -> list[str]:
    """Two-digit numbers, a different one in each."""
    return [WORDS[tools].format(10 + i) for i in range(count)]


def sessions(model: Model) -> list[Session]:
    return [model.session(load_tools(list(tools)), **OPTIONS) for tools in SETS]


def crowd(model: Model, threads: int, count: int) -> Report:
    """`threads` threads ask `count` requests each, every one beginning somewhere else."""
    report, memory, begun = Report(), Memory(), time.perf_counter()
    shared = sessions(model)
    expected = [[asked(shared[i], one) for one in requests(i, count)] for i in range(len(SETS))]

    def ask(number: int) -> None:
        tools = number % len(SETS)
        session = shared[tools] if number // len(SETS) % 2 else sessions(model)[tools]
        for i in range(count):
            at = (i + number * count // threads) % count
            try:
                report.right.append(asked(session, requests(tools, count)[at]) == expected[tools][at])
            except Exception as error:
                report.errors.append(f"{type(error).__name__}: {error}")
            memory.look()

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(ask, range(threads)))
    report.seconds, report.growth_mb = time.perf_counter() - begun, memory.growth_mb
    return report


def cancels(model: Model, count: int, seed: int = 1) -> Report:
    """A thread asks all the time and is cancelled `count` times; at the end both are answered as before."""
    report, memory, begun = Report(), Memory(), time.perf_counter()
    both, over = sessions(model), threading.Event()
    words = [requests(i, 1)[0] for i in range(len(SETS))]
    expected = [asked(session, one) for session, one in zip(both, words, strict=True)]
    took_s = (time.perf_counter() - begun) / len(both)

    def ask() -> None:
        number = 0
        while not over.is_set():
            number = (number + 1) % len(both)
            try:
                report.right.append(asked(both[number], words[number]) == expected[number])
            except Cancelled:
                report.cancelled += 1
            except Exception as error:
                report.errors.append(f"{type(error).__name__}: {error}")
            memory.look()

    dice, thread = random.Random(seed), threading.Thread(target=ask)
    thread.start()
    for _ in range(count):
        time.sleep(dice.uniform(0, took_s))
        for session in both:
            session.cancel()
    over.set()
    thread.join()
    report.right += [asked(session, one) == calls for session, one, calls in zip(both, words, expected, strict=True)]
    report.seconds, report.growth_mb = time.perf_counter() - begun, memory.growth_mb
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a name or a path; default: the bundled one")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--requests", type=int, default=50, help="of each thread")
    parser.add_argument("--cancels", type=int, default=200)
    options = parser.parse_args(arguments)
    with open_model(options.model) as model:
        print(f"{model.name}: {options.threads} threads x {options.requests} requests, {options.cancels} cancels")
        reports = [crowd(model, options.threads, options.requests), cancels(model, options.cancels)]
    for name, one in zip(("threads", "cancels"), reports, strict=True):
        growth = "unknown" if one.growth_mb is None else f"{one.growth_mb} MB"
        print(
            f"{name}: {len(one.right)} answers in {one.seconds:.1f} s, {one.different} different,"
            f" {one.cancelled} cancelled, {len(one.errors)} errors, memory grew by {growth}"
        )
        for error in one.errors[:5]:
            print(f"  {error}")
    return 0 if all(one.is_good for one in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
