"""Writes a checkpoint as a model folder for onnxruntime: model.onnx, tokenizer.json, toolace.json.

The folder is written aside and renamed, and opened once before that: what does not load never gets its name.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from toolace_edge.engines.onnx import OnnxEngine
from toolace_edge.errors import InputError, MissingDependency, ModelError

from .aside import made_aside
from .checkpoint import Checkpoint, note, read_checkpoint

MAX_MODEL_BYTES = 1_900_000_000  # protobuf ends at 2 GiB, and weights in a second file are not for the engine to read
_BYTES_A_WEIGHT = {"fp32": 4.0, "fp16": 2.0, "int8": 1.125, "int4": 0.625}  # with a float32 scale for 32 weights
PRECISIONS = tuple(_BYTES_A_WEIGHT)
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
    say: Callable[[str], None] = note,
) -> Path:
    """Convert the checkpoint folder `source` to the model folder `out`, replacing an older one. Returns `out`.

    `precision` is one of PRECISIONS; int8 and int4 are of weights, in blocks of 32; fp16 is only stored so. `n_ctx` is
    the checkpoint's own unless given. `base` is the base's folder where `source` is an adapter and names none here;
    `say` gets what should be known of the result. The same checkpoint gives the same bytes.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}, not one of {', '.join(PRECISIONS)}")
    checkpoint = read_checkpoint(source, base)
    for line in checkpoint.notes:
        say(line)
    n_ctx = n_ctx or checkpoint.config.n_ctx
    _check_request(checkpoint, out, precision, n_ctx)
    with made_aside(out) as folder:
        aside = folder / "new"
        aside.mkdir()
        files = {
            "model.onnx": _model(checkpoint, precision, n_ctx, name),
            "tokenizer.json": checkpoint.tokenizer_json.encode(),
        }
        for file, content in files.items():
            (aside / file).write_bytes(content)
        facts = _facts(checkpoint, name, precision, n_ctx, fmt, calibration)
        facts["sha256"] = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
        (aside / _FACTS_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        OnnxEngine(aside).close()
        if out.exists():
            out.rename(folder / "old")
        aside.rename(out)
    return out


def _check_request(checkpoint: Checkpoint, out: Path, precision: str, n_ctx: int) -> None:
    """Conflicts, before anything large is read."""
    if not 1 <= n_ctx <= checkpoint.config.n_ctx:
        raise InputError(
            f"n_ctx is {n_ctx}, but the checkpoint was made for 1 to {checkpoint.config.n_ctx} tokens.", hint=""
        )
    if out.exists() and not (out / _FACTS_FILE).is_file():
        raise InputError(f"{out} exists and is not a model folder.", hint="Give another name, or remove it.")
    weights = sum(math.prod(shape) for shape in checkpoint.config.tensor_shapes().values())
    rotary_bytes = 4.0 * n_ctx * checkpoint.config.head_dim
    if weights * _BYTES_A_WEIGHT[precision] + rotary_bytes > MAX_MODEL_BYTES:
        raise ModelError(
            f"{checkpoint.folder}: {weights / 1e9:.1f} billion weights in {precision} do not fit into one ONNX file.",
            hint="Convert it to GGUF: `toolace-edge convert gguf`.",
        )


def _model(checkpoint: Checkpoint, precision: str, n_ctx: int, name: str) -> bytes:
    try:
        from .onnx_graph import build_graph
    except ImportError as error:
        raise MissingDependency("onnx", "convert") from error
    model: bytes = build_graph(checkpoint, precision, n_ctx, name).SerializeToString(deterministic=True)
    return model


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
