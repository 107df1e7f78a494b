"""Where a conversion may put its result: never in the place of what it is made from, or of what somebody else wrote."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.checkpoints import write_checkpoint
from toolace_edge.cli import cli
from toolace_edge.convert import command, stamp
from toolace_edge.model_facts import read_model_facts
from toolace_edge.registry import find, verify
from toolace_edge.store import sha256_of

pytest.importorskip("onnx")
pytest.importorskip("gguf")


def convert(*args: str | Path) -> Result:
    result = CliRunner().invoke(cli, ["convert", *map(str, args), "--no-verify"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def refused(says: str, *args: str | Path) -> None:
    result = convert(*args)
    assert result.exit_code == 2, result.output
    assert says in " ".join(result.stderr.split())


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoint")


def model_around(checkpoint: Path, folder: Path) -> Path:
    """A model folder of ours, with the checkpoint that it is made from inside."""
    assert convert("onnx", checkpoint, folder).exit_code == 0
    checkpoint.rename(folder / "checkpoint")
    return folder / "checkpoint"


def test_a_checkpoint_inside_the_old_model_is_kept(checkpoint: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    source = model_around(checkpoint, model)
    refused("which it is made from", "onnx", source, model)
    refused("which it is made from", "onnx", source, f"{source}/../../model/")
    assert "model.safetensors" in names(source)


def test_a_checkpoint_that_is_a_model_folder_too_is_kept(checkpoint: Path, tmp_path: Path) -> None:
    assert convert("onnx", checkpoint, tmp_path / "model").exit_code == 0
    for file in (tmp_path / "model").iterdir():
        file.replace(checkpoint / file.name)
    (tmp_path / "link").symlink_to(checkpoint)
    refused("which it is made from", "onnx", checkpoint, checkpoint)
    refused("which it is made from", "onnx", checkpoint, tmp_path / "link")
    assert "model.safetensors" in names(checkpoint)


def test_a_base_inside_the_old_model_is_kept(checkpoint: Path, tmp_path: Path) -> None:
    from tests.test_lora import Q, factors, write_adapter

    model = tmp_path / "model"
    base = model_around(checkpoint, model)
    write_adapter(tmp_path / "adapter", base, factors(Q))
    refused("which it is made from", "onnx", tmp_path / "adapter", model, "--base", base)
    refused("holds checkpoint", "onnx", tmp_path / "adapter", model)  # adapter_config.json names it
    assert "model.safetensors" in names(base)


def test_a_card_stays_and_other_files_are_not_lost(checkpoint: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    assert convert("onnx", checkpoint, model).exit_code == 0
    (model / "README.md").write_text("by hand")
    assert convert("onnx", checkpoint, model, "--precision", "int4").exit_code == 0
    assert (model / "README.md").read_text() == "by hand"
    assert read_model_facts(model, "onnx").quantization == "int4"
    (model / "notes.txt").write_text("mine")
    refused("holds notes.txt", "onnx", checkpoint, model)
    assert (model / "notes.txt").exists()


@pytest.mark.parametrize("out", [".", "./", ".."])
def test_a_model_folder_needs_a_name(
    out: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "there" / "model"
    assert convert("onnx", checkpoint, model).exit_code == 0
    monkeypatch.chdir(model)
    refused("is no name for a model folder", "onnx", checkpoint, out)
    assert names(tmp_path / "there") == ["model"]


@pytest.fixture
def whole(checkpoint: Path, tmp_path: Path) -> Path:
    pytest.importorskip("llama_cpp")
    file = tmp_path / "whole.gguf"
    assert convert("gguf", checkpoint, file, "--kind", "f16").exit_code == 0
    return file


def test_a_gguf_is_not_made_in_its_own_place(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "link.gguf").symlink_to(whole)
    for out in (whole, tmp_path / "link.gguf", f"{tmp_path}/checkpoint/../whole.gguf"):
        refused("take the place of what it is made from", "gguf", whole, out, "--kind", "Q8_0")
    folder = tmp_path / "folder"
    folder.mkdir()
    source = folder / "whole-116K-Q8_0.gguf"  # the name that it would be given
    whole.rename(source)
    refused("take the place of what it is made from", "gguf", source, folder, "--kind", "Q8_0", "--name", "whole-116K")
    assert read_model_facts(source, "gguf").quantization == "F16"
    assert names(folder) == [source.name]


@pytest.mark.parametrize("name", ["nano", "nano.GGUF", "nano.onnx"])
def test_a_file_that_no_engine_opens_is_refused_at_once(name: str, checkpoint: Path, tmp_path: Path) -> None:
    refused(f"Write {tmp_path / 'models' / name}.gguf", "gguf", checkpoint, tmp_path / "models" / name)
    assert names(tmp_path) == ["checkpoint"]


@pytest.mark.parametrize("name", ["Org/Model", "/nowhere/deep/model", "..", "a" * 40])
def test_a_name_is_no_path(name: str, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert convert("gguf", checkpoint, out, "--kind", "f16", "--name", name).exit_code == 0
    assert len(names(out)) == 1
    assert names(tmp_path) == ["checkpoint", "out"]


def test_what_is_printed_runs_what_was_made(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is known counts before a path, so the path must look like one."""
    monkeypatch.chdir(tmp_path)
    done = convert("onnx", checkpoint, "nano")
    assert f"--model .{os.sep}nano ..." in done.stdout
    for args in (("compare", checkpoint, "nano"), ("compare", "nano", checkpoint), ("calibrate", "nano", "data.jsonl")):
        result = CliRunner().invoke(cli, ["convert", *map(str, args)])
        assert result.exit_code == 2, result.output
        assert f"Write .{os.sep}nano for what is here" in " ".join(result.stderr.split())


def test_a_reader_that_is_gone_costs_no_conversion(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_args: object, **_options: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(command, "echo", gone)
    for args in (("onnx", tmp_path / "m"), ("gguf", tmp_path / "m.gguf", "--kind", "f16")):
        result = CliRunner().invoke(cli, ["convert", args[0], str(checkpoint), *map(str, args[1:]), "--no-verify"])
        assert "Make room" not in result.output
        assert Path(args[1]).exists()


def test_an_interrupt_of_hashing_leaves_the_older_file_and_its_hash(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_file: Path) -> str:
        raise KeyboardInterrupt

    out, beside = tmp_path / "m.gguf", tmp_path / "m.gguf.sha256"
    assert convert("gguf", checkpoint, out, "--kind", "f16").exit_code == 0
    beside.write_text(f"{sha256_of(out)}  m.gguf\n")
    monkeypatch.setattr(stamp, "sha256_of", interrupted)
    assert convert("gguf", checkpoint, out, "--kind", "f32").exit_code == 130
    verify(find(out))
    assert read_model_facts(out, "gguf").quantization == "F16"
    monkeypatch.undo()
    assert convert("gguf", checkpoint, out, "--kind", "f32").exit_code == 0
    verify(find(out))
    assert read_model_facts(out, "gguf").quantization == "F32"


def test_kinds_by_tensor_are_held_to_the_names_before_any_work(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data.jsonl").write_text("[]\n")  # read only when importance is measured
    args = ("--kind", "Q4_0", "--imatrix", tmp_path / "data.jsonl", "--tensor-type", "ffn_dwn=Q8_0")
    refused("No matrix of this model has 'ffn_dwn' in its name", "gguf", checkpoint, tmp_path / "m.gguf", *args)


def test_rows_without_whole_blocks_are_said(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "narrow", hidden_size=72, intermediate_size=96)
    for precision, said in (("int8", True), ("int4", True), ("fp32", False)):
        done = convert("onnx", source, tmp_path / precision, "--precision", precision)
        assert done.exit_code == 0
        assert ("stored otherwise: 11 with rows of 72 as fp32." in done.stderr) is said


def test_a_card_in_another_encoding_is_read_as_far_as_it_goes(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "README.md").write_bytes("---\nlicense: mit\n---\nvoilà".encode("latin-1"))
    assert convert("gguf", checkpoint, tmp_path / "m.gguf", "--kind", "f16").exit_code == 0
    assert read_model_facts(tmp_path / "m.gguf", "gguf").licence == "mit"
