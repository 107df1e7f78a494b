"""The benchmark of ToolACE-R's selection, with a pupil that learns what it is shown (test_rounds.py)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.test_rounds import ROUNDS, Killed, Pupil, files_of
from toolace_edge.train.recipes import RoundsRecipe
from toolace_edge.train.selection import read_ids


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "bench"))
    import selection

    return selection


def trial(bench: Any, tmp_path: Path, pupil: Pupil) -> Any:
    files = files_of(tmp_path)
    recipe = RoundsRecipe(rounds=replace(ROUNDS, refinement=False))
    return bench.Trial(recipe, files["base"], files["data"], files["dev"], tmp_path / "work", lambda _: pupil)


def test_both_arms_learn_as_many_lines_and_only_one_those_that_are_half_right(bench: Any, tmp_path: Path) -> None:
    pupil = Pupil()
    before, found = trial(bench, tmp_path, pupil).run((1, 2, 3))
    assert len(pupil.asked) == 40  # the base is asked once
    chosen = [[int(name) for name in read_ids(lessons.ids)] for lessons in pupil.trained]
    assert chosen[::2] == [list(range(8))] * 3
    assert all(len(drawn) == 8 and drawn != chosen[0] for drawn in chosen[1::2])
    assert chosen[1] != chosen[3]
    assert [one["accuracy"] for one in found["model"]] == [8 / 40] * 3
    assert [one["accuracy"] for one in found["random"]] == [min(max(drawn) + 1, 24) / 40 for drawn in chosen[1::2]]
    assert before == {"n": 40, "accuracy": 0.0}


def test_what_was_done_is_not_done_again(bench: Any, tmp_path: Path) -> None:
    whole = trial(bench, tmp_path, Pupil()).run((1, 2))
    (tmp_path / "work").rename(tmp_path / "whole")
    steps = 0
    while True:
        try:
            found = trial(bench, tmp_path, Pupil(dies_at=steps)).run((1, 2))
            break
        except Killed:
            steps += 25
    assert found == whole
    assert trial(bench, tmp_path, Pupil(dies_at=0)).run((1, 2)) == whole


def test_the_table_says_how_far_apart_the_arms_are(bench: Any) -> None:
    arms = {"model": [0.5, 0.55], "random": [0.5, 0.5]}
    found = {arm: [{"n": 100, "accuracy": one, "lines": 30} for one in values] for arm, values in arms.items()}
    lines = bench.table({"n": 100, "accuracy": 0.4}, found).splitlines()
    assert lines[0] == "100 dev lines; before: 40.0% (30.9% .. 49.8%)"
    assert lines[-4:-2] == ["| model | 30 | 50.0%, 55.0% | 52.5% |", "| random | 30 | 50.0%, 50.0% | 50.0% |"]
    assert lines[-1] == "model less random: +2.5 points, standard deviation 3.5"
