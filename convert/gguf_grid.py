"""Keeps weights that lie on Q4_0's grid where they are, in the finer kinds of GGUF.

Who trains for four bits has weights of -8 to 7 steps, in blocks of 32. llama.cpp lays a grid of its own over them (127
steps to the largest of a block in Q8_0; in Q6_K and Q4_K scales of a few bits, which 256 weights share) without a look
at the old one, and so rounds them once more, for nothing. Here a block that lies on the old grid is written in the new
kind with the old steps, in Q8_0 exactly, in the others as nearly as their scales go, wherever that is nearer than what
llama.cpp wrote. All other blocks keep every bit. Layouts: ggml's block_q8_0, block_q6_K and block_q4_K.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolace_edge.engines.gguf_header import TENSOR_TYPES, GgufTensor, read_header
from toolace_edge.errors import MissingDependency

from .child import Progress
from .quantize import BLOCK, extremes, nearest_steps

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_TOLERANCE = 1 / 24  # of a step: what bf16 does to a grid of float16. 32 weights do not lie so by chance
_PART_WEIGHTS = 1 << 17  # at once
_FIRST_ROWS = 8  # that are looked at before the others
_BLOCKS = {name: (block, size_bytes) for name, block, size_bytes in TENSOR_TYPES.values()}
# How many scales of scales are tried, and in models of how many weights still the more of them (minutes each 100M).
_MORE, _FEWER, _SMALL = 512, 64, 1 << 29


def keep_grid(
    source: Path, out: Path, importance: Mapping[str, Floats] | None = None, on_progress: Progress | None = None
) -> None:
    """Rewrite blocks of `out`, a GGUF file, that lie on Q4_0's grid in `source`, the same tensors in f32, f16 or bf16.

    `importance` by tensor name, float32 [columns], weighs the errors of a row. `on_progress` hears of tensors once one
    is rewritten: seconds (Q8_0) to minutes (K-quants) per 100M weights that lie on the grid, nothing for others.
    """
    stored = {tensor.name: tensor for tensor in read_header(source).tensors}
    old, new = np.memmap(source, np.uint8, "r"), np.memmap(out, np.uint8, "r+")
    header = read_header(out)
    tensors, tries = header.tensors, _MORE if header.n_weights <= _SMALL else _FEWER
    for number, tensor in enumerate(tensors, 1):
        if tensor.type not in _WRITERS:
            continue
        columns = tensor.shape[0]
        weights = np.asarray((importance or {}).get(tensor.name, np.ones(columns)), np.float32)
        theirs, ours = _rows(old, stored[tensor.name]), _rows(new, tensor)
        if not _grid(_floats(theirs[:_FIRST_ROWS], stored[tensor.name].type).reshape(-1, BLOCK))[2].any():
            continue
        step = max(1, _PART_WEIGHTS // columns)
        for at in range(0, len(ours), step):
            values = _floats(theirs[at : at + step], stored[tensor.name].type)
            _keep(values, ours[at : at + step], tensor.type, weights, tries)
        if on_progress is not None:
            on_progress(number, len(tensors))
    new.flush()


def _rows(file: NDArray[np.uint8], tensor: GgufTensor) -> Bytes:
    """The bytes of a tensor, row by row."""
    block, size_bytes = _BLOCKS[tensor.type]
    lies = file[tensor.start : tensor.start + tensor.size_bytes]
    return lies.reshape(-1, tensor.shape[0] // block * size_bytes)


def _floats(rows: Bytes, kind: str) -> Floats:
    try:
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize
    except ImportError as error:
        raise MissingDependency("gguf", "convert") from error
    values: Floats = dequantize(np.ascontiguousarray(rows), GGMLQuantizationType[kind])
    return values


def _grid(blocks: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """The step [n] and the steps [n, 32] of each block [n, 32], and whether it lies on Q4_0's grid."""
    step = extremes(blocks) / -8
    steps = nearest_steps(blocks, step, 8)
    squares = np.square(steps).sum(axis=-1)
    # What bf16 did to the largest weight alone would be in every other: the step that suits all of them best.
    step = np.divide((blocks * steps).sum(axis=-1), squares, out=np.zeros_like(step), where=squares > 0)
    lies = (np.abs(blocks - step[:, None] * steps) <= np.abs(step)[:, None] * _TOLERANCE).all(axis=-1)
    return step, steps, lies & np.isfinite(step)


def _keep(values: Floats, rows: Bytes, kind: str, importance: Floats, tries: int) -> None:
    """Rewrite the blocks among `rows`, which hold `values` [rows, columns], whose old grid keeps more of them."""
    write, (size, size_bytes) = _WRITERS[kind], _BLOCKS[kind]
    step, steps, lies = _grid(values.reshape(-1, BLOCK))
    each = size // BLOCK
    chosen = np.flatnonzero(lies.reshape(-1, each).all(axis=-1))
    if not len(chosen):
        return
    blocks = rows.reshape(-1, size_bytes)
    written = write(step.reshape(-1, each)[chosen], steps.reshape(-1, each, BLOCK)[chosen], tries)
    exact = values.reshape(-1, size)[chosen]
    weights = np.broadcast_to(importance, values.shape).reshape(-1, size)[chosen]

    def error(stored: Bytes) -> Floats:
        squares: Floats = (weights * np.square(_floats(stored, kind).reshape(-1, size) - exact)).sum(axis=-1)
        return squares

    better = error(written) < error(blocks[chosen])
    blocks[chosen[better]] = written[better]


def _write_q8_0(step: Floats, steps: Floats, tries: int) -> Bytes:
    """An eighth of a step, eight times as often: as exact, and far from what 8 bits hold."""
    scales = (step / 8).astype("<f2").view(np.uint8)
    return np.concatenate([scales, (8 * steps[:, 0]).astype(np.int8).view(np.uint8)], axis=-1)


def _write_q6_k(step: Floats, steps: Floats, tries: int) -> Bytes:
    """Weights are d * scale * q, with 8-bit scales: a step is one, two or four of the kind's own."""
    units = np.array([4, 2, 1], np.float32)
    d = _unit(step, 4 * 127, tries)  # [n, tries]
    ideal = step[:, None, :, None] / (d[:, :, None, None] * units)
    scales = np.clip(np.rint(ideal), -127, 127)
    off = np.abs(scales * d[:, :, None, None] * units - step[:, None, :, None])  # [n, tries, 8, units]
    best = np.square(off.min(axis=-1)).sum(axis=-1).argmin(axis=-1)
    d, scales, off = (_taken(array, best) for array in (d, scales, off))
    unit = off.argmin(axis=-1)
    scale = np.take_along_axis(scales, unit[..., None], axis=-1)[..., 0]
    q = (steps * units[unit][..., None] + 32).astype(np.uint8).reshape(-1, 2, 4, 32)
    low = q & 15
    low = np.concatenate([low[:, :, :2] | low[:, :, 2:] << 4], axis=-1).reshape(-1, 128)
    high = q >> 4
    high = (high[:, :, 0] | high[:, :, 1] << 2 | high[:, :, 2] << 4 | high[:, :, 3] << 6).reshape(-1, 64)
    eight = np.repeat(scale.astype(np.int8), 2, axis=-1).view(np.uint8)
    return np.concatenate([low, high, eight, d[:, None].astype("<f2").view(np.uint8)], axis=-1)


def _write_q4_k(step: Floats, steps: Floats, tries: int) -> Bytes:
    """Weights are d * scale * q - dmin * minimum, with 6 bits for scale and minimum: a minimum is 8 steps, or 7."""
    down = step < 0
    width: Floats = np.abs(step)
    q = np.where(down[..., None], 7 - steps, steps + 8)
    mean: Floats = q.mean(axis=-1, dtype=np.float32)
    spread = q.var(axis=-1)
    d = _unit(width, 63, tries)
    scales = _six_bits(width[:, None] / d[:, :, None])
    best = (np.square(scales * d[:, :, None] - width[:, None]) * spread[:, None]).sum(axis=-1).argmin(axis=-1)
    d, scales = _taken(d, best), _taken(scales, best)
    # What is wrong with a scale is wrong with each weight; the minimum takes the mean of that away.
    ideal: Floats = np.where(down, 7, 8).astype(np.float32) * width + (scales * d[:, None] - width) * mean
    dmin = _unit(ideal, 63, tries)
    minima = _six_bits(ideal[:, None] / dmin[:, :, None])
    best = np.square(minima * dmin[:, :, None] - ideal[:, None]).sum(axis=-1).argmin(axis=-1)
    dmin, minima = _taken(dmin, best), _taken(minima, best)
    s, m = scales.astype(np.uint8), minima.astype(np.uint8)
    sixes = [s[:, :4] | s[:, 4:] >> 4 << 6, m[:, :4] | m[:, 4:] >> 4 << 6, s[:, 4:] & 15 | (m[:, 4:] & 15) << 4]
    halves = q.astype(np.uint8).reshape(-1, 4, 2, 32)
    packed = (halves[:, :, 0] | halves[:, :, 1] << 4).reshape(-1, 128)
    both = np.stack([d, dmin], axis=-1).astype("<f2").view(np.uint8)
    return np.concatenate([both, *sixes, packed], axis=-1)


def _unit(steps: Floats, most: int, tries: int) -> Floats:
    """Scales of scales to try [n, tries], as float16 holds them, for `steps` [n, 8] in numbers up to `most`.

    With each the largest step is another number, between a half of the largest number there is and that one itself.
    """
    largest = np.maximum(np.abs(steps).max(axis=-1, keepdims=True), most * 2.0**-20)
    shares = np.linspace(0.5, 1, tries, dtype=np.float32)
    tried: Floats = (largest / (most * shares)).astype(np.float16).astype(np.float32)
    return tried


def _six_bits(values: Floats) -> Floats:
    rounded: Floats = np.clip(np.rint(values), 0, 63)
    return rounded


def _taken(array: Floats, best: NDArray[np.intp]) -> Floats:
    """What lies at `best` [n] of the second axis."""
    taken: Floats = array[np.arange(len(best)), best]
    return taken


_WRITERS: dict[str, Callable[[Floats, Floats, int], Bytes]] = {
    "Q8_0": _write_q8_0, "Q6_K": _write_q6_k, "Q4_K": _write_q4_k,
}  # fmt: skip
