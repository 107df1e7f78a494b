"""`toolace-edge convert`: a trained checkpoint as the files that the engines run."""

from __future__ import annotations

import tempfile
from pathlib import Path

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
_name = click.option("--name", metavar="NAME", help="What it is called. [default: as OUT]")


@convert.command()
@_source
@_out
@click.option("--precision", default="int8", show_default=True, metavar="NAME", help="fp32, int8 or int4.")
@_format
@_name
def onnx(source: Path, out: Path, precision: str, fmt: str, name: str | None) -> None:
    """Convert a checkpoint folder to a model folder for onnxruntime.

    \b
    Example:
      toolace-edge convert onnx runs/nano/checkpoint models/nano --precision int8
    """
    from .onnx import PRECISIONS, convert_onnx

    if precision not in PRECISIONS:
        raise click.BadParameter(f"{precision!r} is not one of {', '.join(PRECISIONS)}.", param_hint="--precision")
    convert_onnx(source, out, precision=precision, name=name or out.name, fmt=fmt)
    click.echo(f"{out} written; `toolace-edge run --model {out} ...` uses it.")


@convert.command()
@_source
@_out
@click.option(
    "--kind", default="Q8_0", show_default=True, metavar="NAME", help="f32, f16, bf16, Q8_0, Q4_K_M, Q4_0 ..."
)
@_format
@_name
def gguf(source: Path, out: Path, kind: str, fmt: str, name: str | None) -> None:
    """Convert a checkpoint folder to a .gguf file for llama.cpp.

    SOURCE may also be a .gguf file that is not quantized yet.

    \b
    Example:
      toolace-edge convert gguf runs/nano/checkpoint models/nano.gguf --kind Q8_0
    """
    from .gguf import FLOAT_KINDS, convert_gguf
    from .gguf_quantize import QUANTIZED_KINDS, quantize

    name = name or out.stem
    if kind in FLOAT_KINDS and not source.is_dir():
        raise InputError(f"{source} is not a checkpoint folder, and a file can only be quantized.", hint="")
    if kind in FLOAT_KINDS:
        convert_gguf(source, out, kind=kind, name=name, fmt=fmt)
    elif kind not in QUANTIZED_KINDS:
        known = ", ".join((*FLOAT_KINDS, *QUANTIZED_KINDS))
        raise click.BadParameter(f"{kind!r} is not one of {known}.", param_hint="--kind")
    elif source.is_dir():
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent) as folder:
            quantize(convert_gguf(source, Path(folder) / "f16.gguf", kind="f16", name=name, fmt=fmt), out, kind)
    else:
        quantize(source, out, kind)
    click.echo(f"{out} written; `toolace-edge run --model {out} ...` uses it.")
