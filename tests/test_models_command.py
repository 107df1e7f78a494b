"""`toolace-edge models`: what it prints for people and for programs, and what it refuses."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from toolace_edge.cli import cli
from toolace_edge.store import Store

from .test_gguf_header import gguf, text, u32
from .test_store import MODEL


def run(*args: str | Path, stdin: str = "") -> Result:
    result = CliRunner().invoke(cli, ["models", *map(str, args)], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def data(*args: str | Path) -> Any:
    result = run(*args, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOOLACE_EDGE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "tiny.gguf").write_bytes(MODEL)
    return tmp_path / "tiny.gguf"


def test_without_a_command_the_models_are_listed(file: Path) -> None:
    run("add", file)
    assert run().stdout == run("ls").stdout
    assert run("--json").stdout == run("ls", "--json").stdout
    first, *_, last = run().stdout.splitlines()
    assert first.startswith("nano             onnx ")
    assert first.endswith("(default)")
    assert last.split()[:2] == ["tiny", "gguf"]


def test_the_list_keeps_its_keys_and_says_where_each_is_from(file: Path) -> None:
    run("add", file)
    listed = data("ls")
    assert (listed["default"], listed["damaged"]) == ("nano", [])
    origins = {one["name"]: one["origin"] for one in listed["models"]}
    assert origins == {"nano": "bundled", "nano-gguf": "bundled", "tiny": "store"}
    assert all({"name", "kind", "size_bytes", "path"} <= one.keys() for one in listed["models"])


def test_json_before_a_command_is_bad_usage() -> None:
    assert run("--json", "ls").exit_code == 2


def test_show_prints_the_facts(file: Path) -> None:
    run("add", file, "--licence", "own")
    facts = data("show", "tiny")
    wanted = {"architecture": "llama", "context": 2048, "quantization": "Q4_K_M", "format": "hermes", "licence": "own"}
    assert {key: facts[key] for key in wanted} == wanted
    assert (facts["size_bytes"], facts["source"], facts["calibration"]) == (len(MODEL), str(file), None)
    assert [one["sha256"] for one in facts["files"]] == [hashlib.sha256(MODEL).hexdigest()]
    printed = run("show", "tiny").stdout
    assert "quantization:  Q4_K_M\n" in printed
    assert "calibration:   not known\n" in printed


def test_show_takes_bundled_models_and_paths(file: Path) -> None:
    assert data("show", "nano")["context"] == 2048
    assert data("show", file)["licence"] == "mit"


def test_show_does_not_stumble_over_a_strange_calibration(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(gguf(text("toolace.calibration") + u32(8) + text("[1]")))
    assert data("show", tmp_path / "x.gguf")["calibration"] == [1]
    (tmp_path / "x.gguf").write_bytes(gguf(text("toolace.calibration") + u32(8) + text("{")))
    result = run("show", tmp_path / "x.gguf")
    assert (result.exit_code, result.stdout) == (1, "")


def test_add_says_how_to_run_it(file: Path) -> None:
    assert "--model tiny\n" in run("add", file).stdout
    assert data("add", file, "--name", "linked", "--link")["path"] == str(file)
    for args in ((file,), (file, "--name", "nano"), (file, "--name", "../x"), ("nothing.gguf",)):
        result = run("add", *args)
        assert (result.exit_code, result.stdout) == (2, "")


def test_verify_names_the_damaged_ones_and_fails(file: Path) -> None:
    path = Path(data("add", file)["path"])
    assert run("verify", "tiny").stdout == "ok   tiny\n"
    path.write_bytes(MODEL + b"x")
    (Store.default().root / "empty").mkdir()
    result = run("verify", "--json")
    results = {one["name"]: one["ok"] for one in json.loads(result.stdout)["models"]}
    assert (result.exit_code, results) == (1, {"nano": True, "nano-gguf": True, "empty": False, "tiny": False})
    assert "FAIL tiny  " in run("verify", "tiny").stdout


def test_rm_asks_unless_told_not_to(file: Path) -> None:
    run("add", file)
    assert run("rm", "tiny", stdin="n\n").exit_code == 1
    assert Store.default().names() == ["tiny"]
    assert run("rm", "tiny", stdin="y\n").exit_code == 0
    run("add", file)
    assert data("rm", "tiny", "--yes") == {"removed": "tiny"}
    assert Store.default().names() == []


@pytest.mark.parametrize("name", ["tiny", "nano", ".adding-x"])
def test_rm_takes_only_what_is_in_the_store(name: str) -> None:
    result = run("rm", name, "--yes")
    assert (result.exit_code, result.stdout) == (2, "")


def test_a_damaged_store_is_listed_with_what_is_wrong(file: Path) -> None:
    run("add", file)
    (Store.default().root / "tiny/manifest.json").write_text("{")
    assert "tiny             damaged  The model tiny in the store is damaged" in run().stdout
    (damaged,) = data("ls")["damaged"]
    assert damaged["name"] == "tiny"
    assert run("rm", "tiny", "--yes").exit_code == 0


def test_the_catalogue_is_listed_without_a_server() -> None:
    listed = {one["repo"]: one for one in data("ls", "--remote")["models"]}
    assert listed["Team-ACE/ToolACE-8B"]["format"] == "toolace"
    assert "Team-ACE/ToolACE-2.5-Llama-3.1-8B" in run("ls", "--remote").stdout
