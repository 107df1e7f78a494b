"""`toolace-edge convert compare` and `convert calibrate`: models beside their source, and how sure they are."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolace_edge.cli import App, pass_app
from toolace_edge.cli.output import echo, to_json
from toolace_edge.errors import InputError

if TYPE_CHECKING:
    from toolace_edge.registry import Entry

    from .calibrate import Fitted
    from .reference import Reference

_format = click.option(
    "--format", "fmt", type=click.Choice(["compact", "toolace", "hermes"]), metavar="NAME",
    help="How they write calls, where a model's file does not say.",
)  # fmt: skip
_threads = click.option("--threads", type=click.IntRange(1, 256), metavar="N", help="CPU threads. [default: cores - 1]")
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")


@click.command(short_help="Compare models with their source: calls, logits, size, speed.")
@click.argument("source")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--data", type=click.Path(path_type=Path), metavar="FILE", help="Requests as for eval; default: a few.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the first N lines.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER", help="Write COMPARE.md, .json and .svg.")
@click.option(
    "--base", type=click.Path(path_type=Path), metavar="FOLDER", help="The base, if SOURCE is a LoRA adapter."
)
@_format
@_threads
@_json
def compare(
    source: str, models: Sequence[str], data: Path | None, limit: int | None, out: Path | None, base: Path | None,
    fmt: str | None, threads: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Run models beside their SOURCE on the same requests, each in a process of its own.

    SOURCE is a checkpoint folder, or a model that counts as whole. `same calls` is the share of
    requests that a model answers with exactly the calls of SOURCE; COMPARE.svg draws it over size.

    \b
    Example:
      toolace-edge convert compare runs/nano/checkpoint models/nano models/nano.gguf
      toolace-edge convert compare nano nano-gguf --data dev.jsonl --limit 200 --out report
    """
    from toolace_edge.registry import check_clear, find

    from .progress import Bars
    from .report import table, write_report
    from .verify import SHIPPED, Requests, Trial

    for model in (source, *models):
        check_clear(model)
    entries = [find(model) for model in models]
    requests = Requests(data or SHIPPED, limit)
    requests.check()
    with tempfile.TemporaryDirectory(prefix="toolace-edge-") as folder, Bars() as bars:
        reference = _reference(source, base, entries[0], Path(folder), fmt)
        trial = Trial(requests, Path(folder), fmt, threads, bars)
        report = trial.report(reference, trial.of_source(reference), [entry.path for entry in entries])
    echo(to_json(report.to_json()) if as_json else table(report))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        files = write_report(report, out, "COMPARE")
        echo(f"{', '.join(map(str, files))} written.", err=True)


def _reference(source: str, base: Path | None, first: Entry, folder: Path, fmt: str | None) -> Reference:
    from toolace_edge.model_facts import read_model_facts
    from toolace_edge.registry import find

    from .own_format import format_of
    from .reference import Reference, is_model, make_reference

    path = Path(source)
    if not path.exists() or is_model(path) or path.name == "model.onnx":
        if base is not None:
            raise InputError(f"{source} is a model and no adapter.", hint="Leave --base away.")
        entry = find(source)
        return Reference(entry.path, f"source: {entry.name}")
    said = read_model_facts(first.path, first.kind).format
    return make_reference(path, folder, fmt=format_of(path, base, fmt or said), base=base)


@click.command(short_help="Fit how sure a model's answers are, and write it into the model.")
@click.argument("model")
@click.argument("data", type=click.Path(path_type=Path))
@_format
@click.option("--rounds", type=click.IntRange(0, 32), default=1, metavar="N", help="Refinements at most. [default: 1]")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the first N lines.")
@click.option(
    "--top-k", type=click.IntRange(1), metavar="N", help="Tools to offer where all are too many.  [default: 8]"
)
@click.option("--tools-tokens", type=click.IntRange(1), metavar="N", help="Too many: more tokens. [default: as fits]")
@click.option("--dry-run", is_flag=True, help="Print, and leave the model as it is.")
@_threads
@_json
@pass_app
def calibrate(
    app: App, /, model: str, data: Path, fmt: str | None, rounds: int, limit: int | None, top_k: int | None,
    tools_tokens: int | None, dry_run: bool, threads: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Make MODEL's confidence mean its chance of being right, on lines of DATA it has not seen.

    DATA is as for eval. The calibration goes into the model: into toolace.json of a folder, into
    the metadata of a .gguf file. Its `gate` is the confidence from which refining gains nothing;
    --top-k and --tools-tokens are recorded as given (`toolace-edge eval --top-k` measures what suits).

    \b
    Example:
      toolace-edge convert calibrate models/nano heldout.jsonl
      toolace-edge convert calibrate models/nano.gguf heldout.jsonl --dry-run --json
    """
    from dataclasses import asdict

    from toolace_edge.examples import read_examples
    from toolace_edge.registry import check_clear, find

    from .calibrate import calibrate as fit
    from .calibrate import trace
    from .progress import Bars
    from .stamp import check_writable, write_calibration

    check_clear(model)
    entry = None if dry_run else find(model)
    if entry is not None:
        check_writable(entry)
    examples = list(read_examples(data, limit))
    done = 0
    with Bars() as bars, app.open_model(model, format_name=fmt, threads=threads) as opened:

        def on_done() -> None:
            nonlocal done
            done += 1
            bars("Answering", done, len(examples))

        traces = trace(opened, examples, rounds, on_done)
    fitted = fit(traces)
    if entry is not None:
        said = {"top_k": top_k, "tools_tokens": tools_tokens}
        write_calibration(entry, fitted.facts | {name: one for name, one in said.items() if one is not None})
    echo(to_json(asdict(fitted)) if as_json else _calibration_table(fitted))
    if entry is not None and not as_json:
        echo(f"{entry.path} carries this calibration now.")


def _calibration_table(fitted: Fitted) -> str:
    facts: dict[str, Any] = fitted.facts
    losses = ", ".join(f"{name} {loss:.3f}" for name, loss in fitted.losses.items())
    lines = [
        f"{fitted.n} requests, {fitted.accuracy_ungated:.1%} right with every refinement",
        f"log loss, held out: {losses}; {fitted.base_loss:.3f} for one chance for all",
        f"confidence = 1 / (1 + exp(-({facts['a']:g} * {facts['on']} + {facts['b']:g})))",
        "confidence      n   right",
    ]
    lines += [f"{one.confidence:10.1%} {one.n:6} {one.accuracy:7.1%}" for one in fitted.bins]
    lines.append(f"expected calibration error {fitted.error:.1%}, held out")
    if facts["gate"] is None:
        lines.append("no gate: no confidence was found from which refining gains nothing")
    else:
        lines.append(
            f"gate {facts['gate']:.3f}: {fitted.gated:.1%} of first answers need no refinement; {fitted.accuracy:.1%} "
            "right with it"
        )
    return "\n".join(lines)
