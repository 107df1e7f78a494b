"""Fewer layers and narrower feed-forwards for a base, chosen by what their loss hurts least.

Layers go one at a time, each time the one without which the text is still predicted best; the first and the last
stay. Of a layer's feed-forward channels those stay that write most into the residual stream (root mean square of the
activation times the norm of the column that it is written with). At SmolLM2's size a third of the channels costs 0.2
nats, as much as three of thirty layers: narrow and deep keeps more than wide and shallow. Training has to mend the
rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .model import Block, Llama, ModelConfig, rms_norm


class Reader:
    """Reads one batch of text, `ids` int64 [b, n], with some of the layers of a model."""

    def __init__(self, model: Llama, ids: Tensor) -> None:
        self.model, self.ids = model, ids
        n, half = ids.shape[1], model.c.head_dim // 2
        self.mask = torch.ones(n, n, dtype=torch.bool).tril()[None, None]
        freqs = model.c.rope_theta ** (-torch.arange(half, dtype=torch.float32) / half)
        angles = torch.arange(n).float()[None, :, None, None] * freqs
        dtype = model.embed.weight.dtype
        self.turn = (angles.cos().to(dtype), angles.sin().to(dtype))

    @torch.no_grad()
    def loss(self, layers: Sequence[int]) -> float:
        """Nats a token, from the second on."""
        x = self.model.embed(self.ids)
        for layer in layers:
            x = self.model.blocks[layer](x, *self.turn, self.mask)
        logits = F.linear(rms_norm(x, self.model.norm, self.model.c.eps)[:, :-1], self.model.embed.weight)
        return float(F.cross_entropy(logits.float().flatten(0, 1), self.ids[:, 1:].reshape(-1)))

    @torch.no_grad()
    def channels(self, layers: Sequence[int]) -> dict[int, Tensor]:
        """What each feed-forward channel writes, float32 [ffn] a layer."""
        worth = {}
        x = self.model.embed(self.ids)
        for layer in layers:
            block = self.model.blocks[layer]
            assert isinstance(block, Block)
            y = x + block.attend(rms_norm(x, block.norm1, self.model.c.eps), *self.turn, self.mask)
            gate, up = block.gate_up(rms_norm(y, block.norm2, self.model.c.eps)).chunk(2, -1)
            inner = F.silu(gate) * up
            worth[layer] = inner.float().pow(2).mean((0, 1)).sqrt() * block.down.weight.float().norm(dim=0)
            x = y + block.down(inner)
        return worth


def layers_to_keep(reader: Reader, count: int, say: Callable[[str], None] = lambda _: None) -> list[int]:
    """`count` of the layers, greedily; some 0.2 s a try, so two minutes from thirty to twenty."""
    layers = list(range(reader.model.c.n_layers))
    while len(layers) > count:
        tries = {gone: reader.loss([layer for layer in layers if layer != gone]) for gone in layers[1:-1]}
        gone = min(tries, key=lambda layer: tries[layer])
        layers.remove(gone)
        say(f"without layer {gone}: {len(layers)} layers, loss {tries[gone]:.3f}")
    return layers


def cut(
    config: ModelConfig, state: dict[str, Tensor], layers: Sequence[int], worth: dict[int, Tensor], ffn: int
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """The model of these layers, each with its `ffn` best channels in their old order."""
    new = {"embed.weight": state["embed.weight"], "norm": state["norm"]}
    for i, layer in enumerate(layers):
        best = worth[layer].argsort(descending=True)[:ffn].sort().values
        own, old = f"blocks.{i}", f"blocks.{layer}"
        for name in ("qkv.weight", "out.weight", "norm1", "norm2"):
            new[f"{own}.{name}"] = state[f"{old}.{name}"]
        gate, up = state[f"{old}.gate_up.weight"].chunk(2)
        new[f"{own}.gate_up.weight"] = torch.cat([gate[best], up[best]])
        new[f"{own}.down.weight"] = state[f"{old}.down.weight"][:, best].contiguous()
    return replace(config, n_layers=len(layers), ffn=ffn), new
