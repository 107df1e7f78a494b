"""Who may use an engine now: one caller at a time, in the order in which they came, until it is closed."""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from toolace_edge.errors import Cancelled, EngineError

_POLL_S = 0.05  # how often somebody who waits asks whether to go on waiting
_LEAVE_S = 10.0


_all: weakref.WeakSet[Turns] = weakref.WeakSet()


@atexit.register
def _leave() -> None:
    for turns in list(_all):
        turns.leave()


class Turns:
    """A queue for the threads that share an engine. Whoever only ever has one thread need not know of it."""

    def __init__(self) -> None:
        self._queue: deque[int] = deque()  # threads; the first one's turn it is
        self._changed = threading.Condition()
        self._closed = False
        self.is_leaving = False  # the program ends, and whoever has the turn is to stop
        _all.add(self)

    @contextmanager
    def turn(self, cancelled: Callable[[], bool] | None = None) -> Iterator[None]:
        """Wait until it is this thread's turn, and keep it for the block.

        Cancelled where `cancelled` says so while it waits, and after `leave`; EngineError after `end`, and where the
        thread has the turn already (a callback that asks the model which is calling it), as it would wait for itself.
        """
        with self._place(cancelled) as there_are_turns:
            if self.is_leaving:
                raise Cancelled("Cancelled, as the program ends.")
            if not there_are_turns:
                raise EngineError("The model is closed.", hint="Open the model again.")
            yield

    def end(self, free: Callable[[], None]) -> None:
        """Call `free` when whoever has the turn is done, and give no turn to anybody afterwards. Idempotent."""
        with self._place() as there_are_turns:
            if there_are_turns:
                self._closed = True
                free()

    def leave(self) -> None:
        """Have whoever has the turn stop, and wait for that: a native call dies where its process ends around it.

        A host's own callback that never ends is left behind after a while.
        """
        self.is_leaving = True
        latest = time.monotonic() + _LEAVE_S
        with suppress(Cancelled, EngineError), self._place(lambda: time.monotonic() > latest):
            self._closed = True

    @contextmanager
    def _place(self, cancelled: Callable[[], bool] | None = None) -> Iterator[bool]:
        """Wait as `turn` does; False, at once, where it was or is closed."""
        me = threading.get_ident()
        with self._changed:
            if me in self._queue:
                raise EngineError(
                    "The model is answering in this thread already.", hint="Ask it again when that is done."
                )
            self._queue.append(me)
        try:
            with self._changed:
                while self._queue[0] != me and not self._closed:
                    if cancelled is not None and cancelled():
                        raise Cancelled("Cancelled while waiting for the model.")
                    self._changed.wait(_POLL_S)
                there_are_turns = not self._closed
            yield there_are_turns
        finally:
            with self._changed:
                self._queue.remove(me)
                self._changed.notify_all()
