"""The importance matrix is what transformers' layers see, llama.cpp's file form holds it, and quantizing heeds it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
gguf = pytest.importorskip("gguf")
pytest.importorskip("llama_cpp")

from toolace_edge.convert.checkpoint import read_checkpoint  # noqa: E402
from toolace_edge.convert.gguf import convert_gguf  # noqa: E402
from toolace_edge.convert.gguf_quantize import choose_kinds, matrices, quantize, stored_otherwise  # noqa: E402
from toolace_edge.convert.importance import (  # noqa: E402
    Importance,
    measure_importance,
    read_importance,
    tool_call_sequences,
    write_importance,
)
from toolace_edge.engines.gguf_header import read_header  # noqa: E402
from toolace_edge.errors import InputError  # noqa: E402
from toolace_edge.examples import Example  # noqa: E402
from toolace_edge.formats import get  # noqa: E402
from toolace_edge.messages import Message, Tool, ToolCall  # noqa: E402

from .checkpoints import LLAMA3_SCALING, write_checkpoint  # noqa: E402

NAMES = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output"}
NAMES |= {"gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}
DICE = np.random.default_rng(0)
SEQUENCES = [DICE.integers(16, 400, n).tolist() for n in (40, 1, 25)]


def whole_model(folder: Path, sequences: list[list[int]]) -> dict[str, np.ndarray]:
    """Mean squared inputs by hooks on the model as transformers runs it."""
    model = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    sums: dict[str, np.ndarray] = {}
    for path, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            parts = path.split(".")
            tied = "token_embd.weight" if model.config.tie_word_embeddings else "output.weight"
            name = tied if path == "lm_head" else f"blk.{parts[2]}.{NAMES[parts[-1]]}.weight"

            def hook(_module: object, inputs: tuple[torch.Tensor], name: str = name) -> None:
                sums[name] = sums.get(name, 0) + inputs[0].double().square().sum((0, 1)).numpy()

            module.register_forward_pre_hook(hook)
    with torch.no_grad():
        for ids in sequences:
            model(torch.tensor([ids]))
    return {name: total / sum(map(len, sequences)) for name, total in sums.items()}


@pytest.mark.parametrize(
    "changes", [{}, {"tie_word_embeddings": False, "rope_theta": 5000.0, "rope_scaling": LLAMA3_SCALING}]
)
def test_layer_by_layer_is_as_the_whole_model(changes: dict[str, object], tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", **changes)
    expected = whole_model(folder, SEQUENCES)
    measured = measure_importance(read_checkpoint(folder), SEQUENCES)
    assert measured.means.keys() == expected.keys()
    assert measured.n_tokens == 66
    for name, means in measured.means.items():
        np.testing.assert_allclose(means, expected[name], rtol=1e-5, err_msg=name)


def test_rotary_facts_that_transformers_passes_over_are_heeded(tmp_path: Path) -> None:
    """4.57 reads no `rope_parameters`, and would run the model with a theta of 10000."""
    old = write_checkpoint(tmp_path / "old", rope_theta=500.0)
    new = write_checkpoint(tmp_path / "new")
    config = json.loads((new / "config.json").read_text())
    del config["rope_theta"]
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": 500.0}
    (new / "config.json").write_text(json.dumps(config))
    expected = whole_model(old, SEQUENCES)["blk.1.ffn_down.weight"]
    found = measure_importance(read_checkpoint(new), SEQUENCES).means["blk.1.ffn_down.weight"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_sequences_are_prompts_with_their_right_answer(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write_checkpoint(tmp_path / "checkpoint"))
    tool = Tool("set_timer", "", {"type": "object", "properties": {"minutes": {"type": "integer"}}, "required": []})
    good = Example("1", "all", (Message("user", "tea"),), (tool,), (ToolCall("set_timer", {"minutes": 3}),))
    bad = Example("2", "all", (Message("user", "tea"),), (), (), refused="no such type")
    from tokenizers import Tokenizer

    (ids,) = tool_call_sequences(checkpoint, get("compact"), [bad, good])
    text = Tokenizer.from_str(checkpoint.tokenizer_json).decode(ids, skip_special_tokens=False)
    assert text == (
        "<|begin|><|tool|>set_timer\nminutes? int<|user|>tea"
        '<|call|>{"name":"set_timer","arguments":{"minutes":3}}<|end|>'
    )
    with pytest.raises(InputError, match="No line of the data can be used"):
        tool_call_sequences(checkpoint, get("compact"), [bad])


def test_a_file_holds_what_was_written(tmp_path: Path) -> None:
    sums = {"blk.0.attn_q.weight": np.array([500, 2000, 0], np.float32), "output.weight": DICE.random(4, np.float32)}
    written = Importance(sums, 1000, "data.jsonl")
    file = write_importance(tmp_path / "m.gguf", written)
    read = read_importance(file)
    assert read.n_tokens == 1000
    assert read.means.keys() == sums.keys()
    assert read.means["blk.0.attn_q.weight"].tolist() == [0.5, 2.0, 0.0]
    assert np.array_equal(read.means["output.weight"], written.means["output.weight"])
    tensors = {tensor.name: tensor.data.tolist() for tensor in gguf.GGUFReader(file).tensors}
    assert tensors["blk.0.attn_q.weight.in_sum2"] == [500.0, 2000.0, 0.0]
    assert tensors["blk.0.attn_q.weight.counts"] == [1000.0]
    assert [one.name for one in tmp_path.iterdir()] == ["m.gguf"]


@pytest.mark.parametrize("damage", ["cut", "header", "model"])
def test_another_file_is_refused(damage: str, tmp_path: Path) -> None:
    file = write_importance(tmp_path / "m.gguf", Importance({"x": np.ones(4, np.float32)}, 10, "d"))
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:150])
    elif damage == "header":
        file.write_bytes(b"GGUF" + bytes(range(60)))
    else:
        convert_gguf(write_checkpoint(tmp_path / "checkpoint"), file, name="m")
    with pytest.raises(InputError, match=r"m\.gguf"):
        read_importance(file)


WIDE = {"hidden_size": 256, "intermediate_size": 256, "head_dim": 64}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """f32, 256 wide, so that every kind has its blocks."""
    folder = tmp_path_factory.mktemp("wide")
    return convert_gguf(write_checkpoint(folder / "checkpoint", **WIDE), folder / "whole.gguf", kind="f32", name="m")


def values(file: Path, name: str) -> np.ndarray:
    (tensor,) = (one for one in gguf.GGUFReader(file).tensors if one.name == name)
    return np.asarray(gguf.quants.dequantize(tensor.data, tensor.tensor_type))


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_K_M", "Q5_K_M"])
def test_what_matters_is_kept_better_with_importance(kind: str, whole: Path, tmp_path: Path) -> None:
    """Error weighted by a matrix in which one column in eight matters."""
    matters = np.where(np.arange(256) % 8 == 0, 100.0, 0.1).astype(np.float32)
    importance = {tensor.name: matters for tensor in matrices(whole)}
    plain = quantize(whole, tmp_path / "plain.gguf", kind)
    told = quantize(whole, tmp_path / "told.gguf", kind, importance=importance)
    name = "blk.0.ffn_gate.weight"
    errors = [float((matters * (values(file, name) - values(whole, name)) ** 2).sum()) for file in (plain, told)]
    assert errors[1] < errors[0] * 0.9


def test_so_few_bits_need_importance(whole: Path, tmp_path: Path) -> None:
    importance = {tensor.name: np.ones(256, np.float32) for tensor in matrices(whole)}
    for given, why in ((None, "needs an importance matrix"), ({"token_embd.weight": np.ones(256)}, "says nothing of")):
        with pytest.raises(InputError, match=why):
            quantize(whole, tmp_path / "m.gguf", "IQ2_M", importance=given)
    with pytest.raises(InputError, match="another model"):
        quantize(whole, tmp_path / "m.gguf", "IQ2_M", importance={"blk.0.attn_q.weight": np.ones(32, np.float32)})
    assert list(tmp_path.iterdir()) == []
    seen: list[tuple[int, int]] = []
    file = quantize(
        *(whole, tmp_path / "m.gguf", "IQ2_M"), importance=importance, on_progress=lambda *one: seen.append(one)
    )
    assert read_header(file).metadata["general.file_type"] == 29
    assert seen[-1][0] == seen[-1][1] == len(read_header(file).tensors)
    assert file.stat().st_size < whole.stat().st_size / 6


def test_tensors_may_have_kinds_of_their_own(whole: Path, tmp_path: Path) -> None:
    """The first expression that is found in a name counts."""
    kinds = [(r"blk\.0\..*down", "f16"), ("ffn_down", "Q8_0"), ("token_embd", "Q6_K")]
    file = quantize(whole, tmp_path / "m.gguf", "Q4_0", tensor_kinds=kinds)
    types = {tensor.name: tensor.type for tensor in matrices(file)}
    assert types.pop("blk.0.ffn_down.weight") == "F16"
    assert types.pop("blk.1.ffn_down.weight") == "Q8_0"
    assert types.pop("token_embd.weight") == "Q6_K"
    assert set(types.values()) == {"Q4_0"}
    assert stored_otherwise(file, "Q4_0", kinds) == ""
    with pytest.raises(InputError, match="attn_norm"):  # no matrix
        choose_kinds([one.name for one in matrices(whole)], [("attn_norm", "f16")])


def test_what_has_no_blocks_is_said_once(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint")  # rows of 64, 96 and 128
    whole = convert_gguf(folder, tmp_path / "whole.gguf", kind="f32", name="m")
    file = quantize(whole, tmp_path / "m.gguf", "Q4_K_M", tensor_kinds=[("attn_q", "Q8_0"), ("attn_k", "Q6_K")])
    types = {tensor.name: tensor.type for tensor in matrices(file)}
    assert types["blk.0.attn_q.weight"] == "Q8_0"
    assert types["blk.0.attn_k.weight"] == "Q8_0"  # the next that fits
    said = stored_otherwise(file, "Q4_K_M", [("attn_q", "Q8_0"), ("attn_k", "Q6_K")])
    for columns in (64, 96, 128):
        expected = sum(one.shape[0] == columns and "attn_q" not in one.name for one in matrices(file))
        found = [
            int(part.split(" with rows of")[0].split()[-1]) for part in said.split(", ") if f"of {columns} as" in part
        ]
        assert sum(found) == expected > 0
    assert stored_otherwise(quantize(whole, tmp_path / "n.gguf", "Q8_0"), "Q8_0") == ""
