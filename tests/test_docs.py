"""What the documents say is run or compared: the help page, the README's Python, the map of the files."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.cli_page import help_texts, page
from toolace_edge import registry
from toolace_edge.cli import cli

from .test_evaluate import scripted

ROOT = Path(__file__).parent.parent


def test_the_help_page_is_the_commands_own_help() -> None:
    assert (ROOT / "docs/cli.md").read_text("utf-8") == page(), "run `make docs`"


@pytest.mark.parametrize(("path", "text"), list(help_texts()))
def test_every_help_fits_a_screen(path: str, text: str) -> None:
    lines = text.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(("path", "text"), list(help_texts()))
def test_every_help_shows_an_example(path: str, text: str) -> None:
    assert "Example" in text
    assert path in text.split("Example", 1)[1]


def test_the_map_names_every_file_of_the_runtime() -> None:
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    files = {file.name for file in (ROOT / "toolace_edge").glob("*.py")} - {"__init__.py", "__main__.py"}
    folders = {f"{folder.name}/" for folder in (ROOT / "toolace_edge").iterdir() if (folder / "__init__.py").exists()}
    assert {name for name in files | folders if f"`{name}`" not in text} == set()


def test_each_file_imports_only_from_those_above_it_in_the_map() -> None:
    table = (ROOT / "docs/architecture.md").read_text("utf-8").split("## A request, top to bottom")[1].split("\n## ")[0]
    rows = [re.findall(r"`(\w+)(?:\.py|/)`", line.split("|")[1]) for line in table.splitlines() if line[:3] == "| `"]
    rank = {name: i for i, row in enumerate(rows) for name in row}
    for file in (ROOT / "toolace_edge").rglob("*.py"):
        module = file.relative_to(ROOT / "toolace_edge").parts[0].removesuffix(".py")
        imported = re.findall(r"^\s*(?:from|import) toolace_edge\.(\w+)", file.read_text("utf-8"), re.M)
        if module in rank:
            assert {name for name in imported if rank[name] > rank[module]} == set(), file


def test_links_in_the_documents_lead_somewhere() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text("utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def readme() -> str:
    return (ROOT / "README.md").read_text("utf-8")


@pytest.mark.slow
def test_the_first_command_of_the_readme_prints_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    found = re.search(r"toolace-edge (run .+)\n```\s+prints `([^`]+)`", readme())
    assert found is not None
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(cli, shlex.split(found[1]))
    assert (result.output, result.exit_code) == (f"{found[2]}\n", 0)


def python_of(document: str) -> list[str]:
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / document).read_text("utf-8"), re.M | re.S)
    assert blocks
    return blocks


def run_python_of(document: str, *replaced: str) -> None:
    """All of a document's Python, top to bottom, with one piece of it replaced."""
    text = "\n".join(python_of(document))
    assert not replaced or replaced[0] in text
    exec(compile(text.replace(*replaced) if replaced else text, document, "exec"), {"__name__": "document"})


def test_the_readme_begins_with_ten_lines_of_python() -> None:
    (block,) = python_of("README.md")
    assert len([line for line in block.splitlines() if line.strip()]) <= 10


TEN_MINUTES, ELSE = "set a timer for 10 minutes", "what is the capital of France?"
TIMER = '<|call|>{"name":"set_timer","arguments":{"minutes":10}}<|end|>'


@pytest.mark.parametrize(("request_", "reply"), [(TEN_MINUTES, TIMER), (ELSE, "<|text|><|end|>")])
@pytest.mark.parametrize("bundled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_python_of_the_readme_prints_what_it_says(
    request_: str, reply: str, bundled: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = re.search(r"^prints `(set_timer\(minutes=.+?)`;\sasked\s.+?,\sit\sprints\s`(.+?)`", readme(), re.M | re.S)
    assert said is not None
    if not bundled:
        monkeypatch.setattr(registry, "open_model", lambda *_, **__: scripted(reply))
    run_python_of("README.md", TEN_MINUTES, request_)
    assert capsys.readouterr().out == said[1 if request_ == TEN_MINUTES else 2] + "\n"


def test_the_class_that_asks_in_a_window_is_that_of_the_example() -> None:
    (block,) = (block for block in python_of("docs/embedding.md") if "class Approval" in block)
    assert block[block.index("class Approval") :] in (ROOT / "examples/tk_app.py").read_text("utf-8")


@pytest.mark.slow
def test_the_python_of_embedding_runs(capsys: pytest.CaptureFixture[str]) -> None:
    run_python_of("docs/embedding.md")
    assert "set_thermostat" in capsys.readouterr().out


@pytest.mark.slow
def test_the_python_of_sources_runs_tools_of_all_three_kinds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mcp")
    (tmp_path / "tools.py").write_text('def greet(name: str) -> str:\n    return f"Hello {name}"\n', "utf-8")
    pets = {"get": {"operationId": "list_pets", "responses": {"200": {"description": "Pets"}}}}
    petstore = {"openapi": "3.0.3", "info": {"title": "Pets", "version": "1"}, "paths": {"/pets": pets}}
    petstore["servers"] = [{"url": "https://pets.example"}]
    (tmp_path / "petstore.json").write_text(json.dumps(petstore), "utf-8")
    server = {"command": sys.executable, "args": [str(ROOT / "tests/mcp_server.py"), "plain"]}
    (tmp_path / "mcp.json").write_text(json.dumps({"mcpServers": {"t": server}}), "utf-8")
    calls = '{"name":"greet","arguments":{"name":"Ada"}}<|call|>{"name":"t.echo","arguments":{"text":"again"}}'
    monkeypatch.setattr(registry, "open_model", lambda *_, **__: scripted(f"<|call|>{calls}<|end|>"))
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or "y")
    monkeypatch.chdir(tmp_path)
    run_python_of("docs/sources.md", "result.content)", "result.content, [tool.name for tool in agent.tools][:2])")
    assert capsys.readouterr().out.splitlines() == [f"{said} ['greet', 'list_pets']" for said in ("Hello Ada", "again")]
    assert asked == ['greet(name="Ada")? [y/N] ', 't.echo(text="again")? [y/N] ']
