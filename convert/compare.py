"""Are two models' logits the same? Largest difference, likeliest token, divergence; and transformers' to hold to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolace_edge.engines.base import Engine
from toolace_edge.errors import MissingDependency


@dataclass(frozen=True, slots=True)
class Comparison:
    """Over `n` positions: largest difference of a logit, how often the likeliest token agrees, KL(theirs | ours)."""

    n: int
    max_error: float
    top1_agreement: float
    kl: float

    def __str__(self) -> str:
        return f"{self.n} positions: max error {self.max_error:.1e}, top-1 {self.top1_agreement:.3f}, KL {self.kl:.1e}"


def compare_logits(source: Path, engine: Engine, sequences: Sequence[Sequence[int]]) -> Comparison:
    """Runs `sequences` of ids through the checkpoint folder `source` and through `engine`, whose cache is lost."""
    parts = []
    for ids, theirs in zip(sequences, reference_logits(source, sequences), strict=True):
        engine.rewind(0)
        parts.append(compare(theirs, engine.forward(ids, n_logits=len(ids))))
    engine.rewind(0)
    return merged(parts)


def merged(parts: Sequence[Comparison]) -> Comparison:
    """One comparison over the positions of all; there must be one position at least."""
    n = sum(part.n for part in parts)
    return Comparison(
        n=n,
        max_error=max(part.max_error for part in parts),
        top1_agreement=sum(part.top1_agreement * part.n for part in parts) / n,
        kl=sum(part.kl * part.n for part in parts) / n,
    )


def reference_logits(source: Path, sequences: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32]]:
    """float32 [len(ids), vocab] of each sequence in turn, as transformers computes them."""
    try:
        import torch
        from transformers import AutoModelForCausalLM
    except ImportError as error:
        raise MissingDependency("transformers", "convert") from error
    model: Any = AutoModelForCausalLM.from_pretrained(
        source, dtype=torch.float32, local_files_only=True, use_safetensors=True
    )
    model.eval()
    for ids in sequences:
        with torch.inference_mode():
            yield np.asarray(model(torch.tensor([list(ids)])).logits[0].numpy(), np.float32)


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
