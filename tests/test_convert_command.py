"""A checkpoint goes through `toolace-edge convert` and answers through `toolace-edge run`, with either engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from toolace_edge.cli import cli
from toolace_edge.registry import find, open_model

from .test_evaluate import TIMER
from .tiny import tiny_tokenizer_json

pytestmark = pytest.mark.slow
CALIBRATION = {"kind": "logistic", "on": "log_product", "a": 1.0, "b": 0.0, "gate": None}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with random weights, as training leaves one."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=420,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    folder = tmp_path_factory.mktemp("checkpoint")
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tiny_tokenizer_json(), "utf-8")
    return folder


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    path = tmp_path / "tools.json"
    path.write_text(json.dumps([TIMER]))
    return path


def invoke(*args: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args])


def answers(model: Path, tools: Path) -> None:
    """Random weights say anything, but what they call is valid."""
    result = invoke(
        "run", "x", "--model", model, "--tools", tools, "--tool-choice", "required", "--json", "--rounds", 0
    )
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert all(type(call["arguments"]["minutes"]) is int for call in answer["calls"])
    assert answer["calls"]
    assert 0 <= answer["confidence"] <= 1


def test_onnx(checkpoint: Path, tools: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    calibration, out = tmp_path / "calibration.json", tmp_path / "small"
    calibration.write_text(json.dumps(CALIBRATION))
    done = invoke("convert", "onnx", checkpoint, out, "--precision", "int8", "--calibration", calibration)
    assert done.exit_code == 0, done.output
    assert find(out).kind == "onnx"
    answers(out, tools)


@pytest.mark.parametrize("kind", ["f32", "Q8_0"])
def test_gguf(kind: str, checkpoint: Path, tools: Path, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    calibration, out = tmp_path / "calibration.json", tmp_path / "models" / "small.gguf"
    calibration.write_text(json.dumps(CALIBRATION))
    done = invoke("convert", "gguf", checkpoint, out, "--kind", kind, "--calibration", calibration)
    assert done.exit_code == 0, done.output
    assert [file.name for file in out.parent.iterdir()] == ["small.gguf"]
    with open_model(out) as model:
        assert (model.name, model.format.name) == ("small", "compact")
    answers(out, tools)


def test_a_float_file_can_be_quantized_later(checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    whole, small = tmp_path / "whole.gguf", tmp_path / "small.gguf"
    assert invoke("convert", "gguf", checkpoint, whole, "--kind", "f32").exit_code == 0
    assert invoke("convert", "gguf", whole, small, "--kind", "Q4_0").exit_code == 0
    assert small.stat().st_size < whole.stat().st_size


@pytest.mark.parametrize(
    "args", [("onnx", "--precision", "int3"), ("gguf", "--kind", "Q9"), ("gguf", "--calibration", "x")]
)
def test_what_is_not_offered_is_bad_usage(args: tuple[str, ...], checkpoint: Path, tmp_path: Path) -> None:
    result = invoke("convert", args[0], checkpoint, tmp_path / "out", *args[1:])
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_checkpoint_is_a_sentence(tmp_path: Path) -> None:
    for command in ("onnx", "gguf"):
        result = invoke("convert", command, tmp_path, tmp_path / "out")
        assert result.exit_code in (1, 2)
        assert result.stderr.startswith("Error: ")
