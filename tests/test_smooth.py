"""Outliers go from the activations into the weights, and the network computes what it computed."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from toolace_edge.train.model import Llama, ModelConfig  # noqa: E402
from toolace_edge.train.smooth import channel_sizes, factors, smooth  # noqa: E402

SHAPE = ModelConfig(vocab_size=60, width=64, n_layers=3, n_heads=4, n_kv_heads=2, head_dim=16, ffn=96, n_ctx=64)


def a_network() -> Llama:
    """Random, with one channel of each norm and one row of each up projection far above the others."""
    torch.manual_seed(0)
    model = Llama(SHAPE)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.normal_(std=0.2) if p.ndim == 2 else p.normal_(1.0, 0.1)
            if name.endswith(("norm1", "norm2")):
                p[5] = 60.0
            if name.endswith("gate_up.weight"):
                p[SHAPE.ffn + 7] *= 40
    return model


def test_the_answers_stay_and_the_outliers_go() -> None:
    model = a_network()
    ids = torch.randint(0, 60, (2, 20))
    positions = torch.arange(20).expand(2, 20)
    mask = torch.ones(20, 20, dtype=torch.bool).tril()[None, None]

    def run() -> torch.Tensor:
        with torch.no_grad():
            return model.hidden(ids, positions, mask)

    before, sizes = run(), channel_sizes(model, run)
    assert len(sizes) == 3 * SHAPE.n_layers
    weights = dict(model.named_parameters())
    smooth([({name: p.data for name, p in weights.items()}, 1)], sizes)
    assert torch.allclose(run(), before, atol=1e-4)
    after = channel_sizes(model, run)
    for name, size in sizes.items():
        assert after[name].max() / after[name].median() < 0.5 * size.max() / size.median()


def test_what_adam_remembers_goes_with_its_weight() -> None:
    model = a_network()
    sizes = {"blocks.0.qkv": torch.linspace(1, 9, SHAPE.width)}
    first, second = ({"blocks.0.qkv.weight": torch.ones(128, 64)} for _ in range(2))
    smooth([({n: p.data for n, p in model.named_parameters()}, 1), (first, -1), (second, -2)], sizes)
    by = factors(sizes["blocks.0.qkv"])
    assert torch.allclose(first["blocks.0.qkv.weight"][3], 1 / by)
    assert torch.allclose(second["blocks.0.qkv.weight"][3], 1 / by**2)
