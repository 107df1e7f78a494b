"""An adapter on its base converts to what peft merges; one that cannot be merged exactly is refused with a sentence."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.checkpoints import CONFIG, random_tensors, write_checkpoint, write_safetensors
from tests.tiny import tiny_tokenizer_json
from toolace_edge.cli import cli
from toolace_edge.convert.checkpoint import Checkpoint, read_checkpoint
from toolace_edge.errors import InputError, ModelError

EMBEDDING, HEAD = "model.embed_tokens", "lm_head"
Q, UP = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.up_proj"
WIDTHS = {Q: (128, 64), UP: (96, 64), EMBEDDING: (448, 64), HEAD: (448, 64)}  # [out, in]


def factors(module: str, rank: int = 4) -> dict[str, np.ndarray]:
    """What peft writes for one layer."""
    rng = np.random.default_rng(len(module) + rank)
    out, into = WIDTHS[module][::-1] if module == EMBEDDING else WIDTHS[module]
    names = ("lora_embedding_A", "lora_embedding_B") if module == EMBEDDING else ("lora_A.weight", "lora_B.weight")
    shapes = ((rank, into), (out, rank))
    return {
        f"base_model.model.{module}.{name}": rng.normal(size=shape).astype(np.float32)
        for name, shape in zip(names, shapes, strict=True)
    }


def write_adapter(folder: Path, base: Path | str, tensors: dict[str, np.ndarray], **changes: Any) -> Path:
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": str(base), "bias": "none"}
    config |= {"r": 4, "lora_alpha": 6, "use_dora": False, "fan_in_fan_out": False, "target_modules": ["q_proj"]}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({**config, **changes}))
    write_safetensors(folder / "adapter_model.safetensors", tensors)
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "base", tie_word_embeddings=False)


def product(tensors: dict[str, np.ndarray], module: str) -> np.ndarray:
    a, b = (tensors[key] for key in factors(module))
    return (b @ a).T if module == EMBEDDING else b @ a


def test_a_low_rank_product_is_added_to_its_weight_and_to_no_other(base: Path, tmp_path: Path) -> None:
    added = {**factors(Q), **factors(UP), **factors(EMBEDDING)}
    plain, merged = read_checkpoint(base), read_checkpoint(write_adapter(tmp_path / "adapter", base, added))
    for name in plain.slots:
        module = name.removesuffix(".weight")
        wanted = plain.tensor(name) + (product(added, module) * (6 / 4) if module in (Q, UP, EMBEDDING) else 0)
        assert np.allclose(merged.tensor(name), wanted, atol=1e-5), name
    assert not np.allclose(merged.tensor(f"{Q}.weight"), plain.tensor(f"{Q}.weight"), atol=0.1)


@pytest.mark.parametrize(
    ("settings", "rank", "scale"),
    [
        ({"use_rslora": True}, 4, 6 / math.sqrt(4)),
        ({"rank_pattern": {"q_proj": 2}}, 2, 6 / 2),
        ({"alpha_pattern": {"v_proj": 3, "self_attn.q_proj": 10}}, 4, 10 / 4),
        ({"rank_pattern": {f"^{Q}": 8}, "alpha_pattern": {"q_proj": 2}, "use_rslora": True}, 8, 2 / math.sqrt(8)),
        ({"fan_in_fan_out": True, "init_lora_weights": "gaussian"}, 4, 6 / 4),
    ],
)
def test_its_scale_follows_the_settings(
    settings: dict[str, Any], rank: int, scale: float, base: Path, tmp_path: Path
) -> None:
    added = factors(Q, rank)
    merged = read_checkpoint(write_adapter(tmp_path / "adapter", base, added, **settings)).tensor(f"{Q}.weight")
    delta = merged - read_checkpoint(base).tensor(f"{Q}.weight")
    assert np.allclose(delta, product(added, Q) * scale, atol=1e-5)


def test_what_was_trained_whole_takes_the_place_of_the_bases(base: Path, tmp_path: Path) -> None:
    norm = np.full(64, 3, np.float32)
    head = np.ones((448, 64), np.float32)
    tensors = {"base_model.model.model.norm.weight": norm, "base_model.model.lm_head.weight": head, **factors(Q)}
    merged = read_checkpoint(write_adapter(tmp_path / "adapter", base, tensors, modules_to_save=["lm_head", "norm"]))
    assert np.array_equal(merged.tensor("model.norm.weight"), norm)
    assert np.array_equal(merged.tensor("lm_head.weight"), head)
    assert np.array_equal(
        merged.tensor("model.embed_tokens.weight"), read_checkpoint(base).tensor("model.embed_tokens.weight")
    )


def test_a_grown_vocabulary_comes_with_the_adapters_own_tokenizer(base: Path, tmp_path: Path) -> None:
    rows = np.ones((500, 64), np.float32)
    grown = {f"base_model.model.{name}.weight": rows for name in (EMBEDDING, HEAD)}
    adapter = write_adapter(tmp_path / "adapter", base, {**grown, **factors(Q)})
    (adapter / "tokenizer.json").write_text(tiny_tokenizer_json(480), "utf-8")
    merged = read_checkpoint(adapter)
    assert merged.config.vocab_size == 500
    assert merged.tensor("lm_head.weight").shape == (500, 64)
    assert merged.tokenizer_json == tiny_tokenizer_json(480)


def tied(tmp_path: Path, tensors: dict[str, np.ndarray]) -> Checkpoint:
    base = write_checkpoint(tmp_path / "tied")
    return read_checkpoint(write_adapter(tmp_path / "adapter", base, tensors))


def test_a_tied_embedding_stays_one_where_both_copies_are_the_same(tmp_path: Path) -> None:
    rows = np.ones((448, 64), np.float32)
    copies = {f"base_model.model.{name}.weight": rows for name in (EMBEDDING, HEAD)}
    assert tied(tmp_path, copies).config.tied


@pytest.mark.parametrize("changed", [EMBEDDING, HEAD])
def test_a_tied_embedding_becomes_two_where_one_end_was_trained(changed: str, tmp_path: Path) -> None:
    added = factors(changed)
    merged = tied(tmp_path, added)
    original = random_tensors(CONFIG)["model.embed_tokens.weight"]
    assert not merged.config.tied
    for name in (EMBEDDING, HEAD):
        wanted = original + (product(added, name) * (6 / 4) if name == changed else 0)
        assert np.allclose(merged.tensor(f"{name}.weight"), wanted, atol=1e-5)


def test_the_base_is_found_or_asked_for(base: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", "meta-llama/Llama-3.1-8B", factors(Q))
    with pytest.raises(InputError, match=r"'meta-llama/Llama-3.1-8B', is not a folder") as raised:
        read_checkpoint(adapter)
    assert "--base" in raised.value.hint
    assert read_checkpoint(adapter, base).config.hidden_size == 64
    with pytest.raises(InputError, match="not an adapter"):
        read_checkpoint(base, base)
    with pytest.raises(ModelError, match="an adapter itself"):
        read_checkpoint(adapter, adapter)


PREFIX = "base_model.model."
WRONG: list[tuple[dict[str, Any], dict[str, np.ndarray], str]] = [
    ({"peft_type": "IA3"}, factors(Q), "peft_type is 'IA3'"),
    ({"peft_type": None}, factors(Q), "peft_type is None"),
    ({"task_type": "SEQ_CLS"}, factors(Q), "task_type is 'SEQ_CLS'"),
    ({"bias": "all"}, factors(Q), "bias is 'all'"),
    ({"use_dora": True}, factors(Q), "use_dora is 'True', a variant"),
    ({"init_lora_weights": "pissa"}, factors(Q), "init_lora_weights is 'pissa'"),
    ({"layer_replication": [[0, 2], [1, 2]]}, factors(Q), "layer_replication"),
    ({"something_of_next_year": 1}, factors(Q), "something_of_next_year"),
    ({"rank_pattern": {".*": 4}}, factors(Q), "only names of layers"),
    ({"r": 5}, factors(Q), "has rank 4, but the settings say 5"),
    ({"lora_alpha": "six"}, factors(Q), "lora_alpha is 'six'"),
    ({}, {}, "it is empty"),
    ({}, dict(list(factors(Q).items())[:1]), "only one of its two matrices"),
    ({}, {Q: np.ones(3, np.float32)}, "not a name that PEFT gives"),
    ({}, {f"{PREFIX}{Q}.lora_magnitude_vector": np.ones(3, np.float32)}, "not a name that PEFT gives"),
    ({}, {key.replace("layers.0", "layers.7"): value for key, value in factors(Q).items()}, r"no weight .*layers\.7"),
    ({}, {key.replace("q_proj", "k_proj"): value for key, value in factors(Q).items()}, "of another model"),
    ({}, {f"{PREFIX}model.extra.weight": np.ones(3, np.float32)}, "no tensor 'model.extra.weight'"),
    ({}, {f"{PREFIX}model.norm.weight": np.ones(65, np.float32)}, r"shape \[65\]"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "tensors", "says"), WRONG, ids=[says for _, _, says in WRONG])
def test_a_wrong_adapter_is_refused_with_a_sentence(
    settings: dict[str, Any], tensors: dict[str, np.ndarray], says: str, base: Path, tmp_path: Path
) -> None:
    adapter = write_adapter(tmp_path / "adapter", base, tensors, **settings)
    with pytest.raises(ModelError, match=says) as raised:
        read_checkpoint(adapter)
    assert str(tmp_path) in str(raised.value)


def test_a_pickled_adapter_is_not_opened(base: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", base, factors(Q))
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"adapter_model\.bin, a pickle"):
        read_checkpoint(adapter)


def _save_with_peft(base: Path, out: Path, settings: dict[str, Any]) -> Any:
    """An adapter with random weights as peft saves it, and the model as peft merges it."""
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", lora_alpha=6, **settings))
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in (weight for _, weight in model.named_parameters() if weight.requires_grad):
            weight.normal_(0, 0.3)
    model.save_pretrained(out)
    return model.merge_and_unload()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "settings",
    [
        {"r": 4, "target_modules": "all-linear"},
        {"r": 4, "target_modules": ["q_proj", "down_proj"], "use_rslora": True, "fan_in_fan_out": True},
        {"r": 2, "target_modules": ["v_proj", "embed_tokens", "lm_head"]},
        {"r": 4, "target_modules": ["o_proj"], "modules_to_save": ["lm_head", "embed_tokens"]},
        {
            "r": 4,
            "target_modules": ["q_proj", "up_proj"],
            "rank_pattern": {"up_proj": 3, "layers.1.self_attn.q_proj": 2},
            "alpha_pattern": {"q_proj": 5},
        },
    ],
    ids=lambda settings: "+".join(key for key in settings if key != "r"),
)
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_what_peft_saves_is_merged_as_peft_merges_it(family: str, settings: dict[str, Any], tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", model_type=family, head_dim=16, tie_word_embeddings=False)
    theirs = _save_with_peft(base, tmp_path / "adapter", settings).state_dict()
    ours = read_checkpoint(tmp_path / "adapter")
    assert ours.slots.keys() == theirs.keys()
    for name, weight in theirs.items():
        assert np.allclose(ours.tensor(name), weight.numpy(), atol=2e-6), name


@pytest.mark.slow
def test_either_conversion_of_an_adapter_is_that_of_the_merged_model(base: Path, tmp_path: Path) -> None:
    gguf, _ = pytest.importorskip("gguf"), pytest.importorskip("llama_cpp")
    pytest.importorskip("onnx")
    adapter = write_adapter(tmp_path / "adapter", "not/here", {**factors(Q), **factors(UP)})
    opened = read_checkpoint(adapter, base)
    merged = write_checkpoint(tmp_path / "merged", tie_word_embeddings=False)
    write_safetensors(merged / "model.safetensors", {name: opened.tensor(name) for name in opened.slots})
    for source, more in ((adapter, ("--base", base)), (merged, ())):
        for kind, options in (("gguf", ("--kind", "f32")), ("onnx", ("--precision", "int4"))):
            out = tmp_path / f"{kind}-{source.name}{'.gguf' if kind == 'gguf' else ''}"
            arguments = ("convert", kind, source, out, *options, *more, "--name", "m", "--no-verify")
            result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
            assert result.exit_code == 0, result.output
    one, other = (
        {tensor.name: tensor.data.tobytes() for tensor in gguf.GGUFReader(tmp_path / f"gguf-{name}.gguf").tensors}
        for name in ("adapter", "merged")
    )
    assert one == other
    same = ((tmp_path / f"onnx-{name}" / "model.onnx").read_bytes() for name in ("adapter", "merged"))
    assert next(same) == next(same)
