"""What a converted model is held to: the checkpoint with nothing taken away, as a file that our engines run.

A small checkpoint becomes fp32 ONNX, which for a GGUF file is also a converter of its own to be held to. A larger one
becomes GGUF, in f32 or, where that would double its size for nothing, in the 16 bits that it is stored in. Where an
engine does not run it at all, it becomes what the other one runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from toolace_edge.errors import ModelError
from toolace_edge.model_facts import FACTS_FILE

from .checkpoint import Checkpoint, read_checkpoint
from .child import Progress
from .gguf import check_gguf, convert_gguf
from .onnx import check_onnx, convert_onnx

MAX_F32_WEIGHTS = 400_000_000  # 1.6 GB: what one ONNX file holds, and what doubles without being missed
_MEMORY_SHARE = 0.6  # of the machine's, which a reference may take without being asked for


@dataclass(frozen=True, slots=True)
class Reference:
    """`label` says what it is, for people."""

    path: Path
    label: str


def whole_kind(checkpoint: Checkpoint) -> str:
    """The kind of GGUF that loses nothing, or next to nothing: f32, or bf16 and f16 where the checkpoint is large."""
    if checkpoint.config.n_weights <= MAX_F32_WEIGHTS:
        return "f32"
    return "bf16" if all(slot.dtype == "BF16" for slot in checkpoint.slots.values()) else "f16"


def reference_kind(checkpoint: Checkpoint) -> str:
    """`fp32`, which is ONNX, or a kind of GGUF; of the two the one that can be made, from what headers tell."""
    onnx = find_spec("onnx") is not None and can_run(partial(check_onnx, checkpoint))
    small = checkpoint.config.n_weights <= MAX_F32_WEIGHTS
    if onnx and (small or not can_run(partial(check_gguf, checkpoint))):
        return "fp32"
    return whole_kind(checkpoint)


def can_run(check: Callable[[], None]) -> bool:
    """Whether `check` refuses nothing."""
    try:
        check()
    except ModelError:
        return False
    return True


def is_model(source: Path) -> bool:
    """Whether it is a model already (a .gguf file, a folder of ours) and not a checkpoint."""
    return source.is_file() or (source / FACTS_FILE).is_file()


def reference_bytes(source: Path, base: Path | None = None) -> int:
    """The size of the reference, roughly."""
    if source.is_file():
        return source.stat().st_size
    if is_model(source):
        return sum(file.stat().st_size for file in source.iterdir() if file.is_file())
    checkpoint = read_checkpoint(source, base)
    return checkpoint.config.n_weights * (4 if reference_kind(checkpoint) in ("fp32", "f32") else 2)


def too_large(size_bytes: int) -> bool:
    """Whether a model of that size would keep this machine busy with its disk; False where nobody can tell."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return False
    return size_bytes > memory * _MEMORY_SHARE


def make_reference(
    source: Path,
    folder: Path,
    *,
    fmt: str,
    base: Path | None = None,
    whole: Path | None = None,
    on_progress: Progress | None = None,
) -> Reference:
    """The reference of `source`, made in `folder` unless it is a model; `whole` is a GGUF of it if there is one."""
    if is_model(source):
        return Reference(source, f"source: {source.name}")
    checkpoint = read_checkpoint(source, base)
    kind = reference_kind(checkpoint)
    options: dict[str, Any] = {"fmt": fmt, "base": base, "say": _quiet, "on_progress": on_progress}
    if kind == "fp32":
        out = folder / "reference"
        convert_onnx(source, out, precision="fp32", name="reference", **options)
        return Reference(out, "source: fp32, onnxruntime")
    if whole is None:
        whole = convert_gguf(source, folder / "reference.gguf", kind=kind, name="reference", **options)
    return Reference(whole, f"source: {kind}, llama.cpp")


def _quiet(_sentence: str) -> None:
    """It was said when the model itself was converted."""
