"""A checkpoint goes through `toolace-edge convert` and answers through `toolace-edge run`, with either engine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from toolace_edge.cli import cli
from toolace_edge.engines.gguf_header import read_header
from toolace_edge.model_facts import read_model_facts
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
        initializer_range=0.2,
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


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three requests with their right calls."""
    path = tmp_path / "data.jsonl"
    lines = []
    for minutes in (5, 10, 20):
        call = {"type": "function", "function": {"name": "set_timer", "arguments": {"minutes": minutes}}}
        request = {"role": "user", "content": f"timer, {minutes} minutes"}
        messages = [request, {"role": "assistant", "tool_calls": [call]}]
        lines.append(json.dumps({"source": "ours", "messages": messages, "tools": [TIMER]}))
    path.write_text("\n".join(lines))
    return path


def invoke(*args: str | Path | int) -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args])


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


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


def test_onnx_with_its_proof(checkpoint: Path, tools: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    calibration, out = tmp_path / "calibration.json", tmp_path / "models" / "small"
    calibration.write_text(json.dumps(CALIBRATION))
    done = invoke(
        *("convert", "onnx", checkpoint, out, "--precision", "int8", "--calibration", calibration),
        *("--verify-data", data, "--min-agreement", 0),
    )
    assert done.exit_code == 0, done.output
    assert names(out.parent) == ["small"]
    assert names(out) == ["VERIFY.json", "VERIFY.md", "VERIFY.svg", "model.onnx", "tokenizer.json", "toolace.json"]
    assert find(out).kind == "onnx"
    report = json.loads((out / "VERIFY.json").read_text("utf-8"))
    assert (report["n"], report["models"][0]["compared"], report["models"][0]["name"]) == (3, 3, "small")
    assert 0 < report["models"][0]["logits"]["kl"] < 0.1  # int8 is near, and is not the same
    assert "small" in done.stdout
    answers(out, tools)


def test_gguf_is_held_to_the_other_converter(checkpoint: Path, tools: Path, data: Path, tmp_path: Path) -> None:
    """f32 in llama.cpp and fp32 in onnxruntime are written apart, and say the same."""
    for needed in ("llama_cpp", "onnx", "gguf"):
        pytest.importorskip(needed)
    calibration, out = tmp_path / "calibration.json", tmp_path / "models" / "small.gguf"
    calibration.write_text(json.dumps(CALIBRATION))
    done = invoke(
        *("convert", "gguf", checkpoint, out, "--kind", "f32", "--calibration", calibration),
        *("--verify-data", data, "--verify-limit", 2, "--min-agreement", 1, "--json"),
    )
    assert done.exit_code == 0, done.output
    assert names(out.parent) == ["small.gguf", "small.verify.json", "small.verify.md", "small.verify.svg"]
    row = json.loads(done.stdout)["verification"]["models"][0]
    assert (row["agreement"], row["compared"], row["engine"]) == (1.0, 2, "llama.cpp")
    assert row["logits"]["max_error"] < 1e-3
    assert row["logits"]["top1_agreement"] == 1.0
    with open_model(out) as model:
        assert (model.name, model.format.name) == ("small", "compact")
    answers(out, tools)
    again = invoke("convert", "gguf", checkpoint, out, "--kind", "f32", "--no-verify")
    assert again.exit_code == 0
    assert names(out.parent) == ["small.gguf"]  # a proof of another file would be none


def test_optimum_is_held_to_our_own_graph(checkpoint: Path, tools: Path, data: Path, tmp_path: Path) -> None:
    """Two graphs for onnxruntime, written apart."""
    pytest.importorskip("optimum.exporters.onnx")
    pytest.importorskip("onnx")
    calibration, out = tmp_path / "calibration.json", tmp_path / "models" / "small"
    calibration.write_text(json.dumps(CALIBRATION))
    done = invoke(
        *("convert", "onnx", checkpoint, out, "--exporter", "optimum", "--precision", "fp32"),
        *("--calibration", calibration),
        *("--verify-data", data, "--verify-limit", 2, "--min-agreement", 1, "--json"),
    )
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    assert names(out.parent) == ["small"]
    row = json.loads(done.stdout)["verification"]["models"][0]
    assert (row["agreement"], row["compared"], row["engine"]) == (1.0, 2, "onnxruntime")
    assert 0 < row["logits"]["max_error"] < 1e-3
    answers(out, tools)


def test_a_folder_names_the_file_and_importance_is_kept(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    out = tmp_path / "models"
    options = ("--name", "Small One", "--no-verify")
    done = invoke("convert", "gguf", checkpoint, f"{out}/", "--kind", "Q4_K_M", "--imatrix", data, *options)
    assert done.exit_code == 0, done.output
    assert names(out) == ["Small-One-101K-Q4_K_M.gguf", "Small-One-101K-Q4_K_M.imatrix.gguf"]
    assert done.stderr.count("stored otherwise") == 1  # rows of 64 and 128 have no blocks of 256
    matrix = out / "Small-One-101K-Q4_K_M.imatrix.gguf"
    args = ("convert", "gguf", checkpoint, out, "--kind", "Q4_K_M", "--imatrix", matrix)
    again = invoke(*args, "--name", "b", "--no-verify")
    assert again.exit_code == 0, again.output
    assert "b-101K-Q4_K_M.gguf" in names(out)
    assert "b-101K-Q4_K_M.imatrix.gguf" not in names(out)
    first, second = (out / name for name in ("Small-One-101K-Q4_K_M.gguf", "b-101K-Q4_K_M.gguf"))
    assert weights(first) == weights(second)


def weights(file: Path) -> dict[str, bytes]:
    content = file.read_bytes()
    return {one.name: content[one.start : one.start + one.size_bytes] for one in read_header(file).tensors}


def test_a_float_file_can_be_quantized_later(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    whole, small = tmp_path / "whole.gguf", tmp_path / "small.gguf"
    assert invoke("convert", "gguf", checkpoint, whole, "--kind", "f32", "--no-verify").exit_code == 0
    done = invoke("convert", "gguf", whole, small, "--kind", "Q4_0", "--verify-data", data, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)["verification"]
    assert report["source"]["name"] == "source: whole.gguf"
    assert report["models"][0]["logits"]["kl"] > 0
    assert small.stat().st_size < whole.stat().st_size


def forged(agreement: float) -> Any:
    """A report that says so, of the model that was made."""
    from toolace_edge.convert.verify import Report, Row, Trial

    def report(_trial: Trial, _reference: Any, _source: Any, models: Any) -> Report:
        row = Row("made", "llama.cpp", models[0].stat().st_size, 0.1, 1.0, 1.0, None, 0.5, agreement, 40, (0.5, 0.9))
        return Report(40, "data", row, (row,))

    return report


def test_what_agrees_too_seldom_does_not_get_its_name(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolace_edge.convert.verify import Trial

    pytest.importorskip("gguf")
    out = tmp_path / "m" / "small.gguf"
    out.parent.mkdir()
    out.write_bytes(b"the one before")
    monkeypatch.setattr(Trial, "of_source", lambda *_args: None)
    monkeypatch.setattr(Trial, "report", forged(0.925))
    args = ("convert", "gguf", checkpoint, out, "--kind", "f16", "--min-agreement")
    failed = invoke(*args, 0.95)
    assert failed.exit_code == 1
    assert "92.5%" in failed.stderr
    assert "not put in place" in failed.stderr
    assert (names(out.parent), out.read_bytes()) == (["small.gguf"], b"the one before")
    assert invoke(*args, 0.925).exit_code == 0
    assert out.read_bytes()[:4] == b"GGUF"


@pytest.mark.parametrize("command", ["onnx", "gguf"])
def test_an_interrupt_leaves_nothing(
    command: str, checkpoint: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolace_edge.convert.verify import Trial

    pytest.importorskip("onnx")
    pytest.importorskip("gguf")

    def interrupted(*_args: Any, **_options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Trial, "of_source", interrupted)
    kind = ("--kind", "f16") if command == "gguf" else ()
    name = "out.gguf" if command == "gguf" else "out"
    result = invoke("convert", command, checkpoint, tmp_path / "m" / name, *kind, "--verify-data", data)
    assert result.exit_code == 130
    assert names(tmp_path / "m") == []


def test_where_nobody_asked_a_proof_may_be_missing(checkpoint: Path, tmp_path: Path) -> None:
    """The requests that come along are too long for this model's context; it is converted all the same, and told."""
    pytest.importorskip("onnx")
    done = invoke("convert", "onnx", checkpoint, tmp_path / "small", "--verify-limit", 1)
    assert done.exit_code == 0, done.output
    assert done.stderr.startswith("Not verified: The source can take none")
    asked = invoke("convert", "onnx", checkpoint, tmp_path / "other", "--verify-limit", 1, "--verify")
    assert asked.exit_code == 2
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "args",
    [
        ("onnx", "--precision", "int3"),
        ("gguf", "--kind", "Q9"),
        ("gguf", "--calibration", "x"),
        ("gguf", "--kind", "IQ2_M"),
        ("gguf", "--kind", "f16", "--tensor-type", "x=Q8_0"),
        ("gguf", "--kind", "Q8_0", "--tensor-type", "x=Q9"),
        ("gguf", "--kind", "Q8_0", "--tensor-type", "(=Q8_0"),
        ("gguf", "--imatrix", "nowhere"),
        ("gguf", "--no-verify", "--min-agreement", "0.9"),
        ("onnx", "--verify-data", "nowhere.jsonl"),
    ],
)
def test_what_is_not_offered_is_bad_usage(args: tuple[str, ...], checkpoint: Path, tmp_path: Path) -> None:
    name = "out.gguf" if args[0] == "gguf" else "out"
    result = invoke("convert", args[0], checkpoint, tmp_path / "folder" / name, *args[1:])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize("content", ["", "[]\n", '{"messages": [], "tools": []}\n', "GGUF and then nothing"])
def test_data_that_cannot_be_used_is_a_sentence(content: str, checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    data, place = tmp_path / "data.jsonl", tmp_path / "folder"
    data.write_text(content)
    for option in ("--imatrix", "--verify-data"):
        result = invoke("convert", "gguf", checkpoint, place / "out.gguf", "--kind", "Q4_0", option, data)
        assert result.exit_code == 2, result.output
        assert str(data) in result.stderr
        assert not place.exists() or names(place) == []


def test_a_folder_that_is_no_checkpoint_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for command in ("onnx", "gguf"):
        result = invoke("convert", command, tmp_path / "empty", tmp_path / f"out.{command}")
        assert result.exit_code in (1, 2)
        assert result.stderr.startswith("Error: ")
        assert names(tmp_path) == ["empty"]


def test_compare_draws_what_it_measured(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    for precision in ("int8", "int4"):
        made = invoke("convert", "onnx", checkpoint, tmp_path / precision, "--precision", precision, "--no-verify")
        assert made.exit_code == 0, made.output
    models = (tmp_path / "int8", tmp_path / "int4")
    done = invoke("convert", "compare", checkpoint, *models, "--data", data, "--json", "--out", tmp_path / "report")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    divergence = {row["name"]: row["logits"]["kl"] for row in report["models"]}
    assert divergence["int8"] < divergence["int4"]
    assert report["source"]["engine"] == "onnxruntime"
    assert names(tmp_path / "report") == ["COMPARE.json", "COMPARE.md", "COMPARE.svg"]
    assert "int4" in (tmp_path / "report" / "COMPARE.svg").read_text("utf-8")


def test_calibrate_writes_into_the_model(
    checkpoint: Path, data: Path, tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolace_edge.convert import calibrate
    from toolace_edge.registry import verify
    from toolace_edge.store import sha256_of

    pytest.importorskip("llama_cpp")
    folder, file = tmp_path / "small", tmp_path / "small.gguf"
    assert invoke("convert", "onnx", checkpoint, folder, "--no-verify").exit_code == 0
    assert invoke("convert", "gguf", checkpoint, file, "--kind", "Q8_0", "--no-verify").exit_code == 0
    beside = file.with_name("small.gguf.sha256")
    beside.write_text(f"{sha256_of(file)}  small.gguf\n")
    few = invoke("convert", "calibrate", folder, data)
    assert few.exit_code == 2
    assert "right and" in few.stderr
    sure, unsure = calibrate.Trace((-0.1,), (-0.1,), (True,)), calibrate.Trace((-4.0,), (-2.0,), (False,))
    monkeypatch.setattr(calibrate, "trace", lambda *_args: [sure, unsure] * 20)
    for model in (folder, file):
        dry = invoke("convert", "calibrate", model, data, "--dry-run", "--json")
        assert dry.exit_code == 0, dry.output
        done = invoke("convert", "calibrate", model, data)
        assert done.exit_code == 0, done.output
        with open_model(model) as opened:
            assert opened.calibration == json.loads(dry.stdout)["facts"]
            assert opened.calibration["a"] > 0
        assert invoke("convert", "calibrate", model, data, "--top-k", "3").exit_code == 0
        with open_model(model) as opened:
            assert opened.calibration == {**json.loads(dry.stdout)["facts"], "top_k": 3}
        answers(model, tools)
    verify(find(file))  # the hash beside it is of what is there now


def test_a_strangers_checkpoint_needs_its_format_and_keeps_it(checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    other = tmp_path / "other"
    shutil.copytree(checkpoint, other)
    text = (other / "tokenizer.json").read_text("utf-8")
    for ours, theirs in (("<|call|>", "<|im_start|>"), ("<|end|>", "<|im_end|>")):
        text = text.replace(ours, theirs)
    (other / "tokenizer.json").write_text(text, "utf-8")
    for command in ("onnx", "gguf"):
        name = "out.gguf" if command == "gguf" else "out"
        result = invoke("convert", command, other, tmp_path / name, "--no-verify")
        assert (result.exit_code, names(tmp_path)) == (2, ["other"])
        assert "does not say how its model writes calls" in result.output
        assert "--format" in result.output
        wrong = invoke("convert", command, other, tmp_path / name, "--no-verify", "--format", "toolace")
        assert (wrong.exit_code, names(tmp_path)) == (2, ["other"])
        assert "has no token <|begin_of_text|>" in wrong.output
    assert invoke("convert", "onnx", other, tmp_path / "out", "--no-verify", "--format", "hermes").exit_code == 0
    assert json.loads((tmp_path / "out" / "toolace.json").read_text())["format"] == "hermes"


def test_a_file_keeps_the_format_that_it_names(checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    assert invoke("convert", "gguf", checkpoint, tmp_path / "f32.gguf", "--kind", "f32", "--no-verify").exit_code == 0
    args = ("convert", "gguf", tmp_path / "f32.gguf", tmp_path / "q8.gguf", "--no-verify")
    refused = invoke(*args, "--format", "hermes")
    assert (refused.exit_code, names(tmp_path)) == (2, ["f32.gguf"])
    assert "writes calls as compact" in refused.output
    assert invoke(*args).exit_code == 0
    assert read_model_facts(tmp_path / "q8.gguf", "gguf").format == "compact"
    assert invoke(*args, "--name", "Another").exit_code == 0
    assert read_header(tmp_path / "q8.gguf").metadata["general.name"] == "Another"


def strangers_file(checkpoint: Path, file: Path) -> Path:
    """As another converter leaves it: it says nothing of formats."""
    made = invoke("convert", "gguf", checkpoint, file, "--kind", "f16", "--no-verify")
    assert made.exit_code == 0, made.output
    file.write_bytes(file.read_bytes().replace(b"toolace.format", b"somebody.thing"))
    assert read_model_facts(file, "gguf").format is None
    return file


def test_a_strangers_file_can_be_quantized_and_gets_the_format_that_is_given(
    checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("llama_cpp")
    source, out = strangers_file(checkpoint, tmp_path / "f16.gguf"), tmp_path / "q8.gguf"
    done = invoke("convert", "gguf", source, out)
    assert done.exit_code == 0, done.output
    assert "Not verified: " in done.stderr
    assert "does not say how its model writes calls" in done.stderr
    out.unlink()
    asked = invoke("convert", "gguf", source, out, "--verify-data", data)
    assert (asked.exit_code, out.exists()) == (2, False)
    assert "--format" in asked.stderr
    wrong = invoke("convert", "gguf", source, out, "--format", "hermes")
    assert (wrong.exit_code, out.exists()) == (2, False)
    assert "has no token <|im_end|>" in wrong.stderr
    done = invoke("convert", "gguf", source, out, "--verify-data", data, "--format", "compact", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["verification"]["models"][0]["compared"] == 3
    assert read_model_facts(out, "gguf").format == "compact"
