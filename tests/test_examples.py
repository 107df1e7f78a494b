"""What lies in examples/ runs: with a scripted model in the place of the bundled one, and (slow) with the bundled one.

The window has a test file of its own, test_tk_app.py.
"""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from toolace_edge import registry
from toolace_edge.evaluate import evaluate
from toolace_edge.examples import read_examples
from toolace_edge.execute import Executor
from toolace_edge.messages import ToolCall
from toolace_edge.sources import open_sources
from toolace_edge.tools import check_tools

from .test_evaluate import scripted

EXAMPLES = Path(__file__).parent.parent / "examples"
WEATHER = '<|call|>{"name":"get_weather","arguments":{"city":"Oslo"}}<|end|>'
# A reply of the scripted model, and what the script prints first.
OUTPUT = {
    "agent.py": (
        '<|call|>{"name":"set_thermostat","arguments":{"room":"kitchen","degrees":19}}<|end|>',
        'call: set_thermostat(room="kitchen", degrees=19)\nresult: The kitchen will be 19 degrees warm.\ncall: ',
    ),
    "functions.py": (
        '<|call|>{"name":"set_thermostat","arguments":{"room":"bedroom","degrees":21}}<|end|>',
        "The bedroom will be 21 degrees warm.\n",
    ),
    "home.py": (
        '<|call|>{"name":"move_blinds","arguments":{"room":"living room","position":"half"}}<|end|>',
        '> turn on the lights in the kitchen\nmove_blinds(room="living room", position="half")\nThe blinds of the ',
    ),
    "rounds.py": (WEATHER, 'round 0: get_weather(city="Oslo") ('),
    "ten_lines.py": (
        '<|call|>{"name":"set_timer","arguments":{"minutes":7}}<|end|>',
        "It rings in 7 minutes.\n",
    ),
}
# What comes of the examples' own requests with the bundled model: it is right about each, or it would be no example.
BUNDLED = {
    "functions.py": "The bedroom will be 21 degrees warm.\n",
    "home.py": """\
> turn on the lights in the kitchen
turn_lights(room="kitchen", state="on")
The lights of the kitchen are on.
> turn off the bedroom lights
turn_lights(room="bedroom", state="off")
The lights of the bedroom are off.
> dim the lights in the living room to 60 percent
dim_lights(room="living room", percent=60)
The lights of the living room are at 60 %.
> set the bedroom to 19 degrees
set_thermostat(room="bedroom", degrees=19)
The bedroom will be 19 degrees warm.
> close the blinds in the kitchen
move_blinds(room="kitchen", position="closed")
The blinds of the kitchen are closed.
> what is the capital of France?
No tool fits.
""",
    "mcp_files.py": """\
> list all files
files.list_files()
plan.md
shopping.txt
> read the file shopping.txt
files.read_file(name="shopping.txt")
milk, bread, apples
""",
    "ten_lines.py": "It rings in 10 minutes.\n",
}
MUCH_S = 300


def test_every_script_is_run_somewhere() -> None:
    elsewhere = {"file_server.py", "mcp_files.py", "tk_app.py"}  # below, and test_tk_app.py
    assert {script.name for script in EXAMPLES.glob("*.py")} == {*OUTPUT, *BUNDLED, *elsewhere}


def test_ten_lines_are_ten_lines() -> None:
    lines = [line for line in (EXAMPLES / "ten_lines.py").read_text("utf-8").splitlines() if line.strip()]
    assert len(lines) <= 10


@pytest.mark.parametrize("name", OUTPUT)
def test_the_script_prints_what_the_model_calls(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reply, output = OUTPUT[name]

    def open_model(*args: Any, **options: Any) -> registry.Model:
        return scripted(reply)

    monkeypatch.setattr(registry, "open_model", open_model)
    monkeypatch.setattr(sys, "argv", [name])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert capsys.readouterr().out.startswith(output)


def test_the_tools_can_all_be_used() -> None:
    good, problems = check_tools(EXAMPLES / "tools.json")
    assert (len(good), problems) == (2, ())


def test_the_data_can_be_evaluated() -> None:
    report = evaluate(scripted(WEATHER), list(read_examples(EXAMPLES / "data.jsonl")), rounds=0)
    assert (report["n"], report["accuracy"]) == (3, 0.333333)


@pytest.mark.slow
@pytest.mark.parametrize("name", BUNDLED)
def test_the_bundled_model_is_right_about_the_requests_of_the_script(name: str) -> None:
    if name == "mcp_files.py":
        pytest.importorskip("mcp")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)], capture_output=True, text=True, timeout=MUCH_S, check=False
    )
    assert (done.stdout, done.returncode) == (BUNDLED[name], 0), done.stderr


@pytest.mark.slow
def test_the_file_server_reads_its_folder_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("mcp")
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "outside.txt").write_text("secret", "utf-8")
    (folder / "link.txt").symlink_to(tmp_path / "outside.txt")
    (folder / "plan.md").write_text("paint", "utf-8")
    (folder / "large.txt").write_text("x" * 100_001, "utf-8")
    server = {"command": sys.executable, "args": [str(EXAMPLES / "file_server.py"), str(folder)]}
    (tmp_path / "mcp.json").write_text(json.dumps({"mcpServers": {"files": server}}), "utf-8")
    with open_sources(mcp=[tmp_path / "mcp.json"]) as sources:
        executor = Executor(sources.functions, timeout_s=MUCH_S)

        def read(name: str) -> str:
            return executor.run(ToolCall("files.read_file", {"name": name})).content

        assert read("plan.md") == "paint"
        assert "larger than 100000 bytes" in read("large.txt")
        for name in ("none.md", "sub", "link.txt", "../outside.txt", str(tmp_path / "outside.txt")):
            assert read(name).endswith(f"there is no file {name!r}")
