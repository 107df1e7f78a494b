"""A conversion is held to its source wherever the source can be run, and is not lost where it cannot."""

from __future__ import annotations

import json
from io import FileIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.checkpoints import LLAMA3_SCALING, write_checkpoint
from tests.test_evaluate import TIMER
from toolace_edge.cli import cli
from toolace_edge.convert import deliver, reference
from toolace_edge.convert.checkpoint import read_checkpoint
from toolace_edge.convert.measure import _append
from toolace_edge.convert.verify import Trial
from toolace_edge.errors import Cancelled, EngineError, ToolaceEdgeError

pytest.importorskip("onnx")
pytest.importorskip("gguf")
pytest.importorskip("llama_cpp")
SMALL_HEADS = {"head_dim": 8}  # which onnxruntime's attention does not turn
STRETCHED = {"model_type": "qwen2", "head_dim": 16, "rope_scaling": LLAMA3_SCALING}  # which llama.cpp does not


def convert(*args: str | Path) -> Result:
    result = CliRunner().invoke(cli, ["convert", *map(str, args)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A request with its right call."""
    call = {"type": "function", "function": {"name": "set_timer", "arguments": {"minutes": 5}}}
    messages = [{"role": "user", "content": "timer, 5 minutes"}, {"role": "assistant", "tool_calls": [call]}]
    (tmp_path / "data.jsonl").write_text(json.dumps({"source": "ours", "messages": messages, "tools": [TIMER]}))
    return tmp_path / "data.jsonl"


@pytest.mark.parametrize(
    ("shape", "most_in_f32", "kind"),
    [
        ({}, 1 << 30, "fp32"),
        ({}, 1, "f16"),
        (SMALL_HEADS, 1 << 30, "f32"),
        (SMALL_HEADS, 1, "f16"),
        (STRETCHED, 1 << 30, "fp32"),
        (STRETCHED, 1, "fp32"),
    ],
)
def test_the_reference_is_one_that_an_engine_runs(
    shape: dict[str, Any], most_in_f32: int, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "MAX_F32_WEIGHTS", most_in_f32)
    source = write_checkpoint(tmp_path / "checkpoint", **shape)
    assert reference.reference_kind(read_checkpoint(source)) == kind
    n_weights = read_checkpoint(source).config.n_weights
    assert reference.reference_bytes(source) == n_weights * (2 if kind == "f16" else 4)


@pytest.mark.slow
def test_what_llama_cpp_does_not_run_is_held_to_onnx_however_large(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "MAX_F32_WEIGHTS", 1)
    source = write_checkpoint(tmp_path / "checkpoint", **STRETCHED)
    done = convert("onnx", source, tmp_path / "m", "--precision", "fp32", "--verify-data", data, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["verification"]["source"]["name"] == "source: fp32, onnxruntime"


@pytest.mark.slow
def test_what_onnxruntime_does_not_run_is_refused_there_and_held_to_gguf(data: Path, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "checkpoint", **SMALL_HEADS)
    refused = convert("onnx", source, tmp_path / "m")
    assert (refused.exit_code, (tmp_path / "m").exists()) == (1, False)
    assert "cannot run heads of 8" in refused.stderr
    assert "convert gguf" in refused.stderr
    done = convert("gguf", source, tmp_path / "m.gguf", "--kind", "Q8_0", "--verify-data", data, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["verification"]["source"]["name"] == "source: f32, llama.cpp"


def raising(error: ToolaceEdgeError) -> Any:
    def fail(*_args: Any, **_options: Any) -> None:
        raise error

    return fail


FAILED = EngineError("it broke.", hint="")


@pytest.mark.parametrize("where", [(deliver, "make_reference"), (Trial, "of_source")])
def test_a_source_that_cannot_be_run_costs_the_proof_alone(
    where: tuple[Any, str], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_checkpoint(tmp_path / "checkpoint")
    monkeypatch.setattr(*where, raising(FAILED))
    done = convert("onnx", source, tmp_path / "m")
    assert (done.exit_code, (tmp_path / "m" / "model.onnx").exists()) == (0, True), done.output
    assert "Not verified: it broke." in done.stderr
    asked = convert("onnx", source, tmp_path / "other", "--verify-data", data)
    assert (asked.exit_code, (tmp_path / "other").exists()) == (1, False)
    monkeypatch.setattr(*where, raising(Cancelled("no.")))
    assert convert("onnx", source, tmp_path / "other").exit_code == 130


def test_a_result_that_cannot_be_run_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_checkpoint(tmp_path / "checkpoint")
    monkeypatch.setattr(deliver, "make_reference", lambda *_args, **_options: None)
    monkeypatch.setattr(Trial, "of_source", lambda *_args: None)
    monkeypatch.setattr(Trial, "report", raising(FAILED))
    done = convert("onnx", source, tmp_path / "m")
    assert (done.exit_code, (tmp_path / "m").exists()) == (1, False)


def test_logits_that_the_disk_has_no_room_for_are_left_out(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")  # the limit of a file's size stands in for the disk's
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with FileIO(tmp_path / "logits", "wb") as stream:
            assert [_append(stream, bytes(size)) for size in (12_000, 12_000, 8_000)] == [True, False, True]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "logits").stat().st_size == 20_000


@pytest.mark.slow
def test_an_adapter_is_compared_with_its_base(data: Path, tmp_path: Path) -> None:
    from tests.test_lora import Q, factors, write_adapter

    base = write_checkpoint(tmp_path / "base", tie_word_embeddings=False)
    adapter, model = write_adapter(tmp_path / "adapter", "somebody/else", factors(Q)), tmp_path / "m"
    assert convert("onnx", adapter, model, "--base", base, "--precision", "fp32", "--no-verify").exit_code == 0
    assert "--base FOLDER" in convert("compare", adapter, model, "--data", data).stderr
    done = convert("compare", adapter, model, "--base", base, "--data", data, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["models"][0]["agreement"] == 1.0
    assert convert("compare", model, model, "--base", base, "--data", data).exit_code == 2
