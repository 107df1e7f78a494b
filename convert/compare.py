"""Are two models' logits the same? Largest difference, likeliest token, divergence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Comparison:
    """Over `n` positions: largest difference of a logit, how often the likeliest token agrees, KL(theirs | ours)."""

    n: int
    max_error: float
    top1_agreement: float
    kl: float

    def __str__(self) -> str:
        return f"{self.n} positions: max error {self.max_error:.1e}, top-1 {self.top1_agreement:.3f}, KL {self.kl:.1e}"


def merged(parts: Sequence[Comparison]) -> Comparison:
    """One comparison over the positions of all; there must be one position at least."""
    n = sum(part.n for part in parts)
    return Comparison(
        n=n,
        max_error=max(part.max_error for part in parts),
        top1_agreement=sum(part.top1_agreement * part.n for part in parts) / n,
        kl=sum(part.kl * part.n for part in parts) / n,
    )


def compare(reference: NDArray[np.float32], logits: NDArray[np.float32]) -> Comparison:
    """Both float32 [n, vocab]."""
    left, right = _log_softmax(reference), _log_softmax(logits)
    return Comparison(
        n=len(reference),
        max_error=float(np.abs(reference - logits).max()),
        top1_agreement=float((reference.argmax(-1) == logits.argmax(-1)).mean()),
        kl=float((np.exp(left) * (left - right)).sum(-1).mean()),
    )


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))
