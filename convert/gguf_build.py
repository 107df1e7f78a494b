"""A checkpoint or a float .gguf file becomes the .gguf file that was asked for: converted, measured, quantized."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from toolace_edge.engines.gguf_header import read_header
from toolace_edge.errors import InputError
from toolace_edge.examples import read_examples
from toolace_edge.formats import get

from .checkpoint import read_checkpoint
from .gguf import FLOAT_KINDS, convert_gguf, matrix_names
from .gguf_quantize import QUANTIZED_KINDS, TensorKinds, check_importance, choose_kinds, matrices, quantize
from .importance import (
    Importance,
    is_importance,
    measure_importance,
    read_importance,
    tool_call_sequences,
)
from .places import file_name
from .reference import whole_kind
from .stamp import set_gguf_strings
from .verify import Stage

KINDS = (*FLOAT_KINDS, *QUANTIZED_KINDS)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to make of `source`. `imatrix` is a file of an importance matrix, or data to measure one on.

    `stamps` are the keys that a .gguf file gets which its source has not.
    """

    source: Path
    kind: str
    name: str
    fmt: str = "compact"
    imatrix: Path | None = None
    tensor_kinds: TensorKinds = ()
    calibration: Mapping[str, Any] | None = None
    base: Path | None = None
    stamps: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Built:
    """`whole` is the source as GGUF with nothing taken away, None where none was made; `measured` a new matrix."""

    file: Path
    whole: Path | None
    measured: Importance | None


def check(wanted: Wanted) -> None:
    """InputError for what contradicts itself, before any work."""
    kind, source = wanted.kind, wanted.source
    if kind in FLOAT_KINDS and (wanted.imatrix or wanted.tensor_kinds):
        raise InputError(f"{kind} is not quantized: --imatrix and --tensor-type have nothing to do there.")
    check_importance(kind, wanted.imatrix is not None)
    if wanted.imatrix is not None and not wanted.imatrix.is_file():
        raise InputError(
            f"{wanted.imatrix} is not a file.", hint="Give an importance matrix, or data to measure it on."
        )
    if not source.is_file():
        if wanted.tensor_kinds:
            choose_kinds(matrix_names(read_checkpoint(source, wanted.base).config), wanted.tensor_kinds)
        return
    if kind in FLOAT_KINDS or wanted.calibration or wanted.base:
        raise InputError(f"{source} is not a checkpoint folder, and a file can only be quantized.", hint="")
    if wanted.imatrix is not None and not is_importance(wanted.imatrix):
        raise InputError(
            f"{wanted.imatrix} is data, and importance is measured on a checkpoint, not on {source.name}.",
            hint="Give the checkpoint folder, or an importance matrix in llama.cpp's GGUF form.",
        )
    choose_kinds([one.name for one in matrices(source)], wanted.tensor_kinds)


def build(wanted: Wanted, folder: Path, name: str | None, on_stage: Stage) -> Built:
    """Make the file in `folder`, called `name` or as others name theirs."""
    made = folder / "made.gguf"
    facts: dict[str, Any] = {"name": wanted.name, "fmt": wanted.fmt}
    facts |= {"calibration": wanted.calibration, "base": wanted.base, "on_progress": partial(on_stage, "Converting")}
    whole: Path | None = None
    importance: Importance | None = None
    if wanted.kind in FLOAT_KINDS:
        convert_gguf(wanted.source, made, kind=wanted.kind, **facts)
    else:
        importance = _importance(wanted, on_stage)
        whole = wanted.source
        if not wanted.source.is_file():
            kind = whole_kind(read_checkpoint(wanted.source, wanted.base))
            whole = convert_gguf(wanted.source, folder / "whole.gguf", kind=kind, **facts)
        quantize(
            whole,
            made,
            wanted.kind,
            importance=None if importance is None else importance.means,
            tensor_kinds=wanted.tensor_kinds,
            on_progress=partial(on_stage, "Quantizing"),
        )
    if wanted.stamps:
        set_gguf_strings(made, wanted.stamps)
    named = made.rename(folder / (name or file_name(wanted.name, made, wanted.kind)))
    fresh = wanted.imatrix is not None and not is_importance(wanted.imatrix)
    return Built(named, whole, importance if fresh else None)


def _importance(wanted: Wanted, on_stage: Stage) -> Importance | None:
    if wanted.imatrix is None:
        return None
    if is_importance(wanted.imatrix):
        return read_importance(wanted.imatrix)
    checkpoint = read_checkpoint(wanted.source, wanted.base)
    sequences = tool_call_sequences(checkpoint, get(wanted.fmt), read_examples(wanted.imatrix))
    return measure_importance(
        checkpoint, sequences, data=wanted.imatrix.name, on_progress=partial(on_stage, "Measuring importance")
    )


def stamps_of(source: Path, fmt: str, name: str | None) -> Mapping[str, str]:
    """What `source`, where it is a file, does not say of itself and the user does: its format, another name."""
    if not source.is_file():
        return {}
    metadata = read_header(source).metadata
    said = {"toolace.format": fmt or None, "general.name": name}
    return {key: value for key, value in said.items() if value is not None and metadata.get(key) != value}


def name_of(source: Path) -> str:
    """What a source is called where nobody says."""
    if source.is_file():
        return str(read_header(source).metadata.get("general.name") or source.stem)
    return source.resolve().name
