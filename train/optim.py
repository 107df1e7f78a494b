"""Muon for matrices, AdamW for the rest (or for all, where a base was trained so), float32 masters under bfloat16
weights.

Muon (Keller Jordan, 2024): momentum, then the nearest orthogonal matrix to it by five Newton-Schulz steps, so that
every direction of a matrix learns at the same rate. Fused matrices are orthogonalised part by part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from .model import Llama

# Above the usual 0.95: a batch here is a few thousand tokens, and its gradient is mostly noise.
MOMENTUM = 0.97


def orthogonal(g: Tensor) -> Tensor:
    """About U V^T of g's singular value decomposition; the quintic's coefficients are Jordan's."""
    x = g.bfloat16()
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    orthogonalised: Tensor = x if wide else x.T
    return orthogonalised.float()


class Optimizer:
    """Steps a Llama in place. `lr` is scaled from outside by the schedule (0..1).

    With `matrix_lr` 0 every weight is AdamW's. `grid`, where set, is what a matrix is rounded to before it is used,
    while its master goes on in float32: the network learns to live with the numbers that its quantized file will
    hold.
    """

    def __init__(self, model: Llama, *, matrix_lr: float = 0.006, other_lr: float = 4e-4, decay: float = 0.01) -> None:
        self.parts = _fused_parts(model) if matrix_lr else {}
        self.named = dict(model.named_parameters())
        self.masters = {name: p.detach().float().clone() for name, p in self.named.items()}
        self.first = {name: torch.zeros_like(m) for name, m in self.masters.items()}
        self.second = {name: torch.zeros_like(m) for name, m in self.masters.items() if name not in self.parts}
        self.matrix_lr, self.other_lr, self.decay, self.steps = matrix_lr, other_lr, decay, 0
        self.grid: Callable[[Tensor], Tensor] | None = None

    @torch.no_grad()
    def step(self, scale: float) -> None:
        self.steps += 1
        gradients = {name: p.grad.float() for name, p in self.named.items() if p.grad is not None}
        for name in gradients.keys() & self.parts.keys():
            self._muon(name, self.masters[name], gradients[name], scale * self.matrix_lr)
        self._adamw({name: g for name, g in gradients.items() if name not in self.parts}, scale * self.other_lr)
        for name in gradients:
            self.named[name].copy_(self.deployed(name))
            self.named[name].grad = None

    def deployed(self, name: str) -> Tensor:
        """The weight as the network uses it, float32."""
        master = self.masters[name]
        return self.grid(master) if self.grid is not None and master.ndim == 2 else master

    def _muon(self, name: str, master: Tensor, g: Tensor, lr: float) -> None:
        momentum = self.first[name].lerp_(g, 1 - MOMENTUM)
        g = g.lerp(momentum, MOMENTUM)
        master.mul_(1 - lr * self.decay)
        for rows, part in zip(*(torch.split(whole, self.parts[name]) for whole in (master, g)), strict=True):
            rows.add_(orthogonal(part), alpha=-lr * max(1.0, part.shape[0] / part.shape[1]) ** 0.5)

    def _adamw(self, gradients: dict[str, Tensor], lr: float) -> None:
        names = list(gradients)
        adamw(
            [self.masters[name] for name in names], list(gradients.values()),
            [self.first[name] for name in names], [self.second[name] for name in names], [],
            [torch.tensor(self.steps - 1.0) for _ in names], fused=True, amsgrad=False, maximize=False,
            beta1=0.9, beta2=0.99, lr=lr, weight_decay=0.0, eps=1e-8,
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        return {"masters": self.masters, "first": self.first, "second": self.second, "steps": self.steps}

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        self.masters, self.first, self.second = state["masters"], state["first"], state["second"]
        self.steps = state["steps"]
        for name, p in self.named.items():
            p.copy_(self.deployed(name))


def _fused_parts(model: Llama) -> dict[str, list[int]]:
    """The rows of each matrix that Muon steps, one number a matrix that is fused into it."""
    c = model.c
    q, kv = c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim
    rows = {
        "qkv.weight": [q, kv, kv],
        "gate_up.weight": [c.ffn, c.ffn],
        "out.weight": [c.width],
        "down.weight": [c.width],
    }
    names = [name for name, _ in model.named_parameters()]
    return {name: part for name in names for ending, part in rows.items() if name.endswith(ending)}


def q4_0(weight: Tensor) -> Tensor:
    """`weight` [rows, columns] as llama.cpp's Q4_0 would give it back: blocks of 32, one 16-bit scale, integers -8..7.

    The largest number of a block is its -8, so that rounding what is rounded already changes nothing. Where the largest
    and the smallest are alike, the smallest is; llama.cpp takes the first.
    """
    blocks = weight.reshape(-1, 32)
    high, low = blocks.amax(1, keepdim=True), blocks.amin(1, keepdim=True)
    scale = torch.where(high > -low, high, low) / -8
    inverse = torch.where(scale == 0, 0, 1 / scale)
    steps = (blocks * inverse + 8.5).floor().clamp(0, 15) - 8
    return (steps * scale.half().float()).reshape(weight.shape)


def warmup_stable_decay(progress: float, *, warmup: float = 0.01, decay_from: float = 0.35) -> float:
    """Learning-rate scale at `progress` (0..1): up, flat, then straight down to a fiftieth."""
    if progress < warmup:
        return max(progress / warmup, 0.02)
    if progress < decay_from:
        return 1.0
    return max(0.02, 1 - (progress - decay_from) / (1 - decay_from))
