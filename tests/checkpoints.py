"""Small checkpoints with random weights, written without torch, that transformers reads as its own."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from tests.tiny import tiny_tokenizer_json

Tensors = dict[str, np.ndarray]
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 448,  # more than the tokenizer has
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LLAMA3_SCALING = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


# Changes to CONFIG that make each family and what is special in it.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama3_rope": {"rope_theta": 5000.0, "rope_scaling": LLAMA3_SCALING, "tie_word_embeddings": False},
    "qwen2": {"model_type": "qwen2", "head_dim": 16, "rope_theta": 1e6},
    "qwen2_untied": {"model_type": "qwen2", "head_dim": 16, "num_key_value_heads": 1, "tie_word_embeddings": False},
    "qwen3": {"model_type": "qwen3", "head_dim": 48, "rope_theta": 1e6},
    "mistral": {"model_type": "mistral", "sliding_window": None, "head_dim": None, "tie_word_embeddings": False},
}
ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "mistral": "MistralForCausalLM",
}


def write_checkpoint(folder: Path, tokenizer_json: str | None = None, **changes: Any) -> Path:
    """config.json, model.safetensors (float32) and tokenizer.json; `changes` are to CONFIG."""
    config = {**CONFIG, **changes}
    config["architectures"] = [ARCHITECTURES[config["model_type"]]]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(tokenizer_json or tiny_tokenizer_json(), "utf-8")
    write_safetensors(folder / "model.safetensors", random_tensors(config))
    return folder


def random_tensors(config: dict[str, Any], seed: int = 0) -> Tensors:
    """Norms differ from one, as norms of one would hide a norm in the wrong place; biases differ from nothing."""
    rng = np.random.default_rng(seed)
    width, ffn, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    head = head or width // config["num_attention_heads"]
    q, kv = (config[key] * head for key in ("num_attention_heads", "num_key_value_heads"))
    layer = {"self_attn.q_proj": (q, width), "self_attn.k_proj": (kv, width), "self_attn.v_proj": (kv, width)}
    layer |= {"self_attn.o_proj": (width, q), "mlp.gate_proj": (ffn, width), "mlp.up_proj": (ffn, width)}
    layer |= {"mlp.down_proj": (width, ffn), "input_layernorm": (width,), "post_attention_layernorm": (width,)}
    if config["model_type"] == "qwen3":
        layer |= {"self_attn.q_norm": (head,), "self_attn.k_norm": (head,)}
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config["vocab_size"], width)}
    for i in range(config["num_hidden_layers"]):
        shapes |= {f"model.layers.{i}.{name}.weight": shape for name, shape in layer.items()}
        if config["model_type"] == "qwen2":
            biased = {"q_proj": (q,), "k_proj": (kv,), "v_proj": (kv,)}
            shapes |= {f"model.layers.{i}.self_attn.{name}.bias": shape for name, shape in biased.items()}
    shapes["model.norm.weight"] = (width,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], width)
    return {name: rng.normal(*_spread(name, shape), shape).astype(np.float32) for name, shape in shapes.items()}


def _spread(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Mean and deviation."""
    if name.endswith(".bias"):
        return 0.0, 0.5
    return (1.0, 0.2) if len(shape) == 1 else (0.0, 0.1)


def write_safetensors(file: Path, tensors: Tensors, dtype: str = "F32") -> None:
    """`dtype` F16 and BF16 store 16 bits of the numbers; any other name is written as told."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    parts, end = [], 0
    for name, values in tensors.items():
        parts.append(_stored(values, dtype))
        header[name] = {"dtype": dtype, "shape": values.shape, "data_offsets": [end, end + len(parts[-1])]}
        end += len(parts[-1])
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))


def _stored(values: np.ndarray, dtype: str) -> bytes:
    if dtype == "F16":
        return values.astype(np.float16).tobytes()
    if dtype == "BF16":
        return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    return values.tobytes()
