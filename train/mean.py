"""The mean of runs that have a beginning in common: often better than each of them, and no slower.

Wortsman et al., "Model soups" (arXiv 2203.05482). Masters are averaged, not rounded weights; the mean is rounded anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from toolace_edge.errors import InputError

from .model import load_checkpoint, to_hugging_face
from .optim import q4_0
from .run_files import whole_folder

_BESIDE = ("tokenizer.json", "tokenizer_config.json")


def write_mean(runs: Sequence[Path], out: Path, *, on_grid: bool) -> None:
    """Writes the mean of the runs' checkpoints to `out` as `train model` writes hf/; matrices on Q4_0's grid or not.

    InputError where the runs are not of one shape and one tokenizer, or `out` is there already.
    """
    with whole_folder(out) as folder:
        found = [load_checkpoint(run / "checkpoint.safetensors") for run in runs]
        config = found[0][0]
        smoothed = [bool(facts.get("smoothed")) for _, _, facts in found]
        if len(set(smoothed)) > 1:
            moved, still = runs[smoothed.index(True)], runs[smoothed.index(False)]
            raise InputError(
                f"{moved} has moved outliers of its activations into the weights, and {still} has not.",
                hint="Take runs that are all on the grid of Q4_0 (--q4-from), or none.",
            )
        for run, (other, _, _) in zip(runs, found, strict=True):
            if other != config:
                raise InputError(f"{run}: a model of another shape than that of {runs[0]}.")
            if (run / "hf" / _BESIDE[0]).read_bytes() != (runs[0] / "hf" / _BESIDE[0]).read_bytes():
                raise InputError(f"{run}: another tokenizer than that of {runs[0]}.")
        mean = {}
        for key in (key for key in found[0][1] if key.startswith("masters/")):
            whole = torch.stack([tensors[key].float() for _, tensors, _ in found]).mean(0)
            mean[key.removeprefix("masters/")] = q4_0(whole) if on_grid and whole.ndim == 2 else whole
        to_hugging_face(mean, config, folder)
        for name in _BESIDE:
            shutil.copy(runs[0] / "hf" / name, folder)
