"""Makes a calibration: how the evidence of an answer becomes its chance of being right, and when to stop refining.

The model answers lines whose right calls are known, with every refinement. The gate comes first: the lowest value of
the statistic from which on stopping loses no right answer, on this data, against refining to the end; but never one at
which an answer is rather wrong than right. A logistic is fitted to the answers as the runtime would give them with that
gate, for the product and for the minimum of the probabilities; the one that predicts better in five-fold
cross-validation is kept. (Platt, "Probabilistic outputs for
support vector machines", 1999, with his targets, which keep separable data finite; Newton's method.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from toolace_edge.errors import InputError
from toolace_edge.evaluate import answer_example
from toolace_edge.examples import Example
from toolace_edge.matching import calls_match
from toolace_edge.registry import Model

Statistic = Literal["log_product", "log_minimum"]
Floats = NDArray[np.float64]

STATISTICS: tuple[Statistic, ...] = ("log_product", "log_minimum")
LEAST_OF_EACH = 5  # right and wrong answers that a fit needs
LEAST_GATED = 20  # first answers that must reach a gate before it is believed
_FOLDS = 5
_BINS = 10


@dataclass(frozen=True, slots=True)
class Trace:
    """The rounds of one request, the first one's first: the evidence of each, and whether its calls are right."""

    log_product: tuple[float, ...]
    log_minimum: tuple[float, ...]
    right: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of like confidence: how sure they were on average, and how many were right."""

    n: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Fitted:
    """`facts` are what a model carries. Losses are nats an answer, held out; `base_loss` is that of one fixed chance.

    `bins` and `error` (expected calibration error) are of held-out predictions. `gated` is the share of requests
    whose first answer opens the gate; accuracies are with the gate and with every round.
    """

    facts: dict[str, Any]
    n: int
    losses: dict[str, float]
    base_loss: float
    bins: tuple[Bin, ...]
    error: float
    gated: float
    accuracy: float
    accuracy_ungated: float


def trace(model: Model, examples: Iterable[Example], rounds: int, on_done: Callable[[], None]) -> list[Trace]:
    """Run the examples. What the model cannot take or has no choice about is left out."""
    traces = []
    for example in examples:
        answer = answer_example(model, example, rounds=rounds, top_k=0, calibration=None).answer
        on_done()
        steps = () if answer is None else answer.rounds
        products = [one.log_probability for one in steps if one.log_probability is not None]
        minima = [one.log_minimum for one in steps if one.log_minimum is not None]
        if steps and len(products) == len(minima) == len(steps):
            right = tuple(calls_match(one.calls, example.gold, example.accept) for one in steps)
            traces.append(Trace(tuple(products), tuple(minima), right))
    return traces


def calibrate(traces: Sequence[Trace]) -> Fitted:
    """The better of both statistics. InputError where the answers cannot carry a fit."""
    finals = [one.right[-1] for one in traces]
    if min(sum(finals), len(finals) - sum(finals)) < LEAST_OF_EACH:
        raise InputError(
            f"{sum(finals)} of {len(finals)} answers are right: a calibration needs at least {LEAST_OF_EACH} right and "
            f"{LEAST_OF_EACH} wrong ones.",
            hint="Give more lines, with requests of the difficulty that is expected.",
        )
    fits = {on: _fit_statistic(traces, on) for on in STATISTICS}
    best = min(STATISTICS, key=lambda on: fits[on].losses[on])
    losses = {on: fits[on].losses[on] for on in STATISTICS}
    return Fitted(**{**{name: getattr(fits[best], name) for name in Fitted.__slots__}, "losses": losses})


def _fit_statistic(traces: Sequence[Trace], on: Statistic) -> Fitted:
    x, right = _rounds(traces, on)
    threshold = choose_threshold(x, right)
    evidence, outcome, a, b = _fit_stopped(x, right, threshold)
    if threshold is not None and a > 0 and threshold < -b / a:  # what is rather wrong than right is not "confident"
        threshold = -b / a
        evidence, outcome, a, b = _fit_stopped(x, right, threshold)
    held_out = cross_validated(evidence, outcome)
    bins = reliability(held_out, outcome)
    gate = None if threshold is None or a <= 0 else max(0.5, math.floor(_logistic(a * threshold + b) * 1e6) / 1e6)
    rate = float(outcome.mean())
    return Fitted(
        facts={"kind": "logistic", "on": on, "a": round(a, 6), "b": round(b, 6), "gate": gate},
        n=len(traces),
        losses={on: log_loss(held_out, outcome)},
        base_loss=log_loss(np.full(len(outcome), rate), outcome),
        bins=bins,
        error=sum(one.n * abs(one.confidence - one.accuracy) for one in bins) / len(outcome),
        gated=0.0 if gate is None else float((_logistic(a * x[:, 0] + b) >= gate).mean()),
        accuracy=rate,
        accuracy_ungated=float(np.mean([one.right[-1] for one in traces])),
    )


def _fit_stopped(
    x: Floats, right: NDArray[np.bool_], threshold: float | None
) -> tuple[Floats, NDArray[np.bool_], float, float]:
    """The evidence and outcome, [n], of the answers that a gate at `threshold` lets out, and the logistic of both."""
    lines, stops = np.arange(len(x)), _stops(x, math.inf if threshold is None else threshold)
    evidence, outcome = x[lines, stops], right[lines, stops]
    return evidence, outcome, *fit_logistic(evidence, outcome)


def _rounds(traces: Sequence[Trace], on: Statistic) -> tuple[Floats, NDArray[np.bool_]]:
    """(evidence, whether right), both [n, rounds]; after its last round a request keeps that one's."""
    most = max(len(one.right) for one in traces)

    def padded(values: Sequence[Any]) -> list[Any]:
        return [*values, *[values[-1]] * (most - len(values))]

    evidence = [padded(getattr(one, on)) for one in traces]
    return np.array(evidence, np.float64), np.array([padded(one.right) for one in traces], np.bool_)


def _stops(x: Floats, threshold: float) -> NDArray[np.intp]:
    """The round, [n], at which each request stops: the first whose evidence reaches `threshold`, or the last."""
    reached = x >= threshold
    return np.asarray(np.where(reached.any(axis=1), reached.argmax(axis=1), x.shape[1] - 1), np.intp)


def choose_threshold(x: Floats, right: NDArray[np.bool_]) -> float | None:
    """The lowest evidence such that stopping there, or at anything above, loses no right answer; None without one.

    `x` and `right` are [n, rounds]. A threshold that fewer than LEAST_GATED first answers reach is not believed.
    """
    if x.shape[1] == 1:
        return None
    lines, full = np.arange(len(x)), int(right[:, -1].sum())
    found: float | None = None
    for candidate in np.unique(x[:, 0])[::-1]:
        if right[lines, _stops(x, float(candidate))].sum() < full:
            break
        if (x[:, 0] >= candidate).sum() >= LEAST_GATED:
            found = float(candidate)
    return found


def fit_logistic(x: Floats, right: NDArray[np.bool_]) -> tuple[float, float]:
    """(a, b) of the likeliest 1 / (1 + exp(-(a x + b))), by Newton's method with Platt's targets."""
    positive, negative = int(right.sum()), int((~right).sum())
    target = np.where(right, (positive + 1) / (positive + 2), 1 / (negative + 2))
    centre, spread = float(x.mean()), float(x.std()) or 1.0
    inputs = np.stack([(x - centre) / spread, np.ones_like(x)], axis=1)
    weights = np.array([0.0, math.log((positive + 1) / (negative + 1))])
    loss = log_loss(_logistic(inputs @ weights), target)
    for _ in range(100):
        chance = _logistic(inputs @ weights)
        gradient = inputs.T @ (chance - target)
        curvature = inputs.T @ (inputs * (chance * (1 - chance))[:, None]) + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        while (next_loss := log_loss(_logistic(inputs @ (weights - step)), target)) > loss and abs(step).max() > 1e-12:
            step /= 2
        weights, loss = weights - step, next_loss
        if abs(step).max() < 1e-10:
            break
    a = float(weights[0]) / spread
    return a, float(weights[1]) - a * centre


def cross_validated(x: Floats, right: NDArray[np.bool_]) -> Floats:
    """The chance, [n], that each answer is right, by a fit that has not seen it. The folds are always the same."""
    folds = np.random.default_rng(0).permutation(len(x)) % _FOLDS
    chances = np.empty(len(x))
    for fold in range(_FOLDS):
        seen = folds != fold
        a, b = fit_logistic(x[seen], right[seen])
        chances[~seen] = _logistic(a * x[~seen] + b)
    return chances


def _logistic(z: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-np.clip(z, -700.0, 700.0)))


def log_loss(chance: Floats, target: NDArray[Any]) -> float:
    """Mean negative log likelihood, nats; `target` may lie between 0 and 1."""
    chance = np.clip(chance, 1e-15, 1 - 1e-15)
    return float(-(target * np.log(chance) + (1 - target) * np.log(1 - chance)).mean())


def reliability(chance: Floats, right: NDArray[np.bool_]) -> tuple[Bin, ...]:
    """Ten bins of equal width, the empty ones left out."""
    places = np.minimum((chance * _BINS).astype(int), _BINS - 1)
    bins = []
    for place in range(_BINS):
        inside = places == place
        if inside.any():
            bins.append(Bin(int(inside.sum()), float(chance[inside].mean()), float(right[inside].mean())))
    return tuple(bins)
