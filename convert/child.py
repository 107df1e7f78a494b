"""Runs one of our modules in a process of its own: what a library ends, it ends there, and memory is its own.

The job goes in as a line of JSON on standard input, whose end is the end of the caller, and then of the child too.
What comes back are lines of JSON on standard output: `{"done", "total"}` while it works, then `{"result"}` or
`{"error", "hint"}`. Other lines are a library's chatter and are passed over.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from toolace_edge.errors import EngineError, ToolaceEdgeError

Progress = Callable[[int, int], None]  # (done, in all)

_PATIENCE_S = 5.0  # between asking a process to end and ending it


def run_child(module: str, job: Mapping[str, Any], what: str, on_progress: Progress | None = None) -> Any:
    """What `serve` of `module` made of `job`. EngineError, begun with `what` ("m.gguf cannot be measured"), if nothing.

    Whatever interrupts the caller ends the child too.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints:
        command = [sys.executable, "-m", module]
        pipe = subprocess.PIPE
        child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=complaints, text=True, encoding="utf-8")
        try:
            last = _listen(child, job, on_progress)
            code = child.wait()
        finally:
            _end(child)
        if "result" in last:
            return last["result"]
        if "error" in last:
            raise EngineError(f"{what}: {last['error']}", hint=last["hint"])
        complaints.seek(0)
        said = complaints.read().strip().splitlines()[-1:]
    raise EngineError(
        f"{what}: its process ended with code {code}{''.join(f', saying {line!r:.200}' for line in said)}."
    )


def _listen(child: subprocess.Popen[str], job: Mapping[str, Any], on_progress: Progress | None) -> dict[str, Any]:
    """The last message."""
    assert child.stdin is not None
    with suppress(OSError):  # it is gone already; its code says why
        child.stdin.write(json.dumps(job) + "\n")
        child.stdin.flush()
    last: dict[str, Any] = {}
    for last in _messages(child):
        if on_progress is not None and "done" in last:
            on_progress(last["done"], last["total"])
    return last


def _messages(child: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert child.stdout is not None
    for line in child.stdout:
        with suppress(ValueError):
            message = json.loads(line)
            if isinstance(message, dict):
                yield message


def _end(child: subprocess.Popen[str]) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()


def serve(work: Callable[[dict[str, Any], Progress], Any]) -> int:
    """The child's side: do `work` on the job, report, and give the exit code."""
    try:
        job = json.loads(sys.stdin.readline())
        threading.Thread(target=_end_with_the_caller, daemon=True).start()
        result = work(job, lambda done, total: _say({"done": done, "total": total}))
    except ToolaceEdgeError as error:
        _say({"error": str(error), "hint": error.hint})
        return 1
    except KeyboardInterrupt:
        return 130
    _say({"result": result})
    return 0


def _end_with_the_caller() -> None:
    """Killed or not, when it is gone nobody wants the result."""
    while os.read(0, 1):  # the caller sends nothing more
        pass
    os._exit(1)


def _say(message: Mapping[str, Any]) -> None:
    print(json.dumps(message), flush=True)
