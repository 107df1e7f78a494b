"""The prompt's cache on disk: read back by a new engine, refused where it is not this model's."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.tiny import tiny_tokenizer_json
from toolace_edge import formats
from toolace_edge.cli import cli
from toolace_edge.engines.scripted import ScriptedEngine
from toolace_edge.errors import InputError, ModelError
from toolace_edge.messages import Tool
from toolace_edge.session import Session

REPLY = '<|call|>{"name":"wave","arguments":{}}<|end|>'  # where there is another tool, the grammar writes its name


def tool(name: str) -> Tool:
    return Tool(name, f"Do {name}.", {"type": "object", "properties": {}, "required": []})


def new_engine() -> ScriptedEngine:
    return ScriptedEngine.replies(tiny_tokenizer_json(), [REPLY])


def session(path: Path, name: str = "wave") -> Session:
    """As of a program that has just begun."""
    return Session(new_engine(), formats.get("compact"), [tool(name)], rounds=0, prompt_cache=path)


def test_a_new_start_reads_the_tools_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "cache"
    first = session(file).complete("hello there")
    assert file.exists()
    written = file.stat().st_mtime_ns
    second = session(file).complete("something else")
    assert second.calls == first.calls
    assert second.usage.cached_tokens > 0.5 * second.usage.prompt_tokens
    assert file.stat().st_mtime_ns == written


def test_the_file_holds_the_tools_and_nothing_that_was_said(tmp_path: Path) -> None:
    file = tmp_path / "cache"
    session(file).complete("my secret is xyzzy")
    engine = new_engine()
    engine.load(file)
    text = engine.decode(list(engine.tokens)).decode()
    assert "wave" in text
    assert "xyzzy" not in text


def test_other_tools_replace_what_it_holds(tmp_path: Path) -> None:
    file = tmp_path / "cache"
    session(file).complete("hello")
    other = session(file, "fetch_and_carry").complete("hello")
    assert {call.name for call in other.calls} == {"fetch_and_carry"}
    again = session(file, "fetch_and_carry").complete("hello")
    assert again.usage.cached_tokens > other.usage.prompt_tokens * 0.5


def test_a_strangers_file_is_neither_used_nor_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "thesis.txt"
    file.write_text("years of work")
    with pytest.raises(ModelError, match=r"thesis\.txt"):
        session(file).complete("hello")
    assert file.read_text() == "years of work"


def test_a_file_that_cannot_be_written_is_said_before_the_answer(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        session(tmp_path / "no" / "such" / "folder").complete("hello")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["nano", "nano-gguf"])
def test_run_gives_the_same_answer_with_and_without(model: str, tmp_path: Path) -> None:
    if model == "nano-gguf":
        pytest.importorskip("llama_cpp")
    request = ["run", "--model", model, "set a timer for 10 minutes"]
    plain = CliRunner().invoke(cli, request)
    file = tmp_path / "tools.cache"
    for _ in range(2):
        cached = CliRunner().invoke(cli, [*request, "--prompt-cache", str(file)])
        assert (cached.exit_code, cached.stdout) == (0, plain.stdout)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    broken = CliRunner().invoke(cli, [*request, "--prompt-cache", str(file)])
    assert broken.exit_code == 1
    assert "damaged" in broken.stderr


def test_what_was_read_for_the_file_counts_as_read(tmp_path: Path) -> None:
    without = Session(new_engine(), formats.get("compact"), [tool("wave")], rounds=0).complete("hello there").usage
    first = session(tmp_path / "cache").complete("hello there").usage
    assert (first.cached_tokens, first.prompt_tokens) == (without.cached_tokens, without.prompt_tokens)
    assert first.forward_passes == without.forward_passes + 1
