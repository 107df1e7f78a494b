"""Threads and cancels at the bundled models, by the program that counts them in full (bench/threads.py).

Here 8 threads ask 4 requests each, and 30 cancels come; `python bench/threads.py` does 8 x 50 and 200. The scripted
model is asked that often in test_turns.py.
"""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from toolace_edge.registry import Model, open_model

THREADS, REQUESTS, CANCELS = 8, 4, 30


@pytest.fixture(scope="module")
def counting() -> dict[str, Any]:
    return runpy.run_path(str(Path(__file__).parent.parent / "bench" / "threads.py"), run_name="threads")


@pytest.fixture(scope="module", params=["nano", "nano-gguf"])
def model(request: pytest.FixtureRequest) -> Iterator[Model]:
    if request.param == "nano-gguf":
        pytest.importorskip("llama_cpp")
    with open_model(request.param) as opened:
        yield opened


@pytest.mark.slow
def test_threads_get_the_answers_of_one_and_memory_stays(counting: dict[str, Any], model: Model) -> None:
    report = counting["crowd"](model, THREADS, REQUESTS)
    assert (len(report.right), report.different, report.errors) == (THREADS * REQUESTS, 0, [])
    assert report.is_good, f"memory grew by {report.growth_mb} MB"


@pytest.mark.slow
def test_cancels_at_random_moments_leave_it_usable(counting: dict[str, Any], model: Model) -> None:
    report = counting["cancels"](model, CANCELS)
    assert (report.different, report.errors) == (0, [])
    assert report.cancelled > 0
    assert report.is_good, f"memory grew by {report.growth_mb} MB"


def test_a_wrong_answer_an_error_and_memory_that_grows_are_not_good(counting: dict[str, Any]) -> None:
    report = counting["Report"]
    assert report([True]).is_good
    assert report([True], growth_mb=9.9).is_good
    assert not report([True, False]).is_good
    assert not report([True], ["EngineError: no"]).is_good
    assert not report([True], growth_mb=10.1).is_good
