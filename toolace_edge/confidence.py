"""How sure an answer is: the probabilities of its free choices, and their calibration to a chance of being right.

Forced tokens say nothing and are left out. A choice counts with its probability at temperature 1 among the tokens
that the grammar allowed. Two statistics are kept: the product, which is the probability of the whole answer under the
grammar, and the minimum, which is its weakest choice. The product falls with length, which is right for a call: each
value is one more thing to get wrong. Which of the two a calibration reads, it says itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from toolace_edge.errors import ModelError

_LEAST = 1e-30  # a probability that float32 rounded to 0


@dataclass(frozen=True, slots=True)
class Confidence:
    """Raw evidence of one answer, as natural logarithms of the product and of the minimum over its `choices`."""

    log_product: float
    log_minimum: float
    choices: int

    @classmethod
    def of(cls, probability: float, before: Confidence | None) -> Confidence:
        """One more free choice."""
        log = math.log(max(probability, _LEAST))
        if before is None:
            return cls(log, log, 1)
        return cls(before.log_product + log, min(before.log_minimum, log), before.choices + 1)


@dataclass(frozen=True, slots=True)
class Calibration:
    """`1 / (1 + exp(-(a * x + b)))`, x being the statistic named by `on`; made on held-out data, shipped with a model.

    `gate` is the calibrated confidence from which refinement is not worth a round; None switches that off. `top_k` is
    how many tools the model is offered where they are too many; None leaves that to retrieval's default. `tools_tokens`
    says when they are: where they take more tokens; None only where they do not fit.
    """

    a: float
    b: float
    on: Literal["log_product", "log_minimum"] = "log_product"
    gate: float | None = None
    top_k: int | None = None
    tools_tokens: int | None = None

    @classmethod
    def of(cls, facts: Calibration | Mapping[str, Any] | None) -> Calibration | None:
        """From a model's own facts: `{"kind": "logistic", "on": "log_product", "a": 1.0, "b": 0.0, "gate": null}`."""
        if facts is None or isinstance(facts, Calibration):
            return facts
        if not isinstance(facts, Mapping):
            raise ModelError(f"calibration: {facts!r:.80} is not an object.")
        kind, on, gate = facts.get("kind"), facts.get("on", "log_product"), facts.get("gate")
        if kind != "logistic" or on not in ("log_product", "log_minimum"):
            raise ModelError(f"calibration: {dict(facts)!r} is of no known kind.")
        try:
            a, b, gate = float(facts["a"]), float(facts["b"]), None if gate is None else float(gate)
            if not all(map(math.isfinite, (a, b, gate or 0.0))):
                raise ValueError("not finite")
            return cls(a, b, on, gate, _count(facts, "top_k"), _count(facts, "tools_tokens"))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"calibration: a, b, gate, top_k and tools_tokens must be numbers: {dict(facts)!r}."
            ) from error

    def __call__(self, confidence: Confidence) -> float:
        """The chance, 0 to 1, that the answer is right."""
        x = confidence.log_product if self.on == "log_product" else confidence.log_minimum
        return 1.0 / (1.0 + math.exp(-max(-700.0, min(700.0, self.a * x + self.b))))

    def opens_gate(self, confidence: Confidence) -> bool:
        return self.gate is not None and self(confidence) >= self.gate


def _count(facts: Mapping[str, Any], name: str) -> int | None:
    count = facts.get(name)
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise ValueError(f"{name} is no number from 1 on")
    return count
