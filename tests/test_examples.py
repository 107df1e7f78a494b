"""What lies in examples/ runs, with a scripted model in the place of the bundled one."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from toolace_edge import registry
from toolace_edge.evaluate import evaluate
from toolace_edge.examples import read_examples
from toolace_edge.tools import check_tools

from .test_evaluate import scripted

EXAMPLES = Path(__file__).parent.parent / "examples"
WEATHER = '<|call|>{"name":"get_weather","arguments":{"city":"Oslo"}}<|end|>'
OUTPUT = {
    "agent.py": (
        '<|call|>{"name":"set_thermostat","arguments":{"room":"kitchen","degrees":19}}<|end|>',
        'call: set_thermostat(room="kitchen", degrees=19)\nresult: The kitchen will be 19 degrees warm.\ncall: ',
    ),
    "functions.py": (
        '<|call|>{"name":"set_thermostat","arguments":{"room":"bedroom","degrees":21}}<|end|>',
        "The bedroom will be 21 degrees warm.\n",
    ),
    "rounds.py": (WEATHER, 'round 0: get_weather(city="Oslo") ('),
}


def test_every_script_is_run_here() -> None:
    assert {script.name for script in EXAMPLES.glob("*.py")} == set(OUTPUT)


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
