"""What `train lines` does: training lines in OpenAI's form out of a bank, for any base and for an app's own tools."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from toolace_edge.errors import InputError

from .bank import Bank, load_families, unwritten
from .bank_types import Family, Said
from .examples import Example, as_openai
from .run_files import replace_text
from .sampling import calls_as_json
from .synth_values import ValueMaker

LONE_TOOL = 0.2  # lines that show the called tool only


def run(files: Sequence[Path], out: Path | None, count: int, no_call: float, seed: int) -> None:
    """Writes `count` lines to `out`, else to stdout; what the files lack is said on stderr."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
    families = load_families(files)
    if not any(one.single for family in families for one in family.tools.values()):
        raise InputError("No tool in these files has a request: a line that starts with `? `.")
    for lack in (lack for family in families for lack in unwritten(family)):
        click.echo(f"lacks: {lack}", err=True)
    of = "+".join(file.stem.strip() for file in files) or "bank"  # as lines of several banks may stand in one file
    made = records(families, count, no_call, seed, of)
    drawn = (json.dumps(record, ensure_ascii=False) + "\n" for record in made)
    if out is None:
        for line in drawn:  # UTF-8 whatever the terminal's encoding is, as --out writes it
            click.echo(line.encode(), nl=False)
    else:
        replace_text(out, "".join(drawn))
        click.echo(f"{out}: {count} lines from {sum(len(family.tools) for family in families)} tools", err=True)


def records(families: Sequence[Family], count: int, no_call: float, seed: int, of: str) -> Iterator[dict[str, Any]]:
    """`count` lines; `no_call` of them ask for what no tool of theirs does, where such a request is written.

    It was written beside its own family, so no other one is shown: a tool of that might do it.
    """
    rng = random.Random(seed)
    bank = Bank(families, ValueMaker(rng, *_free_text(families)))
    for number in range(count):
        around, shown = bank.scene(LONE_TOOL)
        unasked = None
        if rng.random() < no_call and (unasked := bank.unasked(alone := rng.choice(around))) is not None:
            shown = [one for one in shown if one[0] is alone] or [(alone, name) for name in alone.tools]
        tools = [family.tools[name].tool for family, name in shown]
        rng.shuffle(tools)
        example = unasked or bank.asked(shown)
        yield _record(Example("bank", tuple(tools), example.messages, example.calls, f"{of}/{seed}/{number}"))


def _record(example: Example) -> dict[str, Any]:
    calls = [{"type": "function", "function": function} for function in calls_as_json(example.calls)]
    answer = {"role": "assistant", "content": ""} | ({"tool_calls": calls} if calls else {})
    return {
        "id": example.id,
        "source": example.source,
        "messages": [*({"role": one.role, "content": one.content} for one in example.messages), answer],
        "tools": [as_openai(tool) for tool in example.tools],
    }


def _free_text(families: Sequence[Family]) -> tuple[list[str], list[str]]:
    """Phrases and words to be copied, out of the bank itself."""
    phrases: set[str] = set()
    words: set[str] = set()
    for family in families:
        for one in family.tools.values():
            for parameter in one.parameters.values():
                phrases.update(v.said for v in parameter.values if isinstance(v, Said) and " " in v.said)
            for request in (*one.single, *one.several, *one.none):
                words.update(re.findall(r"[^\W\d_]{2,16}", request.text))
    return sorted(phrases) or ["as it is"], sorted(words)
