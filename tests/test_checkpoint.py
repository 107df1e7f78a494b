"""A checkpoint is read as it was written, and one that cannot be carried over exactly is refused with a sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.checkpoints import CONFIG, LLAMA3_SCALING, random_tensors, write_checkpoint, write_safetensors
from toolace_edge.convert.checkpoint import read_checkpoint, read_config
from toolace_edge.errors import ModelError

NORM = "model.norm.weight"


def change_config(folder: Path, **changes: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_sizes_come_from_config_json(tmp_path: Path) -> None:
    config = read_checkpoint(write_checkpoint(tmp_path)).config
    assert (config.hidden_size, config.ffn_size, config.n_layers, config.vocab_size) == (64, 96, 2, 448)
    assert (config.n_heads, config.n_kv_heads, config.head_dim, config.n_ctx) == (4, 2, 32, 256)
    assert (config.tied, config.bos, config.eos, config.rope_scaling) == (True, 1, (2,), None)


def test_what_old_configs_leave_out_has_its_default(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    change_config(tmp_path, head_dim=None, num_key_value_heads=None, eos_token_id=[2, 5], bos_token_id=None)
    config = read_config(tmp_path / "config.json")
    assert (config.head_dim, config.n_kv_heads, config.eos, config.bos) == (16, 4, (2, 5), None)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_tensors_of_every_float_type_are_read(tmp_path: Path, dtype: str) -> None:
    tensors = random_tensors(CONFIG)
    write_safetensors(write_checkpoint(tmp_path) / "model.safetensors", tensors, dtype)
    read = read_checkpoint(tmp_path).tensor("model.embed_tokens.weight", 448, 64)
    bits = {"F32": 24, "F16": 11, "BF16": 8}[dtype]
    assert read.dtype == np.float32
    assert np.allclose(read, tensors["model.embed_tokens.weight"], rtol=2.0 ** (1 - bits), atol=1e-7)


def test_shards_are_found_by_their_index(tmp_path: Path) -> None:
    tensors = random_tensors(CONFIG)
    (write_checkpoint(tmp_path) / "model.safetensors").unlink()
    shards = {"a.safetensors": {NORM: tensors.pop(NORM)}, "b.safetensors": tensors}
    for name, part in shards.items():
        write_safetensors(tmp_path / name, part)
    weight_map = {tensor: name for name, part in shards.items() for tensor in part}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint.slots.keys() == weight_map.keys()
    assert np.array_equal(checkpoint.tensor(NORM, 64), shards["a.safetensors"][NORM])


def test_both_dialects_of_rotary_scaling_are_the_same(tmp_path: Path) -> None:
    old, new = write_checkpoint(tmp_path / "old"), write_checkpoint(tmp_path / "new")
    change_config(old, rope_theta=5000.0, rope_scaling=LLAMA3_SCALING)
    change_config(new, rope_theta=None, rope_parameters={"rope_theta": 5000.0, **LLAMA3_SCALING})
    configs = [read_config(folder / "config.json") for folder in (old, new)]
    assert configs[0] == configs[1]
    assert configs[0].rope_theta == 5000.0
    assert configs[0].rope_scaling is not None


@pytest.mark.slow
def test_scaled_frequencies_are_those_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    rotary = pytest.importorskip("transformers.models.llama.modeling_llama").LlamaRotaryEmbedding
    write_checkpoint(tmp_path, rope_scaling=LLAMA3_SCALING)
    theirs = rotary(transformers.LlamaConfig.from_pretrained(tmp_path)).inv_freq.numpy()
    ours = read_config(tmp_path / "config.json").rope_frequencies()
    assert np.allclose(ours, theirs, rtol=1e-6)
    assert not np.allclose(ours, 10000.0 ** -(np.arange(0, 32, 2) / 32))


Damage = Callable[[Path], object]


def cut(file: str, size_bytes: int) -> Damage:
    return lambda folder: (folder / file).write_bytes((folder / file).read_bytes()[:size_bytes])


def put(file: str, text: str) -> Damage:
    return lambda folder: (folder / file).write_text(text)


def config(**changes: object) -> Damage:
    return lambda folder: change_config(folder, **changes)


def weights(dtype: str = "F32", **changes: np.ndarray) -> Damage:
    tensors = {**random_tensors(CONFIG), **{name.replace("_", "."): value for name, value in changes.items()}}
    return lambda folder: write_safetensors(folder / "model.safetensors", tensors, dtype)


def only_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def shard_outside(folder: Path) -> None:
    index = {"weight_map": {NORM: "../other.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def offsets_past_the_end(folder: Path) -> None:
    header = json.dumps({NORM: {"dtype": "F32", "shape": [64], "data_offsets": [0, 256]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(255))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (config(model_type="gpt2"), "model_type is 'gpt2'"),
        (config(hidden_act="gelu"), "hidden_act is 'gelu'"),
        (config(attention_bias=True), "attention_bias is True"),
        (config(hidden_size="64"), "hidden_size is '64'"),
        (config(num_key_value_heads=3), "do not divide"),
        (config(rope_scaling={"rope_type": "yarn"}), "rotary scaling is 'yarn'"),
        (config(rope_scaling={"rope_type": "llama3"}), "incomplete"),
        (config(vocab_size=100), "no row in an embedding of 100"),
        (put("config.json", "{"), "not JSON"),
        (put("tokenizer.json", "{}"), "tokenizer"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "cannot be read"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no model.safetensors"),
        (only_a_pickle, "pickle"),
        (shard_outside, "not the name of a safetensors file"),
        (put("model.safetensors", "junk"), "not a safetensors file"),
        (cut("model.safetensors", 100), "cut short"),
        (cut("model.safetensors", 60_000), "does not lie inside"),
        (offsets_past_the_end, "does not lie inside"),
        (weights(model_norm_weight=np.ones(63, np.float32)), r"shape \[63\]"),
        (weights(model_norm_weight=np.full(64, math.nan, np.float32)), "not finite"),
        (weights("F8_E4M3"), "stored as F8_E4M3"),
    ],
)
def test_a_wrong_checkpoint_is_refused_with_a_sentence(tmp_path: Path, damage: Damage, says: str) -> None:
    damage(write_checkpoint(tmp_path))
    with pytest.raises(ModelError, match=says) as raised:
        read_checkpoint(tmp_path).tensor(NORM, 64)
    assert str(tmp_path) in str(raised.value)


def test_a_missing_tensor_and_a_missing_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no tensor 'lm_head.weight'"):
        read_checkpoint(write_checkpoint(tmp_path)).tensor("lm_head.weight", 448, 64)
    with pytest.raises(ModelError, match="not a folder"):
        read_checkpoint(tmp_path / "nothing")
