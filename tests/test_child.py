"""A module in a process of its own gives its result, its progress, or the reason why there is none."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from toolace_edge.convert import child
from toolace_edge.convert.child import run_child
from toolace_edge.errors import EngineError

MEASURE = "toolace_edge.convert.measure"


def test_an_error_of_the_child_is_the_callers(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text("not JSON")
    job = {"model": "m", "data": str(tmp_path / "data.jsonl"), "limit": None}
    with pytest.raises(EngineError, match=r"m: .*data\.jsonl, line 1: not JSON") as caught:
        run_child(MEASURE, job, "m")
    assert "line" in caught.value.hint


def test_chatter_is_passed_over_and_no_result_is_an_error() -> None:
    with pytest.raises(EngineError, match=r"m: its process ended with code 0"):
        run_child("this", {}, "m")
    with pytest.raises(EngineError, match=r"code 1, saying .*nowhere"):
        run_child("toolace_edge.nowhere", {}, "m")


CALLER = """
from toolace_edge.convert import child
child.run_child("tests.endless_child", {}, "m", lambda done, total: print(done, flush=True))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="who lives is not told there")
def test_a_killed_caller_ends_the_child() -> None:
    caller = subprocess.Popen([sys.executable, "-c", CALLER], stdout=subprocess.PIPE, text=True)
    assert caller.stdout is not None
    process = int(caller.stdout.readline())
    assert alive(process)
    caller.kill()
    caller.wait()
    caller.stdout.close()
    for _ in range(600):
        if not alive(process):
            return
        time.sleep(0.1)
    pytest.fail("the child goes on without its caller")


def alive(process: int) -> bool:
    """An orphan that nobody buries stays a zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def test_an_interrupt_ends_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[str]] = []

    def interrupted(process: subprocess.Popen[str], *_args: object) -> None:
        started.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(child, "_listen", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_child("code", {}, "m")  # waits for input for ever
    assert started[0].poll() is not None
