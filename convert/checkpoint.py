"""Reads a Hugging Face Llama checkpoint: config.json, safetensors (one file or an index of shards), tokenizer.json.

Only what the converters can carry over exactly is accepted: another architecture, activation, bias or rotary scaling
is refused, as a checkpoint that converts and then answers nonsense is worse than one that does not convert.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .weights import TensorSlot, read_json, read_slots, read_tensor, read_text, refused


@dataclass(frozen=True, slots=True)
class Llama3Scaling:
    """Llama 3.1's stretching of the slow rotary frequencies."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_n_ctx: int


@dataclass(frozen=True, slots=True)
class LlamaConfig:
    """The facts of config.json that a converter needs. Sizes are in elements, `n_ctx` in tokens."""

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


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint whose tensors are read when asked for."""

    folder: Path
    config: LlamaConfig
    tokenizer_json: str
    slots: Mapping[str, TensorSlot]

    def tensor(self, name: str, *shape: int) -> NDArray[np.float32]:
        """The tensor `name` as a fresh float32 array; ModelError when it is missing or not of `shape`."""
        slot = self.slots.get(name)
        if slot is None:
            raise refused(self.folder, f"the checkpoint has no tensor {name!r}")
        if slot.shape != shape:
            raise refused(slot.file, f"{name!r} has shape {list(slot.shape)}, but config.json asks for {list(shape)}")
        return read_tensor(name, slot)


def read_checkpoint(folder: str | Path) -> Checkpoint:
    """Opens the checkpoint in `folder`, reading headers only. ModelError says what is missing or wrong."""
    folder = Path(folder)
    if not folder.is_dir():
        raise refused(folder, "this is not a folder with a checkpoint")
    config = read_config(folder / "config.json")
    tokenizer_json = read_text(folder / "tokenizer.json")
    _check_tokenizer(folder / "tokenizer.json", tokenizer_json, config.vocab_size)
    return Checkpoint(folder, config, tokenizer_json, MappingProxyType(read_slots(folder)))


def read_config(file: Path) -> LlamaConfig:
    """config.json in the dialects of transformers 4 (`rope_theta`, `rope_scaling`) and 5 (`rope_parameters`)."""
    raw = read_json(file)
    for key, wanted in (
        ("model_type", "llama"),
        ("hidden_act", "silu"),
        ("attention_bias", False),
        ("mlp_bias", False),
    ):
        found = raw.get(key) if key == "model_type" else raw.get(key, wanted)
        if found != wanted:
            raise refused(file, f"{key} is {found!r}; only {wanted!r} can be converted")
    hidden_size, n_heads = _size(file, raw, "hidden_size"), _size(file, raw, "num_attention_heads")
    theta, scaling = _rope(file, raw)
    config = LlamaConfig(
        vocab_size=_size(file, raw, "vocab_size"),
        hidden_size=hidden_size,
        ffn_size=_size(file, raw, "intermediate_size"),
        n_layers=_size(file, raw, "num_hidden_layers"),
        n_heads=n_heads,
        n_kv_heads=_size(file, raw, "num_key_value_heads", n_heads),
        head_dim=_size(file, raw, "head_dim", hidden_size // n_heads),
        norm_eps=float(raw.get("rms_norm_eps", 1e-6)),
        rope_theta=theta,
        rope_scaling=scaling,
        n_ctx=_size(file, raw, "max_position_embeddings", 2048),
        tied=bool(raw.get("tie_word_embeddings", False)),
        bos=next(iter(_token_ids(file, raw, "bos_token_id")), None),
        eos=_token_ids(file, raw, "eos_token_id"),
    )
    if n_heads % config.n_kv_heads or config.head_dim % 2:
        raise refused(file, f"{n_heads} heads of {config.head_dim} do not divide into {config.n_kv_heads} key heads")
    return config


def _rope(file: Path, raw: Mapping[str, Any]) -> tuple[float, Llama3Scaling | None]:
    """Theta and scaling, wherever this version of transformers wrote them."""
    rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise refused(file, f"the rotary parameters are {rope!r}, not an object")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "llama3"):
        raise refused(file, f"the rotary scaling is {kind!r}; only 'default' and 'llama3' can be converted")
    try:
        theta = float(rope.get("rope_theta", raw.get("rope_theta", 10000.0)))
        if kind == "default":
            return theta, None
        return theta, Llama3Scaling(
            factor=float(rope["factor"]),
            low_freq_factor=float(rope["low_freq_factor"]),
            high_freq_factor=float(rope["high_freq_factor"]),
            original_n_ctx=int(rope["original_max_position_embeddings"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise refused(file, f"the rotary parameters are incomplete ({error})") from error


def _size(file: Path, raw: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = raw.get(key)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise refused(file, f"{key} is {value!r}, not a positive whole number")
    return value


def _token_ids(file: Path, raw: Mapping[str, Any], key: str) -> tuple[int, ...]:
    value = raw.get(key)
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(token, int) for token in ids):
        raise refused(file, f"{key} is {value!r}, not a token id")
    return tuple(ids)


def _check_tokenizer(file: Path, text: str, vocab_size: int) -> None:
    """Every token must have a row in the embedding."""
    try:
        raw = json.loads(text)
        highest = max([*raw["model"]["vocab"].values(), *(token["id"] for token in raw.get("added_tokens", []))])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise refused(file, "it is not a tokenizer.json of the tokenizers library") from error
    if highest >= vocab_size:
        raise refused(file, f"token {highest} has no row in an embedding of {vocab_size}")
