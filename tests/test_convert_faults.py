"""Whatever is wrong with a checkpoint, either conversion ends with a sentence, and leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.checkpoints import CONFIG, random_tensors, write_checkpoint, write_safetensors
from tests.test_lora import Q, factors, write_adapter
from tests.tiny import tiny_tokenizer_json
from toolace_edge.errors import ToolaceEdgeError

Damage = Callable[[Path], object]
MANY_TAGS = tuple(f"<{i}>" for i in range(60))


def tensors(**changes: Any) -> Damage:
    """Other weights; None takes one away."""
    written = {**random_tensors(CONFIG), **{name.replace("__", "."): value for name, value in changes.items()}}
    kept = {name: value for name, value in written.items() if value is not None}
    return lambda folder: write_safetensors(folder / "model.safetensors", kept)


def config(**changes: Any) -> Damage:
    return lambda folder: (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))


def index(name: str) -> Damage:
    text = json.dumps({"weight_map": {"model.norm.weight": name}})
    return lambda folder: (folder / "model.safetensors.index.json").write_text(text)


def truncated(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def integers(folder: Path) -> None:
    write_safetensors(folder / "model.safetensors", random_tensors(CONFIG), "I32")


def adapter_of_another_base(folder: Path) -> None:
    written = {name.replace("layers.0", "layers.9"): value for name, value in factors(Q).items()}
    write_adapter(folder, write_checkpoint(folder.with_name("base")), written)


def empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


FAULTS: dict[str, tuple[Damage, str]] = {
    "truncated shard": (truncated, "does not lie inside the file"),
    "missing tensor": (tensors(model__norm__weight=None), "no tensor 'model.norm.weight'"),
    "wrong dtype": (integers, "stored as I32"),
    "unknown architecture": (config(model_type="mamba"), "model_type is 'mamba'"),
    "pickle only": (lambda folder: (folder / "model.safetensors").rename(folder / "model.bin"), "pickle"),
    "vocabulary mismatch": (
        lambda folder: (folder / "tokenizer.json").write_text(tiny_tokenizer_json(tags=MANY_TAGS), "utf-8"),
        "has no row",
    ),
    "path traversal": (index("../secret.safetensors"), "not the name of a safetensors file"),
    "absolute path": (index("/etc/passwd.safetensors"), "not the name of a safetensors file"),
    "adapter of another base": (adapter_of_another_base, "of another model"),
    "empty folder": (empty, "config.json: it cannot be read"),
    "not finite, in the last tensor": (
        tensors(model__norm__weight=np.full(64, np.nan, np.float32)),
        "not finite",
    ),
    "mixture of experts": (config(num_local_experts=8), "mixture of experts"),
}


@pytest.fixture(params=["onnx", "gguf"])
def convert(request: pytest.FixtureRequest) -> Callable[[Path, Path], object]:
    pytest.importorskip(request.param)
    if request.param == "onnx":
        from toolace_edge.convert.onnx import convert_onnx

        return lambda source, out: convert_onnx(source, out, precision="fp32", name="m")
    pytest.importorskip("llama_cpp")
    from toolace_edge.convert.gguf import convert_gguf

    return lambda source, out: convert_gguf(source, out, kind="f32", name="m")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_a_sentence_and_leaves_nothing(fault: str, convert: Any, tmp_path: Path) -> None:
    damage, says = FAULTS[fault]
    source = write_checkpoint(tmp_path / "source")
    damage(source)
    out = tmp_path / "models" / "m"
    out.parent.mkdir()
    with pytest.raises(ToolaceEdgeError, match=says) as raised:
        convert(source, out)
    assert str(tmp_path) in str(raised.value)
    assert list(out.parent.iterdir()) == []


def test_without_a_fault_there_is_a_model(convert: Any, tmp_path: Path) -> None:
    convert(write_checkpoint(tmp_path / "source"), tmp_path / "models" / "m")
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["m"]


def test_a_full_disk_is_a_sentence_and_leaves_nothing(convert: Any, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")  # the limit of a file's size stands in for the disk's
    source, there = write_checkpoint(tmp_path / "source"), tmp_path / "there"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(ToolaceEdgeError, match=r"out cannot be written: .+\.$"):
            convert(source, there / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(there.iterdir()) == []
