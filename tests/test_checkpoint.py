"""A checkpoint is read as it was written, and one that cannot be carried over exactly is refused with a sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.checkpoints import CONFIG, FAMILIES, LLAMA3_SCALING, random_tensors, write_checkpoint, write_safetensors
from tests.tiny import tiny_tokenizer_json
from toolace_edge.convert.checkpoint import read_checkpoint
from toolace_edge.convert.config import read_config
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


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_opens_with_all_its_tensors(family: str, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write_checkpoint(tmp_path, **FAMILIES[family]))
    written = random_tensors({**CONFIG, **FAMILIES[family]})
    assert checkpoint.slots.keys() == written.keys()
    assert all(np.array_equal(checkpoint.tensor(name), values) for name, values in written.items())


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "qwen3"])
def test_what_a_config_leaves_out_is_what_transformers_takes(model_type: str, tmp_path: Path) -> None:
    """Sizes have no default: the smallest config says those, and the rest is the family's own."""
    transformers = pytest.importorskip("transformers")
    sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    raw = {"model_type": model_type, **dict(zip(sizes, (448, 1024, 96, 2, 64), strict=True))}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    ours, theirs = read_config(tmp_path / "config.json"), transformers.AutoConfig.from_pretrained(tmp_path)
    assert ours.n_kv_heads == theirs.num_key_value_heads
    assert ours.head_dim == (getattr(theirs, "head_dim", None) or 1024 // 64)
    assert (ours.norm_eps, ours.rope_theta, ours.tied) == (
        theirs.rms_norm_eps,
        theirs.rope_theta,
        theirs.tie_word_embeddings,
    )
    assert ours.n_ctx == min(theirs.max_position_embeddings, getattr(theirs, "sliding_window", None) or 1 << 30)


@pytest.mark.parametrize(
    ("changes", "n_ctx"),
    [
        ({"model_type": "mistral", "sliding_window": None}, 256),
        ({"model_type": "mistral", "sliding_window": 256}, 256),
        ({"model_type": "mistral", "sliding_window": 100}, 100),
        ({"model_type": "qwen2", "sliding_window": 100, "use_sliding_window": False}, 256),
        ({"model_type": "qwen2", "sliding_window": 100, "use_sliding_window": True, "max_window_layers": 0}, 100),
        (
            {"model_type": "qwen2", "sliding_window": 9, "use_sliding_window": True, "layer_types": ["full_attention"]},
            256,
        ),
        ({"model_type": "llama", "sliding_window": 100}, 256),
    ],
)
def test_a_context_ends_with_its_sliding_window_and_that_is_said(
    changes: dict[str, object], n_ctx: int, tmp_path: Path
) -> None:
    checkpoint = read_checkpoint(write_checkpoint(tmp_path, **{"head_dim": 16, **changes}))
    assert checkpoint.config.n_ctx == n_ctx
    assert checkpoint.notes == (
        ("The context ends at 100 tokens, the model's sliding window.",) if n_ctx == 100 else ()
    )


def test_an_untied_copy_of_a_tied_embedding_may_be_there_if_it_is_the_same(tmp_path: Path) -> None:
    tensors = random_tensors(CONFIG)
    folder = write_checkpoint(tmp_path)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    write_safetensors(folder / "model.safetensors", tensors)
    assert read_checkpoint(folder).config.tied
    tensors["lm_head.weight"] = tensors["lm_head.weight"] + 1
    write_safetensors(folder / "model.safetensors", tensors)
    with pytest.raises(ModelError, match="tie_word_embeddings is true"):
        read_checkpoint(folder)


def test_what_old_configs_leave_out_has_its_default(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    change_config(tmp_path, head_dim=None, num_key_value_heads=None, eos_token_id=[2, 5], bos_token_id=None)
    config = read_config(tmp_path / "config.json")
    assert (config.head_dim, config.n_kv_heads, config.eos, config.bos) == (16, 4, (2, 5), None)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_tensors_of_every_float_type_are_read(tmp_path: Path, dtype: str) -> None:
    tensors = random_tensors(CONFIG)
    write_safetensors(write_checkpoint(tmp_path) / "model.safetensors", tensors, dtype)
    read = read_checkpoint(tmp_path).tensor("model.embed_tokens.weight")
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
    assert np.array_equal(checkpoint.tensor(NORM), shards["a.safetensors"][NORM])


def test_both_dialects_of_rotary_scaling_are_the_same(tmp_path: Path) -> None:
    old, new = write_checkpoint(tmp_path / "old"), write_checkpoint(tmp_path / "new")
    change_config(old, rope_theta=5000.0, rope_scaling=LLAMA3_SCALING)
    change_config(new, rope_theta=None, rope_parameters={"rope_theta": 5000.0, **LLAMA3_SCALING}, dtype="bfloat16")
    (new / "tokenizer_config.json").write_text('{"tokenizer_class": "TokenizersBackend", "backend": "tokenizers"}')
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


def extra(name: str, *shape: int) -> Damage:
    tensors = {**random_tensors(CONFIG), name: np.zeros(shape, np.float32)}
    return lambda folder: write_safetensors(folder / "model.safetensors", tensors)


def without(name: str) -> Damage:
    tensors = {key: value for key, value in random_tensors(CONFIG).items() if key != name}
    return lambda folder: write_safetensors(folder / "model.safetensors", tensors)


def a_shard_too_few(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    index = {"weight_map": {NORM: "model-1.safetensors", "x": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def only_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def shard_outside(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {NORM: "../other.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def offsets_past_the_end(folder: Path) -> None:
    header = json.dumps({NORM: {"dtype": "F32", "shape": [64], "data_offsets": [0, 256]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(255))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (config(model_type="gpt2"), "model_type is 'gpt2'; what can be converted is llama, mistral, qwen2, qwen3"),
        (config(model_type=None), "model_type is None"),
        (config(auto_map={"AutoModel": "x.Y"}), "code of its own"),
        (config(quantization_config={"bits": 4}), "quantized already"),
        (config(num_local_experts=8), "mixture of experts"),
        (config(mlp_bias=True), "biases in the feed-forward"),
        (config(layer_types=["chunked_attention"]), "'chunked_attention'"),
        (config(partial_rotary_factor=0.5), "partial_rotary_factor"),
        (config(rope_parameters={"full_attention": {"rope_theta": 1.0}}), "not one object for all layers"),
        (config(rope_theta=0), "rope_theta is 0"),
        (config(rms_norm_eps="x"), "rms_norm_eps is 'x'"),
        (config(num_hidden_layers=10**9), "more than 512"),
        (config(hidden_act="gelu"), "hidden_act is 'gelu'"),
        (config(attention_bias=True), "attention_bias is True"),
        (config(hidden_size="64"), "hidden_size is '64'"),
        (config(num_key_value_heads=3), "do not divide"),
        (config(rope_scaling={"rope_type": "yarn"}), "rotary scaling is 'yarn'"),
        (config(rope_scaling={"rope_type": "llama3"}), "incomplete"),
        (config(vocab_size=100), r"has shape \[448, 64\], but the model needs \[100, 64\]"),
        (
            put("tokenizer.json", tiny_tokenizer_json(tags=tuple(f"<{i}>" for i in range(60)))),
            r"token 4\d\d has no row in an embedding of 448",
        ),
        (without("model.layers.1.mlp.up_proj.weight"), "no tensor 'model.layers.1.mlp.up_proj.weight'"),
        (
            extra("model.layers.0.self_attn.q_proj.bias", 128),
            "'model.layers.0.self_attn.q_proj.bias' is no part of a llama",
        ),
        (extra("score.weight", 2, 64), "'score.weight' is no part"),
        (a_shard_too_few, r"model-2\.safetensors: it cannot be read"),
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
        read_checkpoint(tmp_path).tensor(NORM)
    assert str(tmp_path) in str(raised.value)


def test_a_missing_tensor_and_a_missing_folder_are_named(tmp_path: Path) -> None:
    config(tie_word_embeddings=False)(write_checkpoint(tmp_path))
    with pytest.raises(ModelError, match=r"no tensor 'lm_head.weight'"):
        read_checkpoint(tmp_path)
    with pytest.raises(ModelError, match="not a folder"):
        read_checkpoint(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"config\.json: it cannot be read"):
        read_checkpoint(tmp_path / "empty")


def test_one_file_counts_before_an_index_of_shards(tmp_path: Path) -> None:
    """As in transformers: what is left of an older, larger checkpoint in the same folder is not read."""
    folder = write_checkpoint(tmp_path)
    index = {"weight_map": {NORM: "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert {slot.file.name for slot in read_checkpoint(folder).slots.values()} == {"model.safetensors"}


def test_no_token_is_written_as_minus_one(tmp_path: Path) -> None:
    config = read_checkpoint(write_checkpoint(tmp_path, bos_token_id=-1, eos_token_id=[-1, 2])).config
    assert (config.bos, config.eos) == (None, (2,))


@pytest.mark.parametrize("token", [-2, 448, 2**33, True, "</s>"])
@pytest.mark.parametrize("key", ["bos_token_id", "eos_token_id"])
def test_an_id_that_no_token_has_is_refused(key: str, token: object, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"config\.json: {key} is .* no id of its 448 tokens"):
        read_checkpoint(write_checkpoint(tmp_path, **{key: token}))


@pytest.mark.parametrize(
    ("changes", "window"),
    [
        ({"max_window_layers": 2}, None),
        ({"max_window_layers": 1}, 32),
        ({"max_window_layers": 2, "layer_types": ["full_attention", "sliding_attention"]}, 32),
        ({}, None),  # 28 of them, more than it has
    ],
)
def test_a_window_counts_where_a_layer_has_it(changes: dict[str, object], window: int | None, tmp_path: Path) -> None:
    shape = {"model_type": "qwen2", "head_dim": 16, "use_sliding_window": True, "sliding_window": 32}
    assert read_checkpoint(write_checkpoint(tmp_path, **shape, **changes)).config.window == window
