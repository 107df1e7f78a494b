"""The window of examples/tk_app.py works, stays alive while a tool runs, asks, and its Cancel button cancels.

On a screen that nobody sees (Xvfb) where there is none; where that is not installed either, nothing here can run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("tkinter")
ROOT = Path(__file__).parent.parent
MUCH_S = 120


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """The environment of a process that has a screen."""
    if not sys.platform.startswith("linux") or os.environ.get("DISPLAY"):
        yield dict(os.environ)
        return
    server = shutil.which("Xvfb")
    if server is None:
        pytest.skip("there is no display, and no Xvfb to make one")
    reading, writing = os.pipe()
    flags = ["-displayfd", str(writing), "-screen", "0", "800x600x24", "-nolisten", "tcp"]
    with open(reading, encoding="ascii") as number:
        process = subprocess.Popen(
            [server, *flags], pass_fds=[writing], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(writing)
        try:
            display = number.readline().strip()  # written when the screen is there; nothing where Xvfb failed
            assert display, "Xvfb did not start"
            yield {**os.environ, "DISPLAY": f":{display}"}
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)


def said(environment: dict[str, str], *command: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=MUCH_S
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_a_request_is_shown_with_its_call_and_its_result(environment: dict[str, str]) -> None:
    lines = ["> ten minutes", "set_timer(minutes=10)", "It rings in 10 minutes."]
    assert said(environment, "-m", "tests.tk_driver", "self_test") == lines


def test_the_window_lives_while_a_tool_runs_and_cancel_ends_it(environment: dict[str, str]) -> None:
    cancelled = ["> hang", "hang()", "Error: hang was cancelled while it ran.", "Cancelled."]
    again = [*cancelled, "> hang", "hang()", "done"]
    assert said(environment, "-m", "tests.tk_driver", "cancel") == [*cancelled, *again]


def test_closing_the_window_ends_the_program_whatever_runs(environment: dict[str, str]) -> None:
    assert said(environment, "-m", "tests.tk_driver", "close") == ["closed"]


def test_a_call_that_is_asked_for_runs_only_after_allow(environment: dict[str, str]) -> None:
    begun = ["> act", "act()"]
    denied, allowed = [*begun, "Error: the user did not allow this call."], [*begun, "done"]
    cancelled = [*begun, "Error: act was cancelled before it ran.", "Cancelled."]
    lines = [*denied, *allowed, *denied, *cancelled, *allowed]
    assert said(environment, "-m", "tests.tk_driver", "questions") == lines


def test_closing_the_window_while_a_question_is_open_is_a_no(environment: dict[str, str]) -> None:
    assert said(environment, "-m", "tests.tk_driver", "close_question") == ["False [] False"]


@pytest.mark.slow
def test_with_the_bundled_model(environment: dict[str, str]) -> None:
    lines = said(environment, "examples/tk_app.py", "--self-test", "set a timer for 10 minutes")
    assert lines == ["> set a timer for 10 minutes", "set_timer(minutes=10)", "It rings in 10 minutes."]
