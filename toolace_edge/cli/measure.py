"""`toolace-edge eval` and `toolace-edge bench`: how often it is right, and what it costs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from toolace_edge.cli import App, pass_app
from toolace_edge.cli.options import model_options, retrieval_options
from toolace_edge.cli.output import calls_json, echo, round_json, to_json
from toolace_edge.errors import InputError, ToolaceEdgeError

if TYPE_CHECKING:
    from toolace_edge.evaluate import Outcome


@click.command("eval", short_help="Measure how often a model is right.")
@click.option("--data", required=True, type=click.Path(path_type=Path), metavar="FILE", help="Examples, one a line.")
@model_options
@retrieval_options
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the first N lines.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write a JSON line for each example.")
@pass_app
def evaluate(
    app: App,
    data: Path,
    model: str | None,
    format_name: str | None,
    rounds: int,
    threads: int | None,
    top_tools: int | None,
    limit: int | None,
    as_json: bool,
    out: Path | None,
) -> None:
    """Run a model over a file of requests whose right calls are known.

    A line of FILE is a JSON object with `messages` (OpenAI form, the last one holds the right
    calls), `tools`, `source`, and optionally `subset` and `accept`. A line is right when the calls
    equal the gold ones in any order; strings are compared without case, spaces and punctuation,
    numbers by value. The table shows 95 % confidence intervals (Wilson).

    \b
    Example:
      toolace-edge eval --data dev.jsonl.gz --limit 200
      toolace-edge eval --data dev.jsonl.gz --json --out predictions.jsonl
    """
    from toolace_edge.evaluate import evaluate as run
    from toolace_edge.examples import read_examples

    if out is not None and out.exists() and data.exists() and out.samefile(data):
        raise InputError(f"{out} is the data itself.", hint="Give --out another place.")
    examples = list(read_examples(data, limit))
    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    with (
        app.open_model(model, format_name=format_name, threads=threads) as opened,
        _writer(out) as write,
        click.progressbar(length=len(examples), file=sys.stderr, hidden=not on_terminal) as bar,
    ):

        def on_outcome(outcome: Outcome) -> None:
            write(outcome)
            bar.update(1)

        report = run(opened, examples, on_outcome=on_outcome, rounds=rounds, top_k=top_tools)
    echo(to_json(report) if as_json else _table(report))


@contextmanager
def _writer(out: Path | None) -> Iterator[Callable[[Outcome], None]]:
    """Says on stderr what was refused, and writes predictions to `out`, which appears only when all are there."""
    with _replacing(out) as stream:

        def write(outcome: Outcome) -> None:
            if outcome.refused:
                echo(f"{outcome.example.id}: refused, so wrong: {outcome.refused}", err=True)
            if stream:
                stream.write(to_json(prediction(outcome)) + "\n")
                stream.flush()  # a full disk is noticed now and not after an hour

        yield write


@contextmanager
def _replacing(path: Path | None) -> Iterator[IO[str] | None]:
    if path is None:
        yield None
        return
    special = path.exists() and not path.is_file()  # /dev/null, /dev/stdout: nothing to rename onto
    part = path if special else path.with_name(f".{path.name}.part")
    try:
        stream = part.open("w", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.", hint="Give --out another place.") from error
    try:
        with stream:
            yield stream
        if not special:
            os.replace(part, path)
    except BaseException as error:
        if not special:
            part.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):  # nothing else in there does I/O
            raise ToolaceEdgeError(
                f"{path} cannot be written: {error.strerror}.", hint="Give --out another place."
            ) from error
        raise


def prediction(outcome: Outcome) -> dict[str, Any]:
    """A line of `--out`."""
    answer = outcome.answer
    return {
        "id": outcome.example.id,
        "calls": calls_json(answer.calls if answer else ()),
        "gold": calls_json(outcome.example.gold),
        "right": outcome.right,
        "rounds": [round_json(one, usage=False) for one in (answer.rounds if answer else ())],
    }


def _table(report: Mapping[str, Any]) -> str:
    from toolace_edge.evaluate import wilson

    rows = [*report["by"].items(), ("all", report)]
    width = max(len(name) for name, _ in rows)
    lines = [f"{'':{width}}      n  right   95 % interval"]
    for name, row in rows:
        low, high = wilson(row["accuracy"], row["n"])
        lines.append(f"{name:{width}} {row['n']:6} {row['accuracy']:6.1%}  {low:6.1%} ..{high:6.1%}")
    lines.append(
        f"calls valid against their schema {report['schema_valid']:.2%} · right after the first round "
        f"{report['accuracy_first_round']:.1%}"
    )
    if chosen := report.get("retrieval"):
        lines.append(
            f"{chosen['n']} lines were offered only some of their tools, {chosen['tools_mean']:.1f} on average: every "
            f"right one in {chosen['kept']:.1%}"
        )
    lines.append(
        f"{report['rounds_mean']:.2f} rounds and {report['forward_passes_mean']:.1f} forward passes a line · "
        f"{report['seconds']:.1f} s"
    )
    return "\n".join(lines)


@click.command(short_help="Measure speed, memory, and what the grammar saves.")
@click.option(
    "--data", type=click.Path(path_type=Path), metavar="FILE", help="Examples as for eval; default: a few built-in."
)
@model_options
@click.option("--limit", type=click.IntRange(1), default=50, metavar="N", help="Only the first N lines. [default: 50]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
@pass_app
def bench(
    app: App,
    data: Path | None,
    model: str | None,
    format_name: str | None,
    rounds: int,
    threads: int | None,
    limit: int,
    as_json: bool,
) -> None:
    """Measure tokens a second, forward passes a request, forced share and peak memory.

    Every request starts with an empty cache. `raw loop` feeds the same prompt and the same answer
    to the same engine one token at a time, as a decoder without forced tokens and drafts would.
    `unchanged round` is the forward time of a refinement round that changed nothing, as a share of
    the first round's with its prompt.

    \b
    Example:
      toolace-edge bench
      toolace-edge bench --data dev.jsonl.gz --limit 100 --json
    """
    from toolace_edge import bench as benchmark
    from toolace_edge.examples import read_examples

    requests = list(read_examples(data, limit)) if data else benchmark.builtin_requests()
    with app.open_model(model, format_name=format_name, threads=threads) as opened:
        report = benchmark.bench(opened, requests, rounds=rounds)
    echo(to_json(report) if as_json else benchmark.table(report))
