"""The model families that can be converted, each a row of facts: what its layers have, what its config leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class Family:
    """A decoder with rotary positions, grouped queries, RMS norms and a gated SiLU, and where it differs from Llama's.

    `defaults` are what transformers takes for a key that config.json does not have.
    """

    model_type: str  # in config.json
    architecture: str  # in GGUF
    interleaved: bool  # llama.cpp turns neighbours (x0 y0 x1 y1) where transformers turns halves (x0 x1 y0 y1)
    defaults: Mapping[str, Any]
    qkv_bias: bool = False
    qk_norm: bool = False  # over the elements of each head, before the rotation


_COMMON = {
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": None,  # the first layer with a window
    "num_key_value_heads": None,  # as many as queries
    "head_dim": None,  # hidden_size / num_attention_heads
}


def _over(**differences: Any) -> Mapping[str, Any]:
    return MappingProxyType({**_COMMON, **differences})


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        family.model_type: family
        for family in (
            Family("llama", "llama", True, _over(max_position_embeddings=2048)),
            # Mistral's window counts wherever it is not null, and llama.cpp knows the family as Llama.
            Family(
                "mistral",
                "llama",
                True,
                _over(max_position_embeddings=131072, num_key_value_heads=8, use_sliding_window=True),
            ),
            Family(
                "qwen2",
                "qwen2",
                False,
                _over(max_position_embeddings=32768, num_key_value_heads=32, max_window_layers=28),
                qkv_bias=True,
            ),
            Family(
                "qwen3",
                "qwen3",
                False,
                _over(max_position_embeddings=32768, num_key_value_heads=32, head_dim=128, max_window_layers=28),
                qk_norm=True,
            ),
        )
    }
)
