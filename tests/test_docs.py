"""What the documents say is run or compared: the help page, the README's Python, the map of the files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.cli_page import help_texts, page
from toolace_edge.cli import cli

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


@pytest.mark.slow
def test_the_first_command_of_the_readme_prints_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    found = re.search(r"toolace-edge (run .+)\n```\s+prints `([^`]+)`", readme)
    assert found is not None
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(cli, shlex.split(found[1]))
    assert (result.output, result.exit_code) == (f"{found[2]}\n", 0)


@pytest.mark.slow
@pytest.mark.parametrize("document", ["README.md", "docs/embedding.md"])
def test_the_python_of_a_document_runs(document: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / document).read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    assert blocks
    for block in blocks:
        exec(compile(block, document, "exec"), {"__name__": "document"})
    assert "set_thermostat" in capsys.readouterr().out
