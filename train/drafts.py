"""ToolACE-R's raw material: what the model itself answers to training lines, by our own runtime.

The paper (arXiv 2504.01400) pairs the model's first answer with the gold one, and keeps pairs where they agree, so that
"no change" is learned too. A line of the output holds the request and the calls; packs.py writes the pairs.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import click

from toolace_edge import formats
from toolace_edge.engines import open_engine
from toolace_edge.engines.base import Engine
from toolace_edge.errors import InputError
from toolace_edge.session import Session

from .examples import Example, read_examples


def sample_lines(data: Path, count: int, seed: int) -> list[Example]:
    """`count` lines, short enough for quick answers, the same for the same seed."""
    lines = [e for e in read_examples(data) if e.source != "sgd" and len(e.request) < 400 and len(e.messages) < 4]
    return random.Random(seed).sample(lines, min(count, len(lines)))


@click.command()
@click.option("--data", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True)
@click.option(
    "--model",
    type=click.Path(exists=True, path_type=Path),
    required=True,
    help="A converted checkpoint (folder or .gguf).",
)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--count", default=4000, show_default=True)
@click.option("--seed", default=1, show_default=True)
def main(data: Path, model: Path, out: Path, count: int, seed: int) -> None:
    """Answer training lines with the current model, once each, and write the answers as drafts to refine."""
    lines = sample_lines(data, count, seed)
    partial = out.with_suffix(".part")
    with open_engine(model) as engine, partial.open("w", encoding="utf-8") as file:
        for done, example in enumerate(lines, 1):
            calls = _answer(engine, example)
            if calls is not None:
                record = {"request": example.request, "calls": calls}
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
            if done % 100 == 0:
                click.echo(f"{done} of {len(lines)}", err=True)
    partial.rename(out)


def _answer(engine: Engine, example: Example) -> list[dict[str, object]] | None:
    """The first answer's calls; None where the runtime refuses the line, which is not the same as calling nothing."""
    try:
        session = Session(engine, formats.get("compact"), example.tools, rounds=0)
        answer = session.complete(list(example.messages))
    except InputError:
        return None
    return [{"name": call.name, "arguments": dict(call.arguments)} for call in answer.calls]


if __name__ == "__main__":
    main()
