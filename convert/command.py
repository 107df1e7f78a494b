"""`toolace-edge convert`: a trained checkpoint as the files that the engines run, and the proof of what they kept."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from toolace_edge.cli.output import echo, to_json
from toolace_edge.errors import InputError, ToolaceEdgeError

from .aside import made_aside
from .measure_command import calibrate, compare

if TYPE_CHECKING:
    from .deliver import Proof
    from .verify import Report

_Command = TypeVar("_Command", bound=Callable[..., Any])


@click.group(short_help="Turn a trained checkpoint into ONNX or GGUF.")
def convert() -> None:
    """Turn a trained checkpoint (a Hugging Face folder, or an adapter) into files that the engines run.

    Each is verified: its calls, logits, size and speed beside those of its source.

    \b
    Example:
      toolace-edge convert onnx runs/nano/checkpoint models/nano --precision int8
      toolace-edge convert gguf runs/nano/checkpoint models/nano.gguf --kind Q8_0
      toolace-edge convert compare runs/nano/checkpoint models/nano models/nano.gguf
      toolace-edge convert calibrate models/nano.gguf heldout.jsonl
    """


convert.add_command(compare)
convert.add_command(calibrate)

_source = click.argument("source", type=click.Path(path_type=Path, exists=True))
_format = click.option(
    "--format", "fmt", type=click.Choice(["compact", "toolace", "hermes"]), metavar="NAME",
    help="How it writes calls: toolace, hermes, compact (our own; known by its tokens).",
)  # fmt: skip
_calibration = click.option(
    "--calibration", type=click.Path(path_type=Path), metavar="FILE", help="JSON that turns evidence into confidence."
)
_name = click.option("--name", metavar="NAME", help="What it is called. [default: as OUT]")
_base = click.option(
    "--base", type=click.Path(path_type=Path), metavar="FOLDER", help="The base of a LoRA adapter, if not by its name."
)


def _proof_options(command: _Command) -> _Command:
    for option in reversed(
        (
            click.option("--verify/--no-verify", default=None, help="Compare it with its source. [default: yes]"),
            click.option(
                "--verify-data", type=click.Path(path_type=Path), metavar="FILE", help="Requests, as for eval."
            ),
            click.option(
                "--verify-limit", type=click.IntRange(1), default=200, metavar="N", help="Only N. [default: 200]"
            ),
            click.option(
                "--min-agreement", type=click.FloatRange(0, 1), metavar="P",
                help="Share of equal calls; below it OUT is not made (exit 1).",
            ),
            click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
        )
    ):  # fmt: skip
        command = option(command)
    return command


def _proof(options: Mapping[str, Any]) -> Proof:
    """What the options above ask for; data that cannot be used is refused now."""
    from .deliver import Proof
    from .verify import Requests

    wanted, least, file = options["verify"], options["min_agreement"], options["verify_data"]
    if wanted is False and (least is not None or file is not None):
        raise click.UsageError("--no-verify leaves nothing to do for --verify-data and --min-agreement.")
    if wanted is None and (least is not None or file is not None):
        wanted = True
    requests = Requests(limit=options["verify_limit"]) if file is None else Requests(file, options["verify_limit"])
    if wanted is not False:
        requests.check()
    return Proof(wanted, requests, least)


@convert.command()
@_source
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--precision", default="int8", show_default=True, metavar="NAME", help="fp32, fp16, int8 or int4.")
@click.option(
    "--exporter", type=click.Choice(["own", "optimum"]), default="own", show_default=True, metavar="NAME",
    help="Whose graph: own, or optimum's (fp32, int8).",
)  # fmt: skip
@click.option(
    "--activations", type=click.Choice(["int8", "head", "float32"]), metavar="NAME",
    help="What enters int8 and int4: float32 (up to 150 M weights), int8 (above), or float32 in the head.",
)  # fmt: skip
@_format
@_calibration
@_name
@_base
@_proof_options
def onnx(
    source: Path, out: Path, precision: str, exporter: str, activations: str | None, fmt: str | None,
    calibration: Path | None, name: str | None, base: Path | None, **options: Any,
) -> None:  # fmt: skip
    """Convert a checkpoint folder to a model folder for onnxruntime.

    VERIFY.md in the folder says what it kept: calls, logits, size, speed. The graph is our own, or the
    one that optimum exports, of standard operators only.

    \b
    Example:
      toolace-edge convert onnx runs/nano/checkpoint models/nano --precision int8
    """
    from .onnx import EXPORTERS, check_activations, convert_onnx
    from .own_format import format_of
    from .places import check_folder, place_folder
    from .progress import Bars

    if precision not in EXPORTERS[exporter]:
        known = f"{', '.join(EXPORTERS[exporter])}, which --exporter {exporter} can make"
        raise click.BadParameter(f"{precision!r} is not one of {known}.", param_hint="--precision")
    check_activations(activations, precision, exporter)
    if exporter == "optimum":
        from .onnx_optimum import check_installed

        check_installed()
    facts = _read_calibration(calibration)
    proof = _proof(options)
    check_folder(out, source, base)
    fmt = format_of(source, base, fmt)
    with made_aside(out) as folder, Bars() as bars:
        made = folder / "made" / out.name
        convert_onnx(
            source, made, precision=precision, name=name or out.name, fmt=fmt, calibration=facts, base=base,
            exporter=exporter, activations=activations, on_progress=partial(bars, "Converting"),
        )  # fmt: skip
        report = proof.prove(source, made, fmt=fmt, base=base, whole=None, folder=folder, on_stage=bars)
        problem = proof.problem(report)
        if problem is None:
            place_folder(made, out, report, folder)
    _finish(out, report, problem, options["as_json"])


@convert.command()
@_source
@click.argument("out", type=click.Path())
@click.option(
    "--kind", default="Q8_0", show_default=True, metavar="NAME", help="f32, f16, bf16, Q8_0, Q6_K, Q4_K_M ..."
)
@click.option(
    "--imatrix",
    type=click.Path(path_type=Path),
    metavar="FILE|DATA",
    help="Importance matrix, or requests to measure one on.",
)
@click.option("--tensor-type", multiple=True, metavar="REGEX=KIND", help="Kind of the tensors so named; repeatable.")
@_format
@_calibration
@_name
@_base
@_proof_options
def gguf(
    source: Path, out: str, kind: str, imatrix: Path | None, tensor_type: tuple[str, ...], fmt: str | None,
    calibration: Path | None, name: str | None, base: Path | None, **options: Any,
) -> None:  # fmt: skip
    """Convert a checkpoint folder, or a float .gguf file, to a .gguf file for llama.cpp.

    In a folder OUT the file is called NAME-SIZE-KIND.gguf. FILE.verify.md beside it says
    what it kept.

    \b
    Example:
      toolace-edge convert gguf runs/nano/checkpoint models/nano.gguf --kind Q8_0
    """
    from . import gguf_build as build
    from .gguf_quantize import parse_tensor_kind, stored_otherwise
    from .importance import write_importance
    from .own_format import format_of
    from .places import check_file, place_file, plain_name
    from .progress import Bars

    if kind not in build.KINDS:
        raise click.BadParameter(f"{kind!r} is not one of {', '.join(build.KINDS)}.", param_hint="--kind")
    in_folder = out.endswith(("/", os.sep)) or Path(out).is_dir()
    place, file_name = (Path(out), None) if in_folder else (Path(out).parent, Path(out).name)
    inputs = (source, imatrix, options["verify_data"])
    if file_name is not None:
        check_file(place / file_name, *inputs)
    named, name = name, name or (build.name_of(source) if in_folder else Path(out).stem)
    kinds = tuple(map(parse_tensor_kind, tensor_type))
    fmt = format_of(source, base, fmt)
    stamps = build.stamps_of(source, fmt, named)
    wanted = build.Wanted(source, kind, name, fmt, imatrix, kinds, _read_calibration(calibration), base, stamps)
    build.check(wanted)
    proof = _proof(options)
    proof.check_format(source, fmt)
    with made_aside(place / (file_name or plain_name(name))) as folder, Bars() as bars:
        built = build.build(wanted, folder, file_name, bars)
        target = place / built.file.name
        check_file(target, *inputs)
        if said := stored_otherwise(built.file, kind, kinds):
            echo(said, err=True)
        report = proof.prove(source, built.file, fmt=fmt, base=base, whole=built.whole, folder=folder, on_stage=bars)
        problem = proof.problem(report)
        if problem is None and built.measured is not None:
            write_importance(target.with_suffix(".imatrix.gguf"), built.measured)
        if problem is None:
            place_file(built.file, target, report)
    _finish(target, report, problem, options["as_json"])


def _finish(out: Path, report: Report | None, problem: ToolaceEdgeError | None, as_json: bool) -> None:
    """Tells what was done, once it is done: a reader that is gone costs no conversion. Raises `problem`."""
    from toolace_edge.registry import path_only

    from .report import table

    if report is not None and not as_json:
        echo(table(report))
    if problem is not None:
        raise problem
    place = path_only(out)
    if as_json:
        echo(to_json({"model": place, "verification": None if report is None else report.to_json()}))
    else:
        echo(f"{out} written; `toolace-edge run --model {place} ...` uses it.")


def _read_calibration(file: Path | None) -> Mapping[str, Any] | None:
    """The calibration in a JSON file, refused where the runtime would refuse it."""
    if file is None:
        return None
    from toolace_edge.confidence import Calibration

    try:
        facts = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} is not a readable JSON file: {error}.", hint="Give another --calibration.") from error
    if not isinstance(facts, dict):
        raise InputError(f"{file} must hold a JSON object.", hint="Give another --calibration.")
    Calibration.of(facts)
    return facts
