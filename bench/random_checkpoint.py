"""A checkpoint in the shape of a known Llama with random weights, for benchmarks: written in pieces of a few MB.

    python bench/random_checkpoint.py FOLDER --shape 8b [--layers 4]

config.json, sharded safetensors in bfloat16 with their index, and a tokenizer of little more than the 256
bytes; the rest of the vocabulary is rows that no text reaches. The same arguments give the same bytes.

Matrices hold what 4 bits can hold: of each 32 weights one is 8 steps from zero and none is further, as in Q4_0 and in
MatMulNBits. So whoever converts the checkpoint so has its weights without error, and two graphs of it can be compared.
"""

from __future__ import annotations

import argparse
import json
import math
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolace_edge.convert.config import ModelConfig, read_config
from toolace_edge.convert.gguf_tokenizer import LLAMA3_PATTERN
from toolace_edge.formats.compact import SPECIAL_TOKENS

LLAMA31_SCALING = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
COMMON: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "torch_dtype": "bfloat16",
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "initializer_range": 0.02,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# No vocabulary is as large as the feed-forward layer: onnxruntime-genai's builder (0.18.0) knows the output matrix by
# its number of rows, and would take the first other one that has as many.
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "vocab_size": 1536,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
    },
    "1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "vocab_size": 16384,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
    },
    "8b": {  # as Llama-3.1-8B
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "rope_scaling": LLAMA31_SCALING,
        "tie_word_embeddings": False,
    },
}
_PIECE = 1 << 22  # weights in memory at once
_BLOCK = 32  # weights that share a step
_STEP = np.float32(9 / 2048)  # the whole grid is exact in bfloat16, and its deviation 0.02, as before training


def write_random_checkpoint(
    folder: Path, shape: str, layers: int | None = None, shard_bytes: int = 5_000_000_000
) -> ModelConfig:
    """Writes what is not there yet and gives its configuration; about 10 s per billion weights, and a disk's time."""
    settings = {**COMMON, **SHAPES[shape]}
    settings["num_hidden_layers"] = layers or settings["num_hidden_layers"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings, indent=2))
    (folder / "tokenizer.json").write_text(tokenizer_json(), "utf-8")
    config = read_config(folder / "config.json")
    index = folder / "model.safetensors.index.json"
    shards = _shards(config, shard_bytes)
    names = [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    weight_map = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor, _ in shard}
    size_bytes = sum(2 * math.prod(shape) for shard in shards for _, shape in shard)
    text = json.dumps({"metadata": {"total_size": size_bytes}, "weight_map": weight_map})
    if index.is_file() and index.read_text() == text:
        return config
    for i, (name, shard) in enumerate(zip(names, shards, strict=True)):
        _write_shard(folder / name, shard, np.random.default_rng(i))
    index.write_text(text)  # the last: without it there is no checkpoint
    return config


Tensors = list[tuple[str, tuple[int, ...]]]


def _shards(config: ModelConfig, shard_bytes: int) -> list[Tensors]:
    shards: list[Tensors] = [[]]
    held = 0
    for name, shape in config.tensor_shapes().items():
        size = 2 * math.prod(shape)
        if held and held + size > shard_bytes:
            shards.append([])
            held = 0
        shards[-1].append((name, shape))
        held += size
    return shards


def _write_shard(file: Path, tensors: Tensors, rng: np.random.Generator) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in tensors:
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with file.open("wb") as opened:
        opened.write(struct.pack("<Q", len(text)) + text)
        for _, shape in tensors:
            for piece in _pieces(shape, rng):
                opened.write(piece.tobytes())


def _pieces(shape: Sequence[int], rng: np.random.Generator) -> Iterator[NDArray[np.uint16]]:
    """Norms around one, matrices on the grid; bfloat16 as its bits."""
    left = math.prod(shape)
    while left:
        count = min(left, _PIECE)
        if len(shape) == 1:
            values = 1 + rng.standard_normal(count, np.float32) * np.float32(0.02)
        else:
            steps = rng.integers(-7, 8, (count // _BLOCK, _BLOCK), np.int8)
            steps[:, 0] = rng.choice(np.array([-8, 8], np.int8), len(steps))
            values = steps.reshape(-1) * _STEP
        yield (values.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
        left -= count


def tokenizer_json() -> str:
    """The 256 bytes and one merge of two, cut as Llama 3 cuts, behind the special tokens of the compact format."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate((*SPECIAL_TOKENS, *letters, "th"))}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("t", "h")], ignore_merges=True))  # llama.cpp wants a merge
    split = pre_tokenizers.Split(Regex(LLAMA3_PATTERN), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return str(tokenizer.to_str())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="1b")
    parser.add_argument("--layers", type=int, help="how many, if not as many as the shape has")
    options = parser.parse_args()
    config = write_random_checkpoint(options.folder, options.shape, options.layers)
    count = sum(math.prod(shape) for shape in config.tensor_shapes().values())
    print(f"{options.folder}: {count / 1e9:.3f} billion weights")


if __name__ == "__main__":
    main()
