"""Calls that share a thread with nobody.

Where llama.cpp computes with AMX, it sets up a thread's tiles once and takes them to be so from then on. Whatever else
uses AMX in that thread sets them differently (PyTorch's bfloat16 products do), and the next call dies of an illegal
instruction or gives NaN. In a thread in which nothing else ever runs, nobody can.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from toolace_edge.errors import Cancelled

_Result = TypeVar("_Result")


class OwnThread:
    """Runs functions one after the other in a thread of its own, which costs some 50 microseconds each."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "llama.cpp")

    def run(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        """The function's result. An interrupt is raised here once the function has ended.

        Cancelled as the program ends.
        """
        try:
            future = self._pool.submit(function, *arguments)
        except RuntimeError as error:  # Python takes no more work for threads
            raise Cancelled("Cancelled, as the program ends.") from error
        try:
            return future.result()
        except BaseException:
            wait([future])
            raise

    def close(self) -> None:
        """Let the thread end. It is not waited for: the last reference to an engine may vanish in it."""
        self._pool.shutdown(wait=False)
