"""A program at a pseudo-terminal, and the screen that a person would see: lines, cursor, erased rows."""

from __future__ import annotations

import codecs
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parent.parent
MUCH_S = 120.0
_SEQUENCE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z@])")


class Screen:
    """Enough of a terminal for readline and for us; lines that scroll out stay in `lines`, and none is wrapped."""

    def __init__(self) -> None:
        self.lines = [""]
        self._row = self._column = 0

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines)

    def feed(self, text: str) -> None:
        at = 0
        while at < len(text):
            found = _SEQUENCE.match(text, at)
            if found:
                self._control(found[2], int(found[1]) if found[1].isdigit() else 1, found[1])
                at = found.end()
            else:
                self._character(text[at])
                at += 1

    def _character(self, character: str) -> None:
        line = self.lines[self._row]
        if character == "\r":
            self._column = 0
        elif character == "\n":
            self._row += 1
            self.lines += [""] * (self._row + 1 - len(self.lines))
        elif character == "\b":
            self._column = max(self._column - 1, 0)
        elif character != "\a":
            line = line.ljust(self._column)
            self.lines[self._row] = line[: self._column] + character + line[self._column + 1 :]
            self._column += 1

    def _control(self, kind: str, number: int, written: str) -> None:
        line = self.lines[self._row]
        if kind == "A":
            self._row = max(self._row - number, 0)
        elif kind == "B":
            self._row = min(self._row + number, len(self.lines) - 1)
        elif kind == "C":
            self._column += number
        elif kind == "D":
            self._column = max(self._column - number, 0)
        elif kind in "JK":
            assert written in ("", "0"), f"only what is behind the cursor is erased here, not {written}{kind}"
            self.lines[self._row] = line[: self._column]
            if kind == "J":
                del self.lines[self._row + 1 :]
        elif kind == "P":
            self.lines[self._row] = line[: self._column] + line[self._column + number :]
        elif kind == "@":
            self.lines[self._row] = line[: self._column] + " " * number + line[self._column :]
        else:
            assert kind in "mhl", f"unknown sequence {written}{kind}"


class Program:
    """`command` with all its streams at a pseudo-terminal of 80 columns; `stdout` may be a pipe's file instead."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], *, rows: int = 24, **streams: Any) -> None:
        import fcntl
        import pty
        import struct
        import termios

        self._ours, theirs = pty.openpty()

        def begin() -> None:
            fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # what starts in the background ignores it

        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 80, 0, 0))
        kinds = {"stdin": theirs, "stdout": theirs, "stderr": theirs, **streams}
        taken = {"TERM": "xterm", "INPUTRC": os.devnull, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **taken, **env},
            start_new_session=True,
            preexec_fn=begin,
            **kinds,
        )
        os.close(theirs)
        self.screen = Screen()
        self.written = ""  # everything, sequences included
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def type(self, text: str) -> None:
        if "\x03" in text:  # between Python's look for signals and readline's wait one is only heard at the next key
            time.sleep(0.3)
        os.write(self._ours, text.encode())

    def wait(self, until: Callable[[Screen], bool] | str) -> str:
        """What stands on the screen once the condition holds, or a text stands there."""
        end = time.monotonic() + MUCH_S
        while not (until in self.screen.text if isinstance(until, str) else until(self.screen)):
            assert self._read(end), f"{until} did not come:\n{self.screen.text}"
        return self.screen.text

    def prompted(self, times: int) -> str:
        """The screen once the prompt stands there so often, and nothing behind it."""
        return self.wait(lambda screen: count(screen, "> ") == times and screen.lines[-1] == "> ")

    def say(self, line: str) -> str:
        """Type a line at a prompt; what stands between it and the next prompt."""
        before = count(self.screen, "> ")
        self.type(f"{line}\r")
        self.prompted(before + 1)
        return self.answer()

    def answer(self) -> str:
        """What stands between the last two prompts."""
        *_, start, end = (i for i, text in enumerate(self.screen.lines) if text.startswith("> "))
        return "\n".join(self.screen.lines[start + 1 : end])

    def end(self) -> int:
        """Reads what is still to come; the exit status."""
        end = time.monotonic() + MUCH_S
        while self._read(end):
            pass
        return self.process.wait(MUCH_S)

    def _read(self, end: float) -> bool:
        """More of what the program writes; False once it is gone, or it took too long."""
        ready, _, _ = select.select([self._ours], [], [], max(end - time.monotonic(), 0))
        if not ready:
            return False
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # Linux's word for the end of a terminal
            return False
        text = self._decoder.decode(data)
        self.written += text
        self.screen.feed(text)
        return bool(data)

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(MUCH_S)
        os.close(self._ours)


def count(screen: Screen, start: str) -> int:
    return sum(line.startswith(start) for line in screen.lines)
