"""Writes a checkpoint as one GGUF file: the weights in f32, f16 or bf16, the tokenizer, and our own facts.

What llama.cpp wants otherwise than transformers has it:
- for Llama and Mistral, the rows of the query and key matrices of each head are interleaved (x0 y0 x1 y1 for
  x0 x1 y0 y1): there its rotary embedding turns neighbours, transformers' turns halves;
- Llama 3.1's stretched rotary frequencies are a tensor of divisors, `rope_freqs.weight`;
- the tokenizer is a set of lists, and its pre-tokenizer a name (gguf_tokenizer.py).
Our own facts are `toolace.format` (how the model writes calls), `toolace.calibration` (JSON) and `toolace.normalizer`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolace_edge.engines.gguf_header import read_header
from toolace_edge.errors import MissingDependency, ModelError

from .aside import made_aside
from .card import read_card
from .checkpoint import Checkpoint, note, read_checkpoint
from .child import Progress
from .config import ModelConfig
from .gguf_proof import prove_tokenizer
from .gguf_tokenizer import read_gguf_tokenizer

FLOAT_KINDS = ("f32", "f16", "bf16")
_PARTS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_ENDS = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_AT_ONCE = 1 << 24  # weights that are rounded together


def convert_gguf(
    source: Path,
    out: Path,
    *,
    kind: str = "f16",
    name: str,
    fmt: str = "compact",
    calibration: Mapping[str, Any] | None = None,
    licence: str | None = None,
    base: Path | None = None,
    source_repository: str | None = None,
    say: Callable[[str], None] = note,
    on_progress: Progress | None = None,
) -> Path:
    """Convert the checkpoint folder `source` to the file `out`, written aside and renamed. Returns `out`.

    `base` is the base's folder where `source` is an adapter and names none here; `source_repository` is `owner/name` on
    the Hugging Face hub. Norms and biases stay f32. Tensors are read one at a time, so a model larger than the memory
    can be converted. `say` gets what should be known of the result.
    """
    if kind not in FLOAT_KINDS:
        raise ValueError(f"kind is {kind!r}, not one of {', '.join(FLOAT_KINDS)}")
    checkpoint = read_checkpoint(source, base)
    for line in checkpoint.notes:
        say(line)
    if on_progress is not None:
        checkpoint = checkpoint.watched(on_progress)
    check_gguf(checkpoint)
    vocabulary, card = read_gguf_tokenizer(checkpoint), read_card(checkpoint, licence, source_repository)
    facts = {"general.name": name, "toolace.format": fmt}
    if calibration is not None:
        facts["toolace.calibration"] = json.dumps(calibration)

    def write(file: Path, places: Sequence[Place]) -> None:
        writer = _writer(file, checkpoint.config, facts)
        card.add_to(writer)
        vocabulary.add_to(writer)
        _write_tensors(writer, checkpoint, kind, places)

    with made_aside(out) as folder:
        proof, aside = folder / "vocabulary.gguf", folder / out.name
        write(proof, ())
        prove_tokenizer(proof, checkpoint, every_token=not vocabulary.exact)
        write(aside, tuple(_places(checkpoint.config)))
        read_header(aside)
        aside.replace(out)
    return out


def _gguf() -> Any:
    try:
        import gguf
    except ImportError as error:
        raise MissingDependency("gguf", "convert") from error
    return gguf


def check_gguf(checkpoint: Checkpoint) -> None:
    """ModelError for a layout or a tokenizer that transformers runs and llama.cpp does not."""
    config = checkpoint.config
    problem = ""
    if config.rope_scaling is not None and config.family.architecture != "llama":
        problem = f"stretch the rotary frequencies of {config.family.model_type}"
    if config.family.architecture == "qwen2" and config.n_heads * config.head_dim != config.hidden_size:
        problem = f"run qwen2 with {config.n_heads} heads of {config.head_dim} on {config.hidden_size}"
    if problem:
        hint = "Convert it to ONNX: `toolace-edge convert onnx`."
        raise ModelError(f"{checkpoint.folder}: llama.cpp cannot {problem}.", hint=hint)
    read_gguf_tokenizer(checkpoint)


def _writer(file: Path, config: ModelConfig, facts: Mapping[str, str]) -> Any:
    """A gguf.GGUFWriter that knows the model's sizes."""
    writer = _gguf().GGUFWriter(file, config.family.architecture)
    writer.add_type("model")
    for key, value in facts.items():
        writer.add_string(key, value)
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
    return writer


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor's name there and here, its shape, and the heads whose rows are interleaved (0: none)."""

    name: str
    source: str
    shape: tuple[int, ...]
    heads: int = 0


def matrix_names(config: ModelConfig) -> list[str]:
    """The names, in GGUF, of what is quantized of such a model."""
    return [place.name for place in _places(config) if len(place.shape) == 2]


def _places(config: ModelConfig) -> Iterator[Place]:
    if config.rope_scaling is not None:
        yield Place("rope_freqs.weight", "", (config.head_dim // 2,))
    interleaved = {"attn_q": config.n_heads, "attn_k": config.n_kv_heads} if config.family.interleaved else {}
    for source, shape in config.tensor_shapes().items():
        module, _, kind = source.rpartition(".")
        if module in _ENDS:
            yield Place(f"{_ENDS[module]}.{kind}", source, shape)
            continue
        _, _, layer, part = module.split(".", 3)  # model.layers.7.mlp.up_proj
        yield Place(f"blk.{layer}.{_PARTS[part]}.{kind}", source, shape, interleaved.get(_PARTS[part], 0))


def _write_tensors(writer: Any, checkpoint: Checkpoint, kind: str, places: Sequence[Place]) -> None:
    """The header with every tensor's place, then the tensors themselves, each read when its turn comes."""
    gguf = _gguf()
    float_type = gguf.GGMLQuantizationType[kind.upper()]
    file_types = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16"}
    writer.add_file_type(gguf.LlamaFileType[file_types[kind]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_size_label(gguf.size_label(sum(math.prod(place.shape) for place in places), 0, 0, 0))
    for place in places:
        stored = float_type if len(place.shape) > 1 else gguf.GGMLQuantizationType.F32
        size_bytes = math.prod(place.shape) * (4 if stored == gguf.GGMLQuantizationType.F32 else 2)
        writer.add_tensor_info(place.name, place.shape, np.dtype(np.float32), size_bytes, raw_dtype=stored)
    with closing(writer):
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for place in places:
            values = _read(checkpoint, place)
            writer.write_tensor_data(_stored(values, kind if values.ndim > 1 else "f32"))


def _read(checkpoint: Checkpoint, place: Place) -> NDArray[np.float32]:
    if not place.source:
        return np.asarray(checkpoint.config.rope_factors(), np.float32)
    values = checkpoint.tensor(place.source)
    if not place.heads:
        return values
    halves = values.reshape(place.heads, 2, place.shape[0] // place.heads // 2, *place.shape[1:])
    return np.asarray(halves.swapaxes(1, 2).reshape(place.shape), np.float32)


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
    bits, upper = values.reshape(-1).view(np.uint32), np.empty(values.shape, np.uint16)
    for start in range(0, bits.size, _AT_ONCE):  # as the sums take as much again, and an embedding gigabytes
        part = bits[start : start + _AT_ONCE]
        to_even = np.uint32(0x7FFF) + (part >> np.uint32(16) & np.uint32(1))
        upper.reshape(-1)[start : start + _AT_ONCE] = (part + to_even) >> np.uint32(16)
    return upper
