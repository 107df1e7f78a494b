"""Reads config.json, in the dialects of transformers 4 (`rope_theta`, `rope_scaling`) and 5 (`rope_parameters`).

Only what the converters can carry over exactly is accepted: another family, activation, bias or rotary scaling is
refused, as a checkpoint that converts and then answers nonsense is worse than one that does not convert.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .families import FAMILIES, Family
from .weights import read_json, refused

MAX_LAYERS = 512  # llama.cpp's own
# Keys that, when they say anything, change the computation or where it comes from.
_FOREIGN = {
    "auto_map": "it needs program code of its own (trust_remote_code), which is never run",
    "quantization_config": "its weights are quantized already; give the checkpoint that they were made of",
    "num_experts": "a mixture of experts cannot be converted",
    "num_local_experts": "a mixture of experts cannot be converted",
    "mlp_bias": "biases in the feed-forward layers cannot be converted",
}


@dataclass(frozen=True, slots=True)
class Llama3Scaling:
    """Llama 3.1's stretching of the slow rotary frequencies."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_n_ctx: int


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The facts of config.json that a converter needs. Sizes are in elements, `n_ctx` and `window` in tokens.

    `window` is the sliding window, where it is what limits `n_ctx`: within it every token sees all before it.
    """

    family: Family
    vocab_size: int
    hidden_size: int
    ffn_size: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    norm_eps: float
    rope_theta: float
    rope_scaling: Llama3Scaling | None
    n_ctx: int
    window: int | None
    tied: bool
    bos: int | None
    eos: tuple[int, ...]

    def rope_frequencies(self) -> NDArray[np.float64]:
        """Radians a position, float64 [head_dim / 2], after scaling."""
        return self._base_frequencies() / self.rope_factors()

    def rope_factors(self) -> NDArray[np.float64]:
        """What each frequency is divided by, float64 [head_dim / 2]; all ones without scaling."""
        scaling = self.rope_scaling
        if scaling is None:
            return np.ones(self.head_dim // 2)
        turns = scaling.original_n_ctx * self._base_frequencies() / (2 * math.pi)
        low, high = scaling.low_freq_factor, scaling.high_freq_factor
        kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
        return np.asarray(1.0 / ((1.0 - kept) / scaling.factor + kept))

    def _base_frequencies(self) -> NDArray[np.float64]:
        return np.asarray(self.rope_theta ** -(np.arange(0, self.head_dim, 2, dtype=np.float64) / self.head_dim))

    @property
    def n_weights(self) -> int:
        return sum(math.prod(shape) for shape in self.tensor_shapes().values())

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor of such a model by its name in the checkpoint; matrices are [out_features, in_features]."""
        width, family = self.hidden_size, self.family
        q, kv = self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim
        projections = {"q_proj": (q, width), "k_proj": (kv, width), "v_proj": (kv, width), "o_proj": (width, q)}
        layer: dict[str, tuple[int, ...]] = {"input_layernorm.weight": (width,)}
        layer |= {f"self_attn.{name}.weight": shape for name, shape in projections.items()}
        if family.qkv_bias:
            layer |= {f"self_attn.{name}.bias": (projections[name][0],) for name in ("q_proj", "k_proj", "v_proj")}
        if family.qk_norm:
            layer |= {f"self_attn.{name}.weight": (self.head_dim,) for name in ("q_norm", "k_norm")}
        layer |= {"post_attention_layernorm.weight": (width,), "mlp.down_proj.weight": (width, self.ffn_size)}
        layer |= {f"mlp.{name}.weight": (self.ffn_size, width) for name in ("gate_proj", "up_proj")}
        shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocab_size, width)}
        for i in range(self.n_layers):
            shapes |= {f"model.layers.{i}.{name}": shape for name, shape in layer.items()}
        shapes["model.norm.weight"] = (width,)
        if not self.tied:
            shapes["lm_head.weight"] = (self.vocab_size, width)
        return shapes


def read_config(file: Path) -> ModelConfig:
    """The facts in `file`; ModelError names the key that cannot be carried over."""
    written = read_json(file)
    family = FAMILIES.get(str(written.get("model_type")))
    if family is None:
        known = ", ".join(FAMILIES)
        raise refused(file, f"model_type is {written.get('model_type')!r}; what can be converted is {known}")
    raw = {**family.defaults, **written}
    _check_family(file, raw, family)
    hidden_size, n_heads = _size(file, raw, "hidden_size"), _size(file, raw, "num_attention_heads")
    theta, scaling = _rope(file, raw)
    n_ctx, window = _size(file, raw, "max_position_embeddings"), _window(file, raw)
    config = ModelConfig(
        family=family,
        vocab_size=_size(file, raw, "vocab_size"),
        hidden_size=hidden_size,
        ffn_size=_size(file, raw, "intermediate_size"),
        n_layers=_size(file, raw, "num_hidden_layers"),
        n_heads=n_heads,
        n_kv_heads=_size(file, raw, "num_key_value_heads", n_heads),
        head_dim=_size(file, raw, "head_dim", hidden_size // n_heads),
        norm_eps=_positive(file, raw, "rms_norm_eps"),
        rope_theta=theta,
        rope_scaling=scaling,
        n_ctx=min(n_ctx, window or n_ctx),
        window=window if window and window < n_ctx else None,
        tied=bool(raw["tie_word_embeddings"]),
        bos=next(iter(_token_ids(file, raw, "bos_token_id")), None),
        eos=_token_ids(file, raw, "eos_token_id"),
    )
    if config.n_layers > MAX_LAYERS:
        raise refused(file, f"num_hidden_layers is {config.n_layers}, more than {MAX_LAYERS}")
    if n_heads % config.n_kv_heads or config.head_dim % 2:
        raise refused(file, f"{n_heads} heads of {config.head_dim} do not divide into {config.n_kv_heads} key heads")
    return config


def _check_family(file: Path, raw: Mapping[str, Any], family: Family) -> None:
    for key, why in _FOREIGN.items():
        if raw.get(key):
            raise refused(file, f"{key} is {str(raw[key])[:80]!r}: {why}")
    if raw.get("attention_bias") and not family.qkv_bias:
        raise refused(file, f"attention_bias is True; {family.model_type} can only be converted without biases")
    if raw["hidden_act"] != "silu":
        raise refused(file, f"hidden_act is {raw['hidden_act']!r}; only 'silu' can be converted")
    kinds = set(raw.get("layer_types") or ()) - {"full_attention", "sliding_attention"}
    if kinds:
        raise refused(file, f"layer_types has {min(map(str, kinds))!r}; only full and sliding attention is known")


def _window(file: Path, raw: Mapping[str, Any]) -> int | None:
    """How many tokens the layers see back, or None where they see all."""
    if not raw["use_sliding_window"] or raw["sliding_window"] is None:
        return None
    if set(raw.get("layer_types") or ()) == {"full_attention"}:
        return None
    first = raw["max_window_layers"]  # the layers before it see all, where layer_types does not say it
    if not raw.get("layer_types") and first is not None and first >= _size(file, raw, "num_hidden_layers"):
        return None
    return _size(file, raw, "sliding_window")


def _rope(file: Path, raw: Mapping[str, Any]) -> tuple[float, Llama3Scaling | None]:
    """Theta and scaling, wherever this version of transformers wrote them."""
    rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    if not isinstance(rope, dict) or any(isinstance(value, dict) for value in rope.values()):
        raise refused(file, f"the rotary parameters are {str(rope)[:80]!r}, not one object for all layers")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "llama3"):
        raise refused(file, f"the rotary scaling is {kind!r}; only 'default' and 'llama3' can be converted")
    if any(place.get("partial_rotary_factor", 1.0) not in (1, None) for place in (raw, rope)):
        raise refused(file, "partial_rotary_factor is not 1; only whole heads can be turned")
    theta = _positive(file, {**raw, **rope}, "rope_theta")
    if kind == "default":
        return theta, None
    names = ("factor", "low_freq_factor", "high_freq_factor")
    missing = [name for name in (*names, "original_max_position_embeddings") if name not in rope]
    if missing:
        raise refused(file, f"the rotary parameters are incomplete: {missing[0]} is missing")
    factor, low, high = (_positive(file, rope, name) for name in names)
    if low >= high:
        raise refused(file, f"low_freq_factor is {low}, not below high_freq_factor, {high}")
    return theta, Llama3Scaling(factor, low, high, _size(file, rope, "original_max_position_embeddings"))


def _positive(file: Path, raw: Mapping[str, Any], key: str) -> float:
    value = raw.get(key)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < math.inf:
        raise refused(file, f"{key} is {value!r}, not a number above zero")
    return float(value)


def _size(file: Path, raw: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = raw.get(key)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise refused(file, f"{key} is {value!r}, not a positive whole number")
    return value


def _token_ids(file: Path, raw: Mapping[str, Any], key: str) -> tuple[int, ...]:
    """The ids of a kind of token; -1 stands for none."""
    value = raw.get(key)
    ids = value if isinstance(value, list) else [] if value is None else [value]
    size = _size(file, raw, "vocab_size")
    if not all(isinstance(token, int) and not isinstance(token, bool) and -1 <= token < size for token in ids):
        raise refused(file, f"{key} is {value!r}, which is no id of its {size} tokens")
    return tuple(token for token in ids if token >= 0)
