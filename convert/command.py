"""`toolace-edge convert`: a trained checkpoint as the files that the engines run."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from toolace_edge.errors import InputError


@click.group(short_help="Turn a trained checkpoint into ONNX or GGUF.")
def convert() -> None:
    """Turn a trained checkpoint (a Hugging Face folder of Llama architecture) into files that the engines run.

    \b
    Example:
      toolace-edge convert onnx runs/nano/checkpoint models/nano --precision int8
      toolace-edge convert gguf runs/nano/checkpoint models/nano.gguf --kind Q8_0
    """


_source = click.argument("source", type=click.Path(path_type=Path, exists=True))
_out = click.argument("out", type=click.Path(path_type=Path))
_format = click.option(
    "--format", "fmt", type=click.Choice(["compact", "toolace", "hermes"]), default="compact", metavar="NAME",
    help="How it writes calls: compact, toolace, hermes.",
)  # fmt: skip
_calibration = click.option(
    "--calibration", type=click.Path(path_type=Path), metavar="FILE", help="JSON that turns evidence into confidence."
)
_name = click.option("--name", metavar="NAME", help="What it is called. [default: as OUT]")


@convert.command()
@_source
@_out
@click.option("--precision", default="int8", show_default=True, metavar="NAME", help="fp32, fp16, int8 or int4.")
@_format
@_calibration
@_name
def onnx(source: Path, out: Path, precision: str, fmt: str, calibration: Path | None, name: str | None) -> None:
    """Convert a checkpoint folder to a model folder for onnxruntime.

    \b
    Example:
      toolace-edge convert onnx runs/nano/checkpoint models/nano --precision int8
    """
    from .onnx import PRECISIONS, convert_onnx

    if precision not in PRECISIONS:
        raise click.BadParameter(f"{precision!r} is not one of {', '.join(PRECISIONS)}.", param_hint="--precision")
    facts = _read_calibration(calibration)
    convert_onnx(source, out, precision=precision, name=name or out.name, fmt=fmt, calibration=facts)
    click.echo(f"{out} written; `toolace-edge run --model {out} ...` uses it.")


@convert.command()
@_source
@_out
@click.option(
    "--kind", default="Q8_0", show_default=True, metavar="NAME", help="f32, f16, bf16, Q8_0, Q4_K_M, Q4_0 ..."
)
@_format
@_calibration
@_name
def gguf(source: Path, out: Path, kind: str, fmt: str, calibration: Path | None, name: str | None) -> None:
    """Convert a checkpoint folder to a .gguf file for llama.cpp.

    SOURCE may also be a .gguf file that is not quantized yet.

    \b
    Example:
      toolace-edge convert gguf runs/nano/checkpoint models/nano.gguf --kind Q8_0
    """
    from .gguf import FLOAT_KINDS, convert_gguf
    from .gguf_quantize import QUANTIZED_KINDS, quantize

    known = (*FLOAT_KINDS, *QUANTIZED_KINDS)
    if kind not in known:
        raise click.BadParameter(f"{kind!r} is not one of {', '.join(known)}.", param_hint="--kind")
    if source.is_file():
        if kind in FLOAT_KINDS or calibration:
            raise InputError(f"{source} is not a checkpoint folder, and a file can only be quantized.", hint="")
        quantize(source, out, kind)
    else:
        facts: dict[str, Any] = {"name": name or out.stem, "fmt": fmt, "calibration": _read_calibration(calibration)}
        out.parent.mkdir(parents=True, exist_ok=True)
        if kind in FLOAT_KINDS:
            convert_gguf(source, out, kind=kind, **facts)
        else:
            with tempfile.TemporaryDirectory(dir=out.parent) as folder:
                quantize(convert_gguf(source, Path(folder) / "f16.gguf", kind="f16", **facts), out, kind)
    click.echo(f"{out} written; `toolace-edge run --model {out} ...` uses it.")


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
