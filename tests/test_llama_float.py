"""Quantized weights as float16: nothing is rounded but they, and nothing is left behind."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("llama_cpp")

from toolace_edge.engines import llama_cpp, open_engine
from toolace_edge.engines.gguf_header import read_header
from toolace_edge.engines.llama_cpp import LlamaCppEngine
from toolace_edge.errors import ModelError

pytestmark = pytest.mark.slow

MODELS = Path(str(files("toolace_edge.models")))
NANO = MODELS / "nano.gguf"
TEXT = "Set a timer of ten minutes for the tea, and tell me what 17 times 23 is. What is the weather in Rome? "


@pytest.fixture(scope="module")
def oracle() -> NDArray[np.float32]:
    """The same weights in onnxruntime, which multiplies them with float32."""
    with open_engine(MODELS / "nano", threads=1) as engine:
        return probabilities(engine.forward(ids := engine.encode(TEXT), len(ids)))


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: NDArray[np.float32] = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def shares(**options: bool) -> NDArray[np.float32]:
    with LlamaCppEngine(NANO, threads=1, **options) as engine:  # type: ignore[arg-type]
        return probabilities(engine.forward(ids := engine.encode(TEXT), len(ids)))


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A system without files in memory."""

    def refused(_name: str) -> int:
        raise OSError

    if hasattr(os, "memfd_create"):
        monkeypatch.setattr(os, "memfd_create", refused)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    assert not list(tmp_path.iterdir())


def test_a_small_model_answers_as_in_float32(oracle: NDArray[np.float32]) -> None:
    by_default, rounded = (np.abs(s - oracle).sum(axis=-1).mean() for s in (shares(), shares(float16=False)))
    assert by_default < 0.005
    assert rounded > 2 * by_default  # llama.cpp's own rounding is what is spared


def test_without_files_in_memory_a_temporary_one_serves(temporary: Path, oracle: NDArray[np.float32]) -> None:
    assert np.abs(shares() - oracle).sum(axis=-1).mean() < 0.005
    assert not list(temporary.iterdir())


def test_what_cannot_be_written_is_an_error_and_leaves_nothing(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile.TemporaryDirectory, "__enter__", lambda self: f"{self.name}/there/is/none")
    with pytest.raises(ModelError, match=r"nano\.gguf: llama\.cpp cannot write its weights as float16"):
        LlamaCppEngine(NANO)


def test_a_large_model_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    count = read_header(NANO).n_weights
    assert count == 53_403_840
    with LlamaCppEngine(NANO, threads=1) as exact:
        monkeypatch.setattr(llama_cpp, "EXACT_WEIGHTS", count - 1)
        with LlamaCppEngine(NANO, threads=1) as small:
            assert exact.fingerprint == f"{small.fingerprint} float16"
        with LlamaCppEngine(NANO, threads=1, float16=True) as asked:
            assert asked.fingerprint.endswith(" float16")


def test_what_is_not_quantized_is_only_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.checkpoints import write_checkpoint
    from toolace_edge.convert.gguf import convert_gguf

    file = convert_gguf(write_checkpoint(tmp_path / "hf"), tmp_path / "small.gguf", kind="f32", name="small")
    monkeypatch.setattr(llama_cpp, "as_float16", None)
    with LlamaCppEngine(file, threads=1, float16=True) as engine:
        assert "float16" not in engine.fingerprint
