"""Muon for matrices, AdamW for the rest, float32 masters under bfloat16 weights.

Muon (Keller Jordan, 2024): momentum, then the nearest orthogonal matrix to it by five Newton-Schulz steps, so that
every direction of a matrix learns at the same rate. Fused matrices are orthogonalised part by part.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

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
    """Steps a Llama in place. `lr` is scaled from outside by the schedule (0..1)."""

    def __init__(self, model: Llama, *, matrix_lr: float = 0.006, other_lr: float = 4e-4, decay: float = 0.01) -> None:
        c = model.c
        q, kv = c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim
        self.parts: dict[str, list[int]] = {}
        self.named = dict(model.named_parameters())
        for name in self.named:
            if name.endswith("qkv.weight"):
                self.parts[name] = [q, kv, kv]
            elif name.endswith("gate_up.weight"):
                self.parts[name] = [c.ffn, c.ffn]
            elif name.endswith(("out.weight", "down.weight")):
                self.parts[name] = [c.width]
        self.masters = {name: p.detach().float().clone() for name, p in self.named.items()}
        self.first = {name: torch.zeros_like(m) for name, m in self.masters.items()}
        self.second = {name: torch.zeros_like(m) for name, m in self.masters.items() if name not in self.parts}
        self.matrix_lr, self.other_lr, self.decay, self.steps = matrix_lr, other_lr, decay, 0

    @torch.no_grad()
    def step(self, scale: float) -> None:
        self.steps += 1
        for name, p in self.named.items():
            if p.grad is None:
                continue
            g = p.grad.float()
            master = self.masters[name]
            if name in self.parts:
                self._muon(name, master, g, scale * self.matrix_lr)
            else:
                self._adamw(name, master, g, scale * self.other_lr)
            p.copy_(master)
            p.grad = None

    def _muon(self, name: str, master: Tensor, g: Tensor, lr: float) -> None:
        momentum = self.first[name].lerp_(g, 1 - MOMENTUM)
        g = g.lerp(momentum, MOMENTUM)
        master.mul_(1 - lr * self.decay)
        for rows, part in zip(*(torch.split(whole, self.parts[name]) for whole in (master, g)), strict=True):
            rows.add_(orthogonal(part), alpha=-lr * max(1.0, part.shape[0] / part.shape[1]) ** 0.5)

    def _adamw(self, name: str, master: Tensor, g: Tensor, lr: float) -> None:
        m = self.first[name].lerp_(g, 0.1)
        v = self.second[name].lerp_(g * g, 0.01)
        hat = (m / (1 - 0.9**self.steps)) / ((v / (1 - 0.99**self.steps)).sqrt() + 1e-8)
        master.add_(hat, alpha=-lr)

    def state(self) -> dict[str, Any]:
        return {"masters": self.masters, "first": self.first, "second": self.second, "steps": self.steps}

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        self.masters, self.first, self.second = state["masters"], state["first"], state["second"]
        self.steps = state["steps"]
        for name, p in self.named.items():
            p.copy_(self.masters[name])


def warmup_stable_decay(progress: float, *, warmup: float = 0.01, decay_from: float = 0.35) -> float:
    """Learning-rate scale at `progress` (0..1): up, flat, then straight down to a fiftieth."""
    if progress < warmup:
        return max(progress / warmup, 0.02)
    if progress < decay_from:
        return 1.0
    return max(0.02, 1 - (progress - decay_from) / (1 - decay_from))
