"""The graph that optimum exports runs in our engine as the model does in transformers, and as our own graph does."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests import engine_contract
from tests.checkpoints import FAMILIES, write_checkpoint
from tests.test_evaluate import TIMER
from tests.test_lora import Q, factors, write_adapter
from toolace_edge import registry
from toolace_edge.cli import cli
from toolace_edge.engines.onnx import OnnxEngine
from toolace_edge.errors import EngineError, MissingDependency
from toolace_edge.messages import Message
from toolace_edge.tools import load_tools

pytest.importorskip("optimum.exporters.onnx")
pytest.importorskip("onnx")

from tests.reference_logits import compare_logits
from toolace_edge.convert import onnx_optimum
from toolace_edge.convert.onnx import convert_onnx
from toolace_edge.convert.onnx_optimum import check_installed

pytestmark = pytest.mark.slow
IDS = np.random.default_rng(1).integers(16, 400, 90).tolist()


def export(source: Path, out: Path, **options: Any) -> Path:
    """`convert_onnx` with the child's work done here: most of its time goes into importing torch once more."""

    def here(_module: str, job: Any, _what: str, _on_progress: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer takes shapes for constants; the logits say whether it may
            onnx_optimum.work(job, lambda *_: None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_optimum, "run_child", here)
        patch.setattr(tempfile, "tempdir", None)  # which the child changes
        return convert_onnx(source, out, name="m", **options)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Model folders by family, exporter and precision, made once; beside each lies its `checkpoint`."""
    root = tmp_path_factory.mktemp("models")

    def folder(family: str = "llama", exporter: str = "optimum", precision: str = "fp32") -> Path:
        source, out = root / family / "checkpoint", root / family / f"{exporter}-{precision}"
        if not source.exists():
            write_checkpoint(source, **FAMILIES[family])
        return out if out.exists() else export(source, out, precision=precision, exporter=exporter)

    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_of_every_family_are_those_of_transformers(family: str, folders: Callable[..., Path]) -> None:
    folder = folders(family)
    with OnnxEngine(folder, threads=1, chunk=64) as engine:
        comparison = compare_logits(folder.parent / "checkpoint", engine, [IDS, IDS[::-1], IDS[20:] + IDS])
    assert comparison.max_error <= 1e-3, comparison
    assert comparison.top1_agreement >= 0.995, comparison


def test_int8_is_smaller_and_near(folders: Callable[..., Path]) -> None:
    whole, small = folders(), folders(precision="int8")
    assert (small / "model.onnx").stat().st_size < 0.6 * (whole / "model.onnx").stat().st_size
    with OnnxEngine(small, threads=1) as engine:
        comparison = compare_logits(whole.parent / "checkpoint", engine, [IDS, IDS[::-1]])
    assert 0 < comparison.kl < 2e-3, comparison
    assert comparison.top1_agreement > 0.85, comparison


@pytest.mark.parametrize("check", engine_contract.CHECKS, ids=lambda check: check.__name__)
def test_contract(check: Callable[[Any, Path], None], folders: Callable[..., Path], tmp_path: Path) -> None:
    with OnnxEngine(folders(), threads=1, chunk=16) as engine:
        check(engine, tmp_path)


def test_a_rejected_draft_leaves_no_trace(folders: Callable[..., Path]) -> None:
    """What was rewound is gone, though the past comes out of each call longer; saved and loaded, it is the same."""
    with OnnxEngine(folders(), threads=1) as engine:
        plain = engine.forward(IDS, n_logits=20).copy()
        for length in (80, 71, 0):
            engine.rewind(length)
            engine.forward([3, 4, 5, 6], n_logits=4)
            engine.rewind(length)
            rows = engine.forward(IDS[length:], n_logits=10)
            assert np.abs(rows - plain[-10:]).max() < 1e-4
            assert list(engine.tokens) == IDS


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_a_session_answers_as_with_our_own_graph(family: str, folders: Callable[..., Path]) -> None:
    """Calls, confidence and refinements: drafts are offered, and rejected, along the way."""
    answers = []
    for exporter in ("own", "optimum"):
        with registry.open_model(folders(family, exporter), threads=1) as model:
            session = model.session(load_tools([TIMER]), tool_choice="required", rounds=2, max_new_tokens=120)
            answers.append([session.complete([Message("user", f"timer, {minutes} minutes")]) for minutes in (5, 10)])
    for ours, theirs in zip(*answers, strict=True):
        assert ours.calls
        assert [(call.name, call.arguments) for call in ours.calls] == [
            (call.name, call.arguments) for call in theirs.calls
        ]
        assert len(ours.rounds) == len(theirs.rounds)
        assert ours.confidence == pytest.approx(theirs.confidence, abs=1e-3)


def test_an_adapter_is_exported_merged(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base")
    adapter = write_adapter(tmp_path / "adapter", base, factors(Q))
    own = export(adapter, tmp_path / "own", precision="fp32")
    theirs = export(adapter, tmp_path / "theirs", precision="fp32", exporter="optimum")
    with OnnxEngine(own, threads=1) as one, OnnxEngine(theirs, threads=1) as other:
        assert np.abs(one.forward(IDS, n_logits=50) - other.forward(IDS, n_logits=50)).max() < 1e-3


def test_weights_that_optimum_puts_beside_the_graph_are_found(
    folders: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_ONNX_EXTERNAL_DATA", "1")  # its own switch for what large models have
    inside = folders()
    out = export(inside.parent / "checkpoint", tmp_path / "m", precision="fp32", exporter="optimum")
    assert sorted(file.name for file in out.iterdir()) == [
        *("model.onnx", "model.onnx_data", "tokenizer.json", "toolace.json"),
    ]
    with OnnxEngine(inside, threads=1) as one, OnnxEngine(out, threads=1) as other:
        assert np.array_equal(one.forward(IDS), other.forward(IDS))


def test_a_precision_that_it_cannot_make_is_bad_usage(folders: Callable[..., Path], tmp_path: Path) -> None:
    args = ["convert", "onnx", str(folders().parent / "checkpoint"), str(tmp_path / "m"), "--exporter", "optimum"]
    refused = CliRunner().invoke(cli, [*args, "--precision", "int4"])
    assert refused.exit_code == 2
    assert "which --exporter optimum can make" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_optimum_cannot_do_is_a_sentence_and_leaves_nothing(
    folders: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['optimum.exporters.onnx'] = None")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    source, there = folders().parent / "checkpoint", tmp_path / "there"
    with pytest.raises(EngineError, match=r"checkpoint: optimum could not export it: its process ended with code 1"):
        convert_onnx(source, there / "m", precision="fp32", name="m", exporter="optimum")
    assert list(there.iterdir()) == []


def test_without_optimum_there_is_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str) -> str:
        raise onnx_optimum.PackageNotFoundError(package)

    monkeypatch.setattr(onnx_optimum, "version", missing)
    with pytest.raises(MissingDependency, match="optimum-onnx is not installed") as raised:
        check_installed()
    assert raised.value.hint.startswith("pip install 'toolace-edge[optimum]'")
