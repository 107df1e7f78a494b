"""A calibration is the likeliest logistic, its gate loses no right answer, and what cannot carry a fit is refused."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from toolace_edge.confidence import Calibration, Confidence
from toolace_edge.convert import calibrate as module
from toolace_edge.convert.calibrate import (
    Trace,
    calibrate,
    choose_threshold,
    cross_validated,
    fit_logistic,
    log_loss,
    reliability,
)
from toolace_edge.errors import InputError


def drawn(n: int, a: float, b: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Evidence, and whether right, with chance 1 / (1 + exp(-(a x + b)))."""
    dice = np.random.default_rng(seed)
    x = -dice.exponential(2.0, n)
    return x, dice.random(n) < 1 / (1 + np.exp(-(a * x + b)))


def test_the_fit_finds_what_the_data_was_drawn_from() -> None:
    x, right = drawn(20_000, 0.9, 1.2)
    assert fit_logistic(x, right) == pytest.approx((0.9, 1.2), abs=0.08)


def test_no_other_parameters_are_likelier() -> None:
    """Against the mean log likelihood with Platt's targets, on a grid around the fit."""
    x, right = drawn(300, 0.7, 0.5, seed=3)
    a, b = fit_logistic(x, right)
    n, k = len(right), int(right.sum())
    target = np.where(right, (k + 1) / (k + 2), 1 / (n - k + 2))

    def loss(a: float, b: float) -> float:
        chance = 1 / (1 + np.exp(-(a * x + b)))
        return float(-(target * np.log(chance) + (1 - target) * np.log(1 - chance)).mean())

    best = loss(a, b)
    for da, db in product((-0.1, -0.01, -0.001, 0, 0.001, 0.01, 0.1), repeat=2):
        assert loss(a + da, b + db) >= best - 1e-12


def test_separable_data_gives_finite_numbers() -> None:
    a, b = fit_logistic(np.array([-3.0, -2.0, -1.0, -0.5]), np.array([False, False, True, True]))
    assert 0 < a < 10
    assert abs(b) < 10
    assert all(map(math.isfinite, fit_logistic(np.zeros(4), np.array([True, True, True, False]))))


def test_held_out_chances_do_not_know_their_own_answer() -> None:
    """Without any signal, held-out predictions are no better than one chance for all."""
    dice = np.random.default_rng(5)
    x, right = -dice.exponential(1.0, 400), dice.random(400) < 0.5
    assert log_loss(cross_validated(x, right), right) > log_loss(np.full(400, right.mean()), right)


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        ((1, 1, 1, 0), (1, 1, 1, 0), -4.0),  # nothing is ever repaired: stop always
        ((1, 1, 0, 0), (1, 1, 1, 0), -2.0),  # the third is repaired: stop above it
        ((0, 1, 1, 1), (1, 1, 1, 1), None),  # the surest is repaired: no gate
        ((1, 0, 1, 1), (0, 1, 1, 1), -4.0),  # one is spoilt before one is repaired: nothing is lost in sum
    ],
)
def test_the_gate_is_the_lowest_that_loses_nothing(
    first: tuple[int, ...], last: tuple[int, ...], expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAST_GATED", 1)
    x = np.array([[-1.0, -9.0], [-2.0, -9.0], [-3.0, -9.0], [-4.0, -9.0]])
    assert choose_threshold(x, np.array([first, last], bool).T) == expected
    monkeypatch.setattr(module, "LEAST_GATED", 5)
    assert choose_threshold(x, np.array([first, last], bool).T) is None
    assert choose_threshold(x[:, :1], np.array([first], bool).T) is None  # nothing was refined


def test_bins_by_hand() -> None:
    chance, right = np.array([0.05, 0.07, 0.95, 1.0]), np.array([False, True, True, True])
    low, high = reliability(chance, right)
    assert (low.n, low.confidence, low.accuracy) == (2, pytest.approx(0.06), 0.5)
    assert (high.n, high.confidence, high.accuracy) == (2, pytest.approx(0.975), 1.0)


def traces(n: int = 400) -> list[Trace]:
    """The minimum tells, the product is noise; a second round repairs some of the unsure."""
    dice = np.random.default_rng(1)
    made = []
    for _ in range(n):
        minimum = -float(dice.exponential(1.0))
        right = bool(dice.random() < math.exp(minimum))
        repaired = right or (minimum < -1.0 and bool(dice.random() < 0.5))
        noise = minimum - float(dice.exponential(9.0))
        made.append(Trace((noise, noise), (minimum, minimum / 2), (right, repaired)))
    return made


def test_the_better_statistic_is_kept_and_the_runtime_takes_it() -> None:
    given = traces()
    fitted = calibrate(given)
    assert fitted.facts["on"] == "log_minimum"
    assert fitted.losses["log_minimum"] < fitted.losses["log_product"]
    assert fitted.losses["log_minimum"] < fitted.base_loss
    assert fitted.error < 0.15  # what the data was made by is no logistic
    calibration = Calibration.of(fitted.facts)
    assert calibration is not None
    opened = [one for one in given if calibration.opens_gate(Confidence(one.log_product[0], one.log_minimum[0], 3))]
    assert len(opened) == round(fitted.gated * len(given)) >= module.LEAST_GATED
    assert all(one.right[0] == one.right[1] for one in opened)  # nothing is lost by stopping
    assert fitted.accuracy >= fitted.accuracy_ungated


def test_answers_that_are_all_right_carry_no_fit() -> None:
    with pytest.raises(InputError, match="40 of 40 answers are right"):
        calibrate([Trace((-1.0,), (-1.0,), (True,))] * 40)
    with pytest.raises(InputError, match="0 of 0"):
        calibrate([])


def test_no_gate_lets_out_what_is_rather_wrong() -> None:
    """Refining changes nothing here, so stopping anywhere loses nothing; yet a doubtful answer is not "confident"."""
    x, right = drawn(500, 1.2, 1.5)
    given = [Trace((float(one),) * 2, (float(one),) * 2, (bool(ok),) * 2) for one, ok in zip(x, right, strict=True)]
    fitted = module.calibrate(given)
    assert 0.45 < fitted.facts["gate"] < 0.55
    assert 0.1 < fitted.gated < 0.95
