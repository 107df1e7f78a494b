"""Word vectors learn which requests and tools belong together; what is as right as the right tool is no mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolace_edge.errors import InputError
from toolace_edge.meanings import read
from toolace_edge.terms import stem

from .test_cli import failed, run
from .training import line, write_base

pytestmark = pytest.mark.slow

torch = pytest.importorskip("torch")
from toolace_edge.train.meanings import train_meanings  # noqa: E402

SMALL = {"vocabulary": 500, "width": 16, "steps": 60}
# Nobody can know but by learning that these belong together.
KNOWN_AS = {"quaffle": "bludger", "wumpus": "grue", "snark": "boojum", "jabber": "wocky", "frabjous": "callay"}


def described(name: str, does: str) -> dict:
    return {"name": name, "description": does, "parameters": {"type": "object", "properties": {}}}


TOOLS = [described(f"t_{i}", f"Handles every {does}.") for i, does in enumerate(KNOWN_AS.values())]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base") / "base")


def lines(file: Path) -> Path:
    texts = [
        line(f"{before} {word} {behind}", {"name": f"t_{i}", "arguments": {}}, tools=TOOLS)
        for before in ("please", "now", "my") for behind in ("thanks", "again") for i, word in enumerate(KNOWN_AS)
    ]  # fmt: skip
    file.write_text("\n".join([*texts, line("hello", says="Hello.", tools=TOOLS)]) + "\n", "utf-8")
    return file


def test_a_word_of_requests_comes_to_mean_what_its_tool_does(base: Path, tmp_path: Path) -> None:
    data = lines(tmp_path / "lines.jsonl")
    train_meanings([data], base, tmp_path / "m.npz", **SMALL)
    table = read(tmp_path / "m.npz")
    for asked, does in KNOWN_AS.items():
        near = {
            other: float(table.of({stem(asked): 1.0}) @ table.of({stem(other): 1.0})) for other in KNOWN_AS.values()
        }
        assert max(near, key=near.__getitem__) == does
    train_meanings([data], base, tmp_path / "again.npz", **SMALL)
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "m.npz").read_bytes()


def test_a_tool_of_the_right_one_s_name_or_description_is_no_wrong_one(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where all tools are alike in one of these, there is nothing to choose, so nothing to lose."""
    losses = []
    for names in (["same"] * 4, ["a", "b", "c", "d"]):
        tools = [described(name, f"It is {i}." if names[0] == "same" else "One text.") for i, name in enumerate(names)]
        texts = [line(f"word{i}", {"name": one["name"], "arguments": {}}, tools=[one]) for i, one in enumerate(tools)]
        (tmp_path / "l.jsonl").write_text("\n".join(texts) + "\n", "utf-8")
        train_meanings([tmp_path / "l.jsonl"], base, tmp_path / "m.npz", **{**SMALL, "steps": 1})
        losses.append(capsys.readouterr().err.split("loss ")[1].strip())
    assert losses == ["0.000", "0.000"]


def test_the_command_writes_a_table_and_refuses_what_teaches_nothing(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.npz"
    few = ("--vocabulary", "50", "--width", "8", "--steps", "2")
    result = run("train", "meanings", lines(tmp_path / "l.jsonl"), "--base", base, "--out", out, *few)
    assert (result.exit_code, result.stdout) == (0, "")
    assert read(out).of({stem("quaffle"): 1.0}).shape == (8,)
    (tmp_path / "none.jsonl").write_text(line("hello", says="Hello.") + "\n", "utf-8")
    asked = ("train", "meanings", tmp_path / "none.jsonl", "--base", base, "--out", tmp_path / "x.npz")
    assert "No line of the data calls a tool" in failed(run(*asked), 2)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "tokenizer.json").write_text((base / "tokenizer.json").read_text("utf-8"), "utf-8")
    asked = ("train", "meanings", tmp_path / "l.jsonl", "--base", tmp_path / "empty", "--out", tmp_path / "x.npz")
    assert "no embeddings of tokens" in failed(run(*asked), 2)
    assert not (tmp_path / "x.npz").exists()
    (tmp_path / "empty" / "tokenizer.json").unlink()
    assert "has no tokenizer.json" in failed(run(*asked), 2)
    new = tmp_path / "new" / "folder" / "m.npz"
    asked = ("train", "meanings", tmp_path / "l.jsonl", "--base", base, "--out", new, *few)
    assert (run(*asked).exit_code, new.is_file()) == (0, True)


def test_a_base_whose_embeddings_cannot_be_read_is_an_input_error(tmp_path: Path, base: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "tokenizer.json").write_text((base / "tokenizer.json").read_text("utf-8"), "utf-8")
    (other / "model.safetensors").write_bytes(b"not one")
    with pytest.raises(InputError, match="no embeddings"):
        train_meanings([lines(tmp_path / "l.jsonl")], other, tmp_path / "x.npz", **SMALL)
