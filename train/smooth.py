"""Outliers of the activations moved into the weights, before training goes on on the quantization grid.

What enters a quantized matrix is rounded in blocks of 32 numbers that share a scale: one channel a hundred times its
neighbours leaves them with one or two bits. A channel may be divided by any factor where the column that reads it is
multiplied by it, and the network computes the same (Xiao et al., SmoothQuant, arXiv 2211.10438): in front of attention
and feed-forward the factor goes into the norm's gain, inside the feed-forward into the rows of the up projection. The
final norm's gain stays, since the matrix behind it is the embedding as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .model import Llama

STRENGTH = 0.6  # of an outlier's size, as an exponent; 0 changes nothing, 1 makes all channels alike
QUANTILE = 0.9


def factors(sizes: Tensor, strength: float = STRENGTH) -> Tensor:
    """By what to divide channels of these `sizes` [n]; their median keeps its size."""
    sizes = sizes.clamp(min=1e-6)
    return (sizes / sizes.median()).pow(strength).clamp(1 / 30, 30)


@torch.no_grad()
def channel_sizes(model: Llama, run: Callable[[], object]) -> dict[str, Tensor]:
    """How large each channel is in front of `blocks.N.qkv`, `.gate_up` and `.down` while `run()` runs: the 0.9 quantile
    of the absolute values over all tokens, float32 [channels].
    """
    sizes: dict[str, Tensor] = {}
    hooks = []
    for name, module in model.named_modules():
        if name.endswith(("qkv", "gate_up", "down")):

            def note(_: Any, inputs: tuple[Tensor], name: str = name) -> None:
                found = inputs[0].float().abs().flatten(0, -2).quantile(QUANTILE, 0)
                sizes[name] = torch.maximum(sizes.get(name, found), found)

            hooks.append(module.register_forward_pre_hook(note))
    run()
    for hook in hooks:
        hook.remove()
    return sizes


def scales(sizes: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """(parameter, what to multiply it by), shaped to broadcast, for what `channel_sizes` found."""
    for name, size in sizes.items():
        block, _, matrix = name.rpartition(".")
        by = factors(size)
        yield f"{name}.weight", by[None, :]
        if matrix == "down":
            yield f"{block}.gate_up.weight", torch.cat([torch.ones_like(by), 1 / by])[:, None]
        else:
            yield f"{block}.{'norm1' if matrix == 'qkv' else 'norm2'}", 1 / by


@torch.no_grad()
def smooth(tensors: Sequence[tuple[dict[str, Tensor], int]], sizes: Mapping[str, Tensor]) -> None:
    """Rescales in place: each dictionary of parameters (power 1) or of what belongs to them: Adam's first moment goes
    with the gradient (power -1), the second with its square (-2).
    """
    for name, by in scales(sizes):
        for group, power in tensors:
            if name in group:
                group[name].mul_(by.pow(power))
