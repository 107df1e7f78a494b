"""Writes a Llama checkpoint as one GGUF file: the weights in f32, f16 or bf16, the tokenizer, and our own facts.

What llama.cpp wants otherwise than transformers has it:
- the rows of the query and key matrices of each head are interleaved (x0 y0 x1 y1 for x0 x1 y0 y1): its rotary
  embedding turns neighbours, transformers' turns halves;
- Llama 3.1's stretched rotary frequencies are a tensor of divisors, `rope_freqs.weight`;
- the tokenizer is a set of lists, and its pre-tokenizer a name (gguf_tokenizer.py).
Our own facts are `toolace.format` (how the model writes calls) and `toolace.calibration` (JSON).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolace_edge.engines.gguf_header import read_header
from toolace_edge.errors import MissingDependency, ModelError

from .checkpoint import Checkpoint, LlamaConfig, read_checkpoint
from .gguf_tokenizer import read_gguf_tokenizer

FLOAT_KINDS = ("f32", "f16", "bf16")
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def convert_gguf(
    source: Path,
    out: Path,
    *,
    kind: str = "f16",
    name: str,
    fmt: str = "compact",
    calibration: Mapping[str, Any] | None = None,
    licence: str | None = None,
) -> Path:
    """Convert the checkpoint folder `source` to the file `out`, written aside and renamed. Returns `out`.

    Norms stay f32. Tensors are read one at a time, so a model larger than the memory can be converted.
    """
    try:
        import gguf
    except ImportError as error:
        raise MissingDependency("gguf", "convert") from error
    if kind not in FLOAT_KINDS:
        raise ValueError(f"kind is {kind!r}, not one of {', '.join(FLOAT_KINDS)}")
    checkpoint = read_checkpoint(source)
    vocabulary = read_gguf_tokenizer(checkpoint)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        aside = Path(folder) / out.name
        writer = gguf.GGUFWriter(aside, "llama")
        writer.add_type("model")
        writer.add_name(name)
        if licence is not None:
            writer.add_license(licence)
        writer.add_string("toolace.format", fmt)
        if calibration is not None:
            writer.add_string("toolace.calibration", json.dumps(calibration))
        _add_dimensions(writer, checkpoint.config)
        vocabulary.add_to(writer)
        _write_tensors(gguf, writer, checkpoint, kind)
        read_header(aside)
        aside.replace(out)
    return out


def _add_dimensions(writer: Any, config: LlamaConfig) -> None:
    writer.add_block_count(config.n_layers)
    writer.add_context_length(config.n_ctx)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.ffn_size)
    writer.add_head_count(config.n_heads)
    writer.add_head_count_kv(config.n_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_vocab_size(config.vocab_size)


def _write_tensors(gguf: Any, writer: Any, checkpoint: Checkpoint, kind: str) -> None:
    """The header with every tensor's place, then the tensors themselves, each read when its turn comes."""
    float_type = gguf.GGMLQuantizationType[kind.upper()]
    file_types = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16"}
    writer.add_file_type(gguf.LlamaFileType[file_types[kind]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    places = list(_places(checkpoint.config))
    for place in places:
        stored = float_type if len(place.shape) > 1 else gguf.GGMLQuantizationType.F32
        size_bytes = int(np.prod(place.shape)) * (4 if stored == gguf.GGMLQuantizationType.F32 else 2)
        writer.add_tensor_info(place.name, place.shape, np.dtype(np.float32), size_bytes, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for place in places:
        values = _read(checkpoint, place)
        writer.write_tensor_data(_stored(values, kind if values.ndim > 1 else "f32"))
    writer.close()


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor's name there and here, its shape, and the heads whose rows are interleaved (0: none)."""

    name: str
    source: str
    shape: tuple[int, ...]
    heads: int = 0


def _places(config: LlamaConfig) -> Iterator[Place]:
    width, queries, keys = config.hidden_size, config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "attn_norm": (width,),
        "attn_q": (queries, width),
        "attn_k": (keys, width),
        "attn_v": (keys, width),
        "attn_output": (width, queries),
        "ffn_norm": (width,),
        "ffn_gate": (config.ffn_size, width),
        "ffn_up": (config.ffn_size, width),
        "ffn_down": (width, config.ffn_size),
    }
    heads = {"attn_q": config.n_heads, "attn_k": config.n_kv_heads}
    yield Place("token_embd.weight", "model.embed_tokens.weight", (config.vocab_size, width))
    if config.rope_scaling is not None:
        yield Place("rope_freqs.weight", "", (config.head_dim // 2,))
    for layer in range(config.n_layers):
        for name, source in _LAYER.items():
            here = f"model.layers.{layer}.{source}.weight"
            yield Place(f"blk.{layer}.{name}.weight", here, shapes[name], heads.get(name, 0))
    yield Place("output_norm.weight", "model.norm.weight", (width,))
    if not config.tied:
        yield Place("output.weight", "lm_head.weight", (config.vocab_size, width))


def _read(checkpoint: Checkpoint, place: Place) -> NDArray[np.float32]:
    if not place.source:
        return np.asarray(checkpoint.config.rope_factors(), np.float32)
    values = checkpoint.tensor(place.source, *place.shape)
    if not place.heads:
        return values
    rows, columns = place.shape
    halves = values.reshape(place.heads, 2, rows // place.heads // 2, columns)
    return np.asarray(halves.swapaxes(1, 2).reshape(rows, columns), np.float32)


def _stored(values: NDArray[np.float32], kind: str) -> NDArray[Any]:
    """`values` as they lie in the file."""
    if kind == "f32":
        return values
    if kind == "f16":
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if not np.isfinite(halves).all():
            raise ModelError("A weight is too large for f16.", hint="Convert to bf16 or f32.")
        return halves
    bits = values.view(np.uint32)
    to_even = np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    return np.asarray((bits + to_even) >> np.uint32(16), np.uint16)
