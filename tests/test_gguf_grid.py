"""Weights of four bits in the finer kinds of GGUF, read back by the gguf library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

gguf = pytest.importorskip("gguf")
pytest.importorskip("llama_cpp")

from gguf import GGMLQuantizationType  # noqa: E402
from gguf.quants import dequantize  # noqa: E402
from safetensors.numpy import load_file, save_file  # noqa: E402

from tests.checkpoints import write_checkpoint  # noqa: E402
from toolace_edge.convert import gguf_quantize  # noqa: E402
from toolace_edge.convert.gguf import convert_gguf  # noqa: E402
from toolace_edge.convert.gguf_grid import _WRITERS, _grid, keep_grid  # noqa: E402
from toolace_edge.convert.gguf_quantize import quantize  # noqa: E402
from toolace_edge.convert.quantize import quantize_blocks  # noqa: E402

SHAPE = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4, "num_key_value_heads": 2}
Matrices = dict[str, NDArray[np.float32]]


def read(file: Path) -> Matrices:
    tensors = gguf.GGUFReader(file).tensors
    return {t.name: dequantize(t.data, t.tensor_type) for t in tensors if len(t.shape) == 2}


def checkpoint(folder: Path, on_grid: bool) -> Path:
    """256 wide, so that K-quants apply. `on_grid`: its matrices are of four bits."""
    source = write_checkpoint(folder, **SHAPE, head_dim=64)
    if on_grid:
        file = source / "model.safetensors"
        save_file(
            {k: quantize_blocks(v, 4).dequantize() if v.ndim == 2 else v for k, v in load_file(file).items()}, file
        )
    return source


def both(source: Path, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """What llama.cpp writes, and what we make of that."""
    ours = quantize(source, tmp_path / "ours.gguf", kind)
    monkeypatch.setattr(gguf_quantize, "keep_grid", lambda *_: None)
    return quantize(source, tmp_path / "theirs.gguf", kind), ours


def errors(file: Path, exact: Matrices) -> dict[str, float]:
    return {name: float(np.square(values - exact[name]).sum()) for name, values in read(file).items()}


@pytest.mark.slow
@pytest.mark.parametrize("stored", ["f32", "bf16"])
@pytest.mark.parametrize(("kind", "least"), [("Q8_0", 30), ("Q6_K", 10), ("Q4_K_M", 4)])
def test_weights_of_four_bits_are_not_rounded_again(
    kind: str, least: float, stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bf16 moves them a little from their grid; the error that is counted is from the grid itself."""
    source = convert_gguf(checkpoint(tmp_path / "hf", True), tmp_path / "f.gguf", kind="f32", name="m")
    exact = read(source)
    if stored == "bf16":
        source = convert_gguf(tmp_path / "hf", tmp_path / "b.gguf", kind="bf16", name="m")
    theirs, ours = both(source, kind, tmp_path, monkeypatch)
    assert theirs.stat().st_size == ours.stat().st_size
    was, now = errors(theirs, exact), errors(ours, exact)
    assert all(now[name] <= was[name] for name in was)
    total = sum(now.values())
    assert total * least < sum(was.values())
    if (kind, stored) == ("Q8_0", "f32"):
        assert total == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Q8_0", "Q6_K", "Q4_K_M"])
def test_other_weights_are_as_llama_cpp_writes_them(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = convert_gguf(checkpoint(tmp_path / "hf", False), tmp_path / "f.gguf", kind="f32", name="m")
    theirs, ours = both(source, kind, tmp_path, monkeypatch)
    assert theirs.read_bytes() == ours.read_bytes()


def test_a_row_with_one_foreign_block_keeps_the_others(tmp_path: Path) -> None:
    """Q8_0 is decided block by block, the K-quants by eight."""
    rng = np.random.default_rng(0)
    values = np.concatenate([grid(rng, 16) / 128, rng.normal(size=(16, 32)).astype(np.float32)]).reshape(1, -1)
    assert _grid(values.reshape(-1, 32))[2].tolist() == [True] * 16 + [False] * 16

    def write(name: str, kind: GGMLQuantizationType) -> Path:
        writer = gguf.GGUFWriter(tmp_path / name, "llama")
        writer.add_block_count(1)
        data = values if kind.name == "F32" else gguf.quants.quantize(values, kind)
        writer.add_tensor("a.weight", data, raw_dtype=None if kind.name == "F32" else kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return tmp_path / name

    source, out = write("f32.gguf", GGMLQuantizationType.F32), write("q8.gguf", GGMLQuantizationType.Q8_0)
    before = read(out)["a.weight"]
    keep_grid(source, out)
    after = read(out)["a.weight"]
    assert (after[:, :512] == values[:, :512]).all()
    assert (before[:, :512] != values[:, :512]).any()
    assert (after[:, 512:] == before[:, 512:]).all()


def grid(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """Steps of n blocks, the largest of each -8."""
    steps = rng.integers(-8, 8, (n, 32)).astype(np.float32)
    steps[:, rng.integers(32)] = -8
    return steps


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.floats(-12, 3), spread=st.floats(0, 1.5))
def test_steps_are_those_that_were(seed: int, size: float, spread: float) -> None:
    """Superblocks of any size, their steps of either sign and one of them nothing: scales are off by little."""
    rng = np.random.default_rng(seed)
    steps = grid(rng, 16).reshape(2, 8, 32)
    step = np.exp2(size - spread * rng.random((2, 8))) * rng.choice([-1, 1], (2, 8))
    step = step.astype(np.float16).astype(np.float32)
    step[0, 3] = 0
    exact = (step[..., None] * steps).reshape(2, -1)
    largest = np.abs(step).max(axis=-1, keepdims=True)
    for kind, tolerance, tries in (("Q6_K", 0.05, 64), ("Q4_K", 0.2, 64), ("Q4_K", 0.2, 512)):
        found = dequantize(_WRITERS[kind](step, steps, tries), GGMLQuantizationType[kind]).reshape(2, -1)
        assert (np.abs(found - exact) <= tolerance * largest).all(), kind
    one = dequantize(_WRITERS["Q8_0"](step.reshape(16, 1), steps.reshape(16, 1, 32), 1), GGMLQuantizationType.Q8_0)
    np.testing.assert_allclose(one.reshape(2, -1), exact, rtol=2e-3, atol=1e-6)
