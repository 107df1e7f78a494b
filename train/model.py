"""A Llama decoder in plain PyTorch, lean enough to train on a laptop, and its way out as a Hugging Face checkpoint.

Numerically the same network as transformers' LlamaForCausalLM (a test holds it): RMSNorm, rotary positions in the
half-split layout, grouped-query attention, SwiGLU, tied embeddings, no biases.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from toolace_edge.errors import InputError

from .run_files import replace_text

_OURS = "A base is a folder that `train base` or `unpack` wrote; other models are trained by `train tune`."


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the network. `head_dim * n_heads` may differ from `width`."""

    vocab_size: int = 8192
    width: int = 256
    n_layers: int = 10
    n_heads: int = 8
    n_kv_heads: int = 4
    head_dim: int = 32
    ffn: int = 768
    n_ctx: int = 2048
    rope_theta: float = 10000.0
    eps: float = 1e-5


class Block(nn.Module):
    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        self.c = c
        q, kv = c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim
        self.norm1 = nn.Parameter(torch.ones(c.width))
        self.norm2 = nn.Parameter(torch.ones(c.width))
        self.qkv = nn.Linear(c.width, q + 2 * kv, bias=False)
        self.out = nn.Linear(q, c.width, bias=False)
        self.gate_up = nn.Linear(c.width, 2 * c.ffn, bias=False)
        self.down = nn.Linear(c.ffn, c.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, bits: int = 0) -> Tensor:
        x = x + self.attend(rms_norm(x, self.norm1, self.c.eps), cos, sin, mask, bits)
        gate, up = self.gate_up(in_blocks(rms_norm(x, self.norm2, self.c.eps), bits)).chunk(2, -1)
        return x + cast(Tensor, self.down(in_blocks(F.silu(gate) * up, bits)))

    def attend(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, bits: int = 0) -> Tensor:
        b, n, _ = x.shape
        c = self.c
        kv = c.n_kv_heads * c.head_dim
        q, k, v = self.qkv(in_blocks(x, bits)).split([c.n_heads * c.head_dim, kv, kv], -1)
        q = rotate(q.view(b, n, c.n_heads, c.head_dim), cos, sin).transpose(1, 2)
        k = rotate(k.view(b, n, c.n_kv_heads, c.head_dim), cos, sin).transpose(1, 2)
        v = v.view(b, n, c.n_kv_heads, c.head_dim).transpose(1, 2)
        group = c.n_heads // c.n_kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return cast(Tensor, self.out(in_blocks(y.transpose(1, 2).reshape(b, n, c.n_heads * c.head_dim), bits)))


def in_blocks(x: Tensor, bits: int) -> Tensor:
    """`x` [..., n] in blocks of 32 integers of one scale, with 8 bits as llama.cpp rounds it; with 0 as it is.

    The gradient passes as if nothing were rounded, so that the network learns to bear it.
    """
    if not bits:
        return x
    blocks = x.detach().float().reshape(*x.shape[:-1], -1, 32)
    scale: Tensor = blocks.abs().amax(-1, keepdim=True).clamp(min=1e-20) / (2 ** (bits - 1) - 1)
    rounded = ((blocks / scale).round() * scale).reshape(x.shape).to(x.dtype)
    return x + (rounded - x.detach())


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype) * weight.to(x.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [b, n, heads, head_dim]; cos, sin [b, n, 1, head_dim / 2]."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Llama(nn.Module):
    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        self.c = c
        self.embed = nn.Embedding(c.vocab_size, c.width)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.n_layers))
        self.norm = nn.Parameter(torch.ones(c.width))
        self.bits = 0  # that what enters a matrix is rounded to, as engines do; 0 is not at all
        self.reset()

    def reset(self) -> None:
        """Normal(0, 1/sqrt(width)) matrices, and zeros where a block writes back: each block starts as the identity."""
        nn.init.normal_(self.embed.weight, std=self.c.width**-0.5)
        for block in self.blocks:
            assert isinstance(block, Block)
            nn.init.normal_(block.qkv.weight, std=self.c.width**-0.5)
            nn.init.normal_(block.gate_up.weight, std=self.c.width**-0.5)
            nn.init.zeros_(block.out.weight)
            nn.init.zeros_(block.down.weight)

    def hidden(self, ids: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """ids, positions int64 [b, n]; mask bool [b, 1, n, n], True = may look -> [b, n, width]."""
        half = self.c.head_dim // 2
        x = self.embed(ids)
        freqs = self.c.rope_theta ** (-torch.arange(half, dtype=torch.float32) / half)
        angles = positions.float()[..., None, None] * freqs
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        for block in self.blocks:
            x = block(x, cos, sin, mask, self.bits)
        x = rms_norm(x, self.norm, self.c.eps)
        return in_blocks(x, self.bits)


def to_hugging_face(state: dict[str, Tensor], c: ModelConfig, folder: Path) -> None:
    """Writes `config.json` and `model.safetensors` (float32) for transformers' LlamaForCausalLM. Tied embeddings."""
    tensors = {"model.embed_tokens.weight": state["embed.weight"], "model.norm.weight": state["norm"]}
    q, kv = c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim
    for i in range(c.n_layers):
        own, theirs = f"blocks.{i}", f"model.layers.{i}"
        names = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
        for name, part in zip(names, torch.split(state[f"{own}.qkv.weight"], [q, kv, kv]), strict=True):
            tensors[f"{theirs}.{name}.weight"] = part
        for name, part in zip(("mlp.gate_proj", "mlp.up_proj"), state[f"{own}.gate_up.weight"].chunk(2), strict=True):
            tensors[f"{theirs}.{name}.weight"] = part
        tensors[f"{theirs}.self_attn.o_proj.weight"] = state[f"{own}.out.weight"]
        tensors[f"{theirs}.mlp.down_proj.weight"] = state[f"{own}.down.weight"]
        tensors[f"{theirs}.input_layernorm.weight"] = state[f"{own}.norm1"]
        tensors[f"{theirs}.post_attention_layernorm.weight"] = state[f"{own}.norm2"]
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "model.safetensors.part"
    save_file({k: v.detach().float().contiguous().clone() for k, v in tensors.items()}, partial, {"format": "pt"})
    partial.replace(folder / "model.safetensors")
    replace_text(folder / "config.json", json.dumps(_hugging_face_config(c), indent=2) + "\n")


# Fields of ModelConfig as config.json calls them, and what they are.
_KEYS: dict[str, tuple[str, type]] = {
    "width": ("hidden_size", int),
    "ffn": ("intermediate_size", int),
    "n_layers": ("num_hidden_layers", int),
    "n_heads": ("num_attention_heads", int),
    "n_kv_heads": ("num_key_value_heads", int),
    "head_dim": ("head_dim", int),
    "n_ctx": ("max_position_embeddings", int),
    "rope_theta": ("rope_theta", float),
    "eps": ("rms_norm_eps", float),
    "vocab_size": ("vocab_size", int),
}
# What a config.json that does not say it means (transformers' LlamaConfig, which leaves out what is at its default).
_UNSAID = {"hidden_act": "silu", "tie_word_embeddings": False, "attention_bias": False, "mlp_bias": False}


def read_config(folder: Path) -> ModelConfig:
    """The shape of a checkpoint that `to_hugging_face` wrote. InputError for one that is not computed as ours is."""
    file = folder / "config.json"
    try:
        facts = json.loads(file.read_text("utf-8"))
        c = ModelConfig(**{name: number(facts[key]) for name, (key, number) in _KEYS.items()})
    except KeyError as error:
        raise InputError(f"{file} has no {error}.", hint=_OURS) from None
    except (TypeError, ValueError) as error:
        raise InputError(f"{file} cannot be read: {error}.", hint=_OURS) from None
    ours, facts = _hugging_face_config(c), _UNSAID | facts
    for key in ("model_type", *_UNSAID):
        if facts.get(key) != ours[key]:
            raise InputError(
                f"{file}: {key} is {facts.get(key)!r}, and here only {ours[key]!r} is trained.", hint=_OURS
            )
    if facts.get("rope_scaling") is not None:
        raise InputError(f"{file}: rope_scaling is not known here.", hint=_OURS)
    return c


def from_hugging_face(folder: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Such a checkpoint back as a configuration and a state (float32)."""
    c = read_config(folder)
    theirs = load_file(folder / "model.safetensors")
    state = {"embed.weight": theirs["model.embed_tokens.weight"], "norm": theirs["model.norm.weight"]}
    for i in range(c.n_layers):
        own, at = f"blocks.{i}", f"model.layers.{i}"
        state[f"{own}.qkv.weight"] = torch.cat([theirs[f"{at}.self_attn.{x}_proj.weight"] for x in "qkv"])
        state[f"{own}.gate_up.weight"] = torch.cat([theirs[f"{at}.mlp.{x}_proj.weight"] for x in ("gate", "up")])
        state[f"{own}.out.weight"] = theirs[f"{at}.self_attn.o_proj.weight"]
        state[f"{own}.down.weight"] = theirs[f"{at}.mlp.down_proj.weight"]
        state[f"{own}.norm1"] = theirs[f"{at}.input_layernorm.weight"]
        state[f"{own}.norm2"] = theirs[f"{at}.post_attention_layernorm.weight"]
    return c, {name: tensor.float() for name, tensor in state.items()}


def _hugging_face_config(c: ModelConfig) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **{key: getattr(c, name) for name, (key, _) in _KEYS.items()},
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "torch_dtype": "float32",
    }


def save_checkpoint(path: Path, config: ModelConfig, tensors: dict[str, Tensor], facts: dict[str, object]) -> None:
    """One safetensors file, written aside and renamed; `facts` (JSON) travel in its header."""
    partial = path.with_suffix(".part")
    header = {"config": json.dumps(asdict(config)), "facts": json.dumps(facts)}
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, partial, header)
    partial.replace(path)


def load_checkpoint(path: Path) -> tuple[ModelConfig, dict[str, Tensor], dict[str, object]]:
    from safetensors import safe_open

    with safe_open(path, "pt") as f:
        header = f.metadata()
    return ModelConfig(**json.loads(header["config"])), load_file(path), json.loads(header["facts"])
