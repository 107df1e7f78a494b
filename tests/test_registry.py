"""A model's name or path becomes its files, and files that are not what they should be are refused with a sentence."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from toolace_edge import registry
from toolace_edge.agent import Agent
from toolace_edge.errors import InputError, ModelError, ToolError
from toolace_edge.messages import Tool
from toolace_edge.session import Session

from .test_evaluate import scripted


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A models folder with `nano`, `zeta` and `nano-gguf`, and the registry looking there."""
    for name in ("zeta", "nano"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.onnx").write_bytes(b"weights of " + name.encode())
        (folder / "tokenizer.json").write_text("{}")
        hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
        (folder / "toolace.json").write_text(json.dumps({"name": name, "format": "compact", "sha256": hashes}))
    (tmp_path / "nano.gguf").write_bytes(b"GGUF")
    (tmp_path / "nano.gguf.sha256").write_text(hashlib.sha256(b"GGUF").hexdigest() + "  nano.gguf\n")
    monkeypatch.setattr(registry, "files", lambda package: tmp_path)
    return tmp_path


def test_names_follow_from_the_files_the_default_first(models: Path) -> None:
    assert {name: entry.kind for name, entry in registry.bundled().items()} == {
        "nano": "onnx",
        "nano-gguf": "gguf",
        "zeta": "onnx",
    }
    assert next(iter(registry.bundled())) == registry.DEFAULT


def test_without_a_name_the_default_is_found(models: Path) -> None:
    assert registry.find().path == models / "nano"


@pytest.mark.parametrize("path", ["zeta", "zeta/model.onnx", "nano.gguf"])
def test_a_path_is_as_good_as_a_name(models: Path, path: str) -> None:
    entry = registry.find(models / path)
    assert entry.path == (models / "zeta" if "zeta" in path else models / path)
    registry.verify(entry)


def test_an_unknown_name_lists_the_known_ones(models: Path) -> None:
    with pytest.raises(ModelError, match="No model is called 'nono'") as caught:
        registry.find("nono")
    assert "nano, nano-gguf, zeta" in caught.value.hint


def test_every_bundled_model_passes_its_hashes(models: Path) -> None:
    for entry in registry.bundled().values():
        registry.verify(entry)


@pytest.mark.parametrize(("name", "file"), [("nano", "nano/model.onnx"), ("nano-gguf", "nano.gguf")])
def test_a_changed_file_is_named(models: Path, name: str, file: str) -> None:
    (models / file).write_bytes(b"something else")
    with pytest.raises(ModelError, match="damaged or was changed") as caught:
        registry.verify(registry.find(name))
    assert str(models / file) in str(caught.value)


def test_a_missing_file_is_named(models: Path) -> None:
    (models / "nano/tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"tokenizer\.json is missing"):
        registry.verify(registry.find("nano"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "must hold a JSON object"),
        ("{}", "`sha256` must map"),
        ('{"sha256": {"../x": ""}}', "files in this folder"),
    ],
)
def test_a_malformed_facts_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "toolace.json").write_text(content)
    with pytest.raises(ModelError, match=message):
        registry.find(tmp_path)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no toolace\.json"):
        registry.find(tmp_path)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match=r"neither a \.gguf file"):
        registry.find(tmp_path / "model.bin")


@pytest.mark.slow
def test_the_bundled_models_are_whole() -> None:
    entries = registry.bundled()
    assert registry.DEFAULT in entries
    for entry in entries.values():
        registry.verify(entry)
        assert entry.hashes


@pytest.mark.parametrize("content", ["", "\n"])
def test_an_empty_hash_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    (tmp_path / "x.gguf.sha256").write_text(content)
    with pytest.raises(ModelError, match="is empty"):
        registry.find(tmp_path / "x.gguf")


# --- what may stand in a model's place ---------------------------------------------------------------------------


def add_expense(shop: str, amount: float) -> str:
    """Add an expense."""
    return f"{amount} at {shop}"


CALL = '<|call|>{"name":"add_expense","arguments":{"shop":"Lidl","amount":12.5}}<|end|>'


def test_an_open_model_is_as_good_as_a_name_and_stays_open() -> None:
    model = scripted(CALL)
    for session in (registry.load(model, [add_expense]), model.session(add_expense)):
        assert isinstance(session, Session)
        assert session.complete("12.50 at Lidl").calls[0].arguments == {"shop": "Lidl", "amount": 12.5}
    with pytest.raises(InputError, match="rounds"):
        registry.load(model, rounds=-1)
    assert Agent(model, add_expense, rounds=0).complete("12.50 at Lidl").calls


@pytest.mark.parametrize(
    ("given", "words", "hint"),
    [
        ([add_expense], "not list", "tools="),
        (add_expense, "not function", "tools="),
        ({"name": "f"}, "not dict", "tools="),
        (Tool("f"), "not Tool", "tools="),
        (7, "A model is a name, a path or an open Model, not int", "bundled"),
        (b"nano", "not bytes", "bundled"),
    ],
)
def test_what_is_no_model_is_refused_and_tools_are_sent_to_their_place(given: Any, words: str, hint: str) -> None:
    for take in (registry.load, registry.open_model, Agent):
        with pytest.raises(InputError, match=words) as caught:
            take(given)
        assert hint in caught.value.hint
    with pytest.raises(InputError, match="Session is made of an engine and a format") as refused:
        Session(given, None, ())  # type: ignore[arg-type]
    assert "load(model, tools)" in refused.value.hint


def test_an_open_model_is_not_opened_again() -> None:
    with pytest.raises(InputError, match="scripted is open already"):
        registry.open_model(scripted(CALL))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["n" * 5000, "a\0b"])
def test_a_name_that_no_file_can_have_is_only_unknown(models: Path, name: str) -> None:
    with pytest.raises(ModelError, match="No model is called") as caught:
        registry.find(name)
    assert len(str(caught.value)) < 300


def test_tools_are_read_before_a_model_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "open_model", lambda *args: pytest.fail("opened"))
    with pytest.raises(ToolError, match="does not exist"):
        registry.load(tools="no-such-file.json")
