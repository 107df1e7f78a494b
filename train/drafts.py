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
            record = {"request": example.request, "calls": _answer(engine, example)}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            if done % 100 == 0:
                click.echo(f"{done} of {len(lines)}", err=True)
    partial.rename(out)


def _answer(engine: object, example: Example) -> list[dict[str, object]]:
    session = Session(engine, formats.get("compact"), example.tools, rounds=0)  # type: ignore[arg-type]
    try:
        answer = session.complete(list(example.messages))
    except InputError:  # a line that the runtime refuses gives no draft
        return []
    return [{"name": call.name, "arguments": dict(call.arguments)} for call in answer.calls]


if __name__ == "__main__":
    main()
