"""The oracle for logits: the checkpoint in transformers, in float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolace_edge.convert.compare import Comparison, compare, merged
from toolace_edge.engines.base import Engine


def compare_logits(source: Path, engine: Engine, sequences: Sequence[Sequence[int]]) -> Comparison:
    """Runs `sequences` of ids through the checkpoint folder `source` and through `engine`, whose cache is lost."""
    parts = []
    for ids, theirs in zip(sequences, reference_logits(source, sequences), strict=True):
        engine.rewind(0)
        parts.append(compare(theirs, engine.forward(ids, n_logits=len(ids))))
    engine.rewind(0)
    return merged(parts)


def reference_logits(source: Path, sequences: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32]]:
    """float32 [len(ids), vocab] of each sequence in turn, as transformers computes them."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(
        source, dtype=torch.float32, local_files_only=True, use_safetensors=True
    )
    model.eval()
    for ids in sequences:
        with torch.inference_mode():
            yield np.asarray(model(torch.tensor([list(ids)])).logits[0].numpy(), np.float32)
