"""Whatever is wrong with a checkpoint, either conversion ends with a sentence, and leaves nothing behind."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.checkpoints import CONFIG, random_tensors, write_checkpoint, write_safetensors
from tests.test_lora import Q, factors, write_adapter
from tests.tiny import tiny_tokenizer_json
from toolace_edge.convert.aside import made_aside
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
    def damage(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"model.norm.weight": name}}))

    return damage


def truncated(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def integers(folder: Path) -> None:
    write_safetensors(folder / "model.safetensors", random_tensors(CONFIG), "I32")


def adapter_of_another_base(folder: Path) -> None:
    written = {name.replace("layers.0", "layers.9"): value for name, value in factors(Q).items()}
    write_adapter(folder, write_checkpoint(folder.with_name("base")), written)


def sentence_pieces(folder: Path) -> None:
    """As Llama 2's tokenizer: a space goes before every text, and what is no token is bytes."""
    from tokenizers import Tokenizer, models, normalizers

    bytes_too = {f"<0x{i:02X}>": i for i in range(256)}
    vocabulary = {**bytes_too, "<unk>": 256, "▁": 257, "h": 258, "i": 259, "hi": 260, "▁hi": 261}
    merges = [("h", "i"), ("▁", "hi")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    assert tokenizer.encode("hi hi").ids == [261, 261]
    tokenizer.save(str(folder / "tokenizer.json"))


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
    "sentence pieces": (sentence_pieces, "SentencePiece tokenizer"),
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


@pytest.fixture
def unwritable() -> Iterator[Path]:
    """A folder that nobody may write into, and we are nobody. `source` in it is a checkpoint."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_checkpoint(folder / "source")
        folder.chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(user)
            folder.chmod(0o755)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="permissions are another thing there")
def test_a_folder_that_may_not_be_written_into_is_a_sentence(convert: Any, unwritable: Path) -> None:
    for out in (unwritable / "m", unwritable / "new" / "m"):
        with pytest.raises(ToolaceEdgeError, match=r"m cannot be written: Permission denied\.(\n|$)"):
            convert(unwritable / "source", out)
    assert [path.name for path in unwritable.iterdir()] == ["source"]


KILLED = """
import os, signal, sys
from pathlib import Path
from toolace_edge.convert.{kind} import convert_{kind}

def tick(done, total):
    if done == 5:
        os.kill(os.getpid(), signal.SIGKILL)

convert_{kind}(Path(sys.argv[1]), Path(sys.argv[2]), name="m", on_progress=tick)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no such signal")
@pytest.mark.parametrize("kind", ["onnx", "gguf"])
def test_what_a_killed_conversion_left_is_hidden_and_goes_with_the_next(kind: str, tmp_path: Path) -> None:
    pytest.importorskip(kind)
    source, out = write_checkpoint(tmp_path / "source"), tmp_path / "there" / "m"
    script = KILLED.format(kind=kind)
    killed = subprocess.run([sys.executable, "-c", script, source, out], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = list(out.parent.iterdir())
    assert len(left) == 1
    assert left[0].name.startswith(".m.")
    (out.parent / ".m.mine").mkdir()  # nobody knows whose that is
    with made_aside(out) as ours, made_aside(out) as others:
        assert {path.name for path in out.parent.iterdir()} == {".m.mine", ours.name, others.name}
    if kind == "gguf":
        pytest.importorskip("llama_cpp")
    module = importlib.import_module(f"toolace_edge.convert.{kind}")
    getattr(module, f"convert_{kind}")(source, out, name="m")
    assert {path.name for path in out.parent.iterdir()} == {".m.mine", "m"}


def test_a_full_disk_is_a_sentence_and_leaves_nothing(convert: Any, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")  # the limit of a file's size stands in for the disk's
    source, there = write_checkpoint(tmp_path / "source"), tmp_path / "there"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(ToolaceEdgeError, match=r"out cannot be written: .+\.(\n|$)"):
            convert(source, there / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(there.iterdir()) == []
