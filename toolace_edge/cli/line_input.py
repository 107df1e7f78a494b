"""Requests as somebody types or pipes them: with line editing and a history at a terminal, a line each from a pipe.

The history is one JSON text a line in the state folder, which only its owner may read: a request may have lines. What
begins with a space is not kept. Python without `readline` (Windows) has neither editing nor history.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import ModuleType
from typing import IO

from toolace_edge.cli.output import echo, plain
from toolace_edge.engines.cache_file import write_aside
from toolace_edge.errors import InputError
from toolace_edge.messages import is_text

try:
    import readline
except ImportError:
    readline: ModuleType | None = None  # type: ignore[no-redef]

Complete = Callable[[str], Sequence[str]]  # a line as it stands, to the lines that it may become

_KEPT = 1000  # entries of the history
_MAX_KEPT = 10_000  # characters of an entry
_MAX_LINE = 16 * 2**20  # bytes; no model's context is that long


class Terminal:
    """A person who types. `read` gives None at the end (Ctrl-D) and raises KeyboardInterrupt for Ctrl-C.

    `aside` keeps prompts away from standard output: it is for answers alone.
    """

    def __init__(self, history: Path, complete: Complete, *, aside: bool) -> None:
        self._history = History(history)
        self._complete = complete
        self._aside = aside
        if readline is not None:
            self._set_up()

    def read(self) -> str | None:
        """A request: a line, or several where each but the last ends with a backslash, or pasted at once."""
        lines: list[str] = []
        while True:
            try:
                lines.append(self._line("... " if lines else "> "))
            except EOFError:
                echo("", err=True)
                if not lines:
                    return None
                break
            if not lines[-1].endswith("\\"):
                break
            lines[-1] = lines[-1][:-1]
        text = "\n".join(lines)
        self._history.add(text)
        return text

    def ask(self, question: str) -> str:
        """The answer to a question, as it was typed; empty at the end of input."""
        try:
            return self._line(f"{question} ")
        except EOFError:
            echo("", err=True)
            return ""

    def _line(self, prompt: str) -> str:
        with _stdout_at_stderr() if self._aside else nullcontext():
            try:
                return input(plain(prompt))
            except UnicodeDecodeError:
                raise InputError("That is not UTF-8.", hint="Type in UTF-8.") from None

    def _set_up(self) -> None:
        assert readline is not None
        readline.set_auto_history(False)  # answers to questions are none, and a request is one entry
        readline.set_completer(self._candidate)
        readline.set_completer_delims("")  # what is completed is the line
        if "libedit" in (readline.__doc__ or ""):
            readline.parse_and_bind("bind ^I rl_complete")
        else:
            readline.parse_and_bind("tab: complete")
            readline.parse_and_bind("set enable-bracketed-paste on")  # lines that are pasted are one request
        readline.clear_history()
        for entry in self._history.read():
            readline.add_history(entry)

    def _candidate(self, line: str, number: int) -> str | None:
        with suppress(OSError):
            return next(iter(self._complete(line)[number:]), None)
        return None


class History:
    """The last requests, here and in earlier chats. Where the file cannot be used that is said once, and no more."""

    def __init__(self, path: Path) -> None:
        self._path: Path | None = path if readline is not None else None
        self._last = ""

    def read(self) -> list[str]:
        """The newest entries, oldest first; what is damaged is left out."""
        if self._path is None:
            return []
        try:
            lines = self._path.read_text("utf-8", "replace").splitlines() if self._path.exists() else []
            if len(lines) > 2 * _KEPT:
                write_aside(self._path, "".join(f"{line}\n" for line in lines[-_KEPT:]).encode())
        except OSError as error:
            self._give_up(error)
            return []
        return [entry for line in lines[-_KEPT:] if (entry := _entry(line))]

    def add(self, text: str) -> None:
        if not text.strip() or text[0] == " " or text == self._last or not is_text(text) or readline is None:
            return
        self._last = text
        readline.add_history(text)
        if self._path is None or len(text) > _MAX_KEPT:
            return
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as file:
                os.chmod(self._path, 0o600)  # also where somebody made it first
                file.write(json.dumps(text).encode() + b"\n")
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        echo(f"The history is not kept: {self._path}: {error.strerror}.", err=True)
        self._path = None


def _entry(line: str) -> str | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, str) and is_text(entry) and "\0" not in entry else None


def piped_lines(stream: IO[bytes]) -> Iterator[str | InputError]:
    """The lines of a pipe; in place of one that cannot be used, the error."""
    while line := stream.readline(_MAX_LINE + 1):
        if len(line) > _MAX_LINE:
            while not line.endswith(b"\n") and (line := stream.readline(_MAX_LINE)):
                pass
            yield InputError(f"The line has more than {_MAX_LINE:,} bytes; no model's context is that long.")
            continue
        try:
            yield line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            yield InputError(f"The line is not UTF-8 at byte {error.start}.", hint="Pipe text in UTF-8.")


@contextmanager
def _stdout_at_stderr() -> Iterator[None]:
    """Standard output is standard error meanwhile: `input` edits lines on the former only."""
    sys.stdout.flush()
    out, err = sys.stdout.fileno(), sys.stderr.fileno()
    kept = os.dup(out)
    try:
        os.dup2(err, out)
        yield
    finally:
        with suppress(OSError):
            sys.stdout.flush()
        os.dup2(kept, out)
        os.close(kept)
