"""Writes a checkpoint as a model folder for onnxruntime: model.onnx, tokenizer.json, toolace.json.

A model that does not fit into one ONNX file has its weights in model.onnx.data. The folder is written aside and
renamed, and opened once before that: what does not load never gets its name.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from toolace_edge.engines.base import EXACT_WEIGHTS
from toolace_edge.engines.onnx import OnnxEngine
from toolace_edge.errors import InputError, MissingDependency, ModelError
from toolace_edge.store import sha256_of

from . import onnx_optimum
from .aside import made_aside
from .checkpoint import Checkpoint, note, read_checkpoint
from .child import Progress
from .config import ModelConfig
from .places import check_folder, place_folder
from .quantize import BLOCK, stored_otherwise

MAX_INSIDE_BYTES = 1_900_000_000  # of weights in model.onnx itself: protobuf ends at 2 GiB
_BYTES_A_WEIGHT = {"fp32": 4.0, "fp16": 2.0, "int8": 1.125, "int4": 0.625}  # with a float32 scale for 32 weights
PRECISIONS = tuple(_BYTES_A_WEIGHT)
QUANTIZED = ("int8", "int4")
# Our own graph, or the one that optimum exports, with what each can be.
EXPORTERS: Mapping[str, tuple[str, ...]] = {"own": PRECISIONS, "optimum": onnx_optimum.PRECISIONS}
HEAD_STEP = 16  # GroupQueryAttention with rotation, on a CPU
# What enters a quantized matrix: rounded to int8 in blocks of 32, or left as float32, in every matrix or the last one.
ACTIVATIONS = ("int8", "head", "float32")
_FACTS_FILE = "toolace.json"


def convert_onnx(
    source: Path,
    out: Path,
    *,
    precision: str = "int8",
    name: str,
    n_ctx: int | None = None,
    fmt: str = "compact",
    calibration: Mapping[str, Any] | None = None,
    base: Path | None = None,
    exporter: str = "own",
    activations: str | None = None,
    say: Callable[[str], None] = note,
    on_progress: Progress | None = None,
) -> Path:
    """Convert the checkpoint folder `source` to the model folder `out`, replacing an older one. Returns `out`.

    `exporter` is one of EXPORTERS, `precision` one of its; our int8 and int4 are of weights, in blocks of 32, and
    `activations` (one of ACTIVATIONS) is for these two: unless given, float32 up to EXACT_WEIGHTS, and int8 above. fp16
    is only stored so. `n_ctx` is the checkpoint's own unless given. `base` is the base's folder where `source` is an
    adapter and names none here; `say` gets what should be known of the result. Our own graph takes the memory of a
    layer, then that of the result as it is opened, and is the same bytes for the same checkpoint.
    """
    if precision not in EXPORTERS[exporter]:
        raise ValueError(f"precision is {precision!r}, not one of {', '.join(EXPORTERS[exporter])}")
    check_activations(activations, precision, exporter)
    checkpoint = read_checkpoint(source, base)
    if activations is None:
        activations = "float32" if checkpoint.config.n_weights <= EXACT_WEIGHTS else "int8"
    for line in (*checkpoint.notes, *_stored_otherwise(checkpoint.config, precision, exporter)):
        say(line)
    n_ctx = n_ctx or checkpoint.config.n_ctx
    _check_request(checkpoint, n_ctx)
    if exporter == "own":
        check_onnx(checkpoint)
    check_folder(out, *checkpoint.folders)
    with made_aside(out) as folder:
        aside = folder / "new"
        aside.mkdir()
        if exporter == "optimum":
            onnx_optimum.export_optimum(source, base, precision, aside, on_progress)
        else:
            watched = checkpoint if on_progress is None else checkpoint.watched(on_progress)
            _write_own(watched, precision, activations, n_ctx, name, aside / "model.onnx")
        (aside / "tokenizer.json").write_bytes(checkpoint.tokenizer_json.encode())
        facts = _facts(checkpoint, name, precision, n_ctx, fmt, calibration)
        if exporter == "own" and precision in QUANTIZED:
            facts["activations"] = activations
        facts["sha256"] = {file.name: sha256_of(file) for file in sorted(aside.iterdir())}
        (aside / _FACTS_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        with OnnxEngine(aside) as engine:
            _ = engine.tokenizer  # built when it is first asked for, and refused then
        place_folder(aside, out, None, folder)
    return out


def check_activations(activations: str | None, precision: str, exporter: str) -> None:
    """InputError where they are unknown, or where no matrix of ours is quantized."""
    if activations is None:
        return
    if activations not in ACTIVATIONS:
        raise InputError(f"activations are {activations!r}, not one of {', '.join(ACTIVATIONS)}.", hint="")
    if exporter != "own" or precision not in QUANTIZED:
        raise InputError(
            f"activations {activations!r} say what enters a quantized matrix of our own graph, and there is none.",
            hint="Leave it out, or use --exporter own with --precision int8 or int4.",
        )


def _check_request(checkpoint: Checkpoint, n_ctx: int) -> None:
    """Conflicts, before anything large is read."""
    if not 1 <= n_ctx <= checkpoint.config.n_ctx:
        raise InputError(
            f"n_ctx is {n_ctx}, but the checkpoint was made for 1 to {checkpoint.config.n_ctx} tokens.", hint=""
        )


def check_onnx(checkpoint: Checkpoint) -> None:
    """ModelError for what transformers runs and onnxruntime's attention, of our own graph, does not."""
    size = checkpoint.config.head_dim
    if size % HEAD_STEP:
        raise ModelError(
            f"{checkpoint.folder}: onnxruntime cannot run heads of {size}, which is no multiple of {HEAD_STEP}.",
            hint="Convert it to GGUF (`toolace-edge convert gguf`), or with `--exporter optimum`.",
        )


def _write_own(checkpoint: Checkpoint, precision: str, activations: str, n_ctx: int, name: str, file: Path) -> None:
    """The graph of onnx_graph.py as `file`, with its weights inside as long as they fit."""
    try:
        from .onnx_data import DataFile
        from .onnx_graph import build_graph
    except ImportError as error:
        raise MissingDependency("onnx", "convert") from error
    large = _size_bytes(checkpoint.config, precision, n_ctx) > MAX_INSIDE_BYTES
    with DataFile(file.with_name(f"{file.name}.data")) if large else nullcontext() as data:
        model = build_graph(checkpoint, precision, n_ctx, name, data, activations=activations)
    file.write_bytes(model.SerializeToString(deterministic=True))


def _stored_otherwise(config: ModelConfig, precision: str, exporter: str) -> Iterator[str]:
    """One sentence where our own graph has matrices that are not quantized though it was asked for."""
    shapes = [shape for shape in config.tensor_shapes().values() if len(shape) == 2 and shape[1] % BLOCK]
    if exporter == "own" and precision in QUANTIZED and shapes:
        yield stored_otherwise(Counter((columns, "fp32") for _, columns in shapes))


def _size_bytes(config: ModelConfig, precision: str, n_ctx: int) -> float:
    """Roughly, of all weights; a matrix without whole blocks is not quantized."""
    size = 4.0 * n_ctx * config.head_dim  # the rotary angles
    for shape in config.tensor_shapes().values():
        stored = "fp32" if precision != "fp16" and (len(shape) == 1 or shape[-1] % BLOCK) else precision
        size += math.prod(shape) * _BYTES_A_WEIGHT[stored]
    return size


def _facts(
    checkpoint: Checkpoint, name: str, precision: str, n_ctx: int, fmt: str, calibration: Mapping[str, Any] | None
) -> dict[str, Any]:
    config = checkpoint.config
    return {
        "name": name,
        "format": fmt,
        "architecture": config.family.model_type,
        "precision": precision,
        "n_ctx": n_ctx,
        "n_layers": config.n_layers,
        "n_kv_heads": config.n_kv_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocab_size,
        "bos": config.bos,
        "calibration": calibration,
    }
