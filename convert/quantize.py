"""Block quantization of a weight matrix, in the layout of onnxruntime's MatMulNBits and GatherBlockQuantized.

A row [in_features] of a weight is cut into blocks of BLOCK numbers; a block is one scale and BLOCK unsigned integers of
`bits` bits, the value being (q - 2**(bits - 1)) * scale. Four-bit numbers lie two to a byte, the earlier one in the low
half. Symmetric, so no zero points are stored and the kernels skip them. Scales are numbers that fp16 holds, as in
GGUF's Q4_0 and Q8_0, unless a weight's are beyond its range: a weight that lies on one of these grids already keeps
its bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

BLOCK = 32
# Fractions of the largest number that the scale is tried at: clipping it a little often costs less than coarse steps.
INT4_SHRINKS = tuple(float(s) for s in np.linspace(0.75, 1.05, 13))
# Eight bits need no clipping. The first is a power of two times the scale of a 4-bit grid, the second that of Q8_0's.
INT8_SHRINKS = (1.0, -128 / 127)
ROWS_AT_ONCE = 4096  # bounds the search's memory


@dataclass(frozen=True, slots=True)
class BlockQuantized:
    """`packed` uint8 [rows, blocks, BLOCK * bits / 8], `scales` float16 (float32 beyond its range) [rows, blocks]."""

    bits: Literal[4, 8]
    packed: NDArray[np.uint8]
    scales: NDArray[np.float16] | NDArray[np.float32]

    def dequantize(self) -> NDArray[np.float32]:
        """The float32 [rows, columns] matrix that the kernels compute with."""
        rows, blocks, _ = self.packed.shape
        q = self.packed
        if self.bits == 4:
            q = np.stack([q & 15, q >> 4], axis=-1).reshape(rows, blocks, BLOCK)
        values: NDArray[np.float32] = (q.astype(np.float32) - 2 ** (self.bits - 1)) * self.scales.astype(np.float32)[
            ..., None
        ]
        return values.reshape(rows, blocks * BLOCK)


def quantizable(weight: NDArray[np.float32]) -> bool:
    """Whether whole blocks cover a row; where not, the tensor stays float32."""
    return weight.ndim == 2 and weight.shape[1] % BLOCK == 0


def stored_otherwise(counts: Mapping[tuple[int, str], int]) -> str:
    """A sentence on matrices of another kind than was asked for, their number by (columns, kind); "" for none."""
    if not counts:
        return ""
    parts = (f"{n} with rows of {columns} as {kind}" for (columns, kind), n in sorted(counts.items()))
    return f"Not every row divides into the blocks of the kind asked for, so stored otherwise: {', '.join(parts)}."


def quantize_blocks(weight: NDArray[np.float32], bits: Literal[4, 8]) -> BlockQuantized:
    """`weight` [rows, columns], columns a multiple of BLOCK; each row on its own, so the result is deterministic."""
    if not quantizable(weight):
        raise ValueError(f"a weight of shape {weight.shape} does not divide into rows of blocks of {BLOCK}")
    rows, columns = weight.shape
    blocks = weight.reshape(rows, columns // BLOCK, BLOCK)
    kind = _scale_type(blocks, bits)
    parts = [_quantize(blocks[at : at + ROWS_AT_ONCE], bits, kind) for at in range(0, rows, ROWS_AT_ONCE)]
    q, scales = (np.concatenate(pieces) for pieces in zip(*parts, strict=True))
    packed = (q[..., 0::2] | (q[..., 1::2] << 4)).astype(np.uint8) if bits == 4 else q
    return BlockQuantized(bits, packed, scales)


def _scale_type(blocks: NDArray[np.float32], bits: Literal[4, 8]) -> type[np.float16] | type[np.float32]:
    """float16 where it holds every scale of these blocks with full precision."""
    scales = np.maximum(blocks.max(axis=-1), -blocks.min(axis=-1)) / 2 ** (bits - 1)
    limits = np.finfo(np.float16)
    fits = (scales == 0) | ((scales > limits.tiny * 2) & (scales < limits.max / 2))
    return np.float16 if bool(fits.all()) else np.float32


def _quantize(
    blocks: NDArray[np.float32], bits: Literal[4, 8], kind: type[np.float16] | type[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """(q, scales) with the least squared error among the scales tried."""
    half = 2 ** (bits - 1)
    extreme = extremes(blocks)  # signed: -half can be reached, +half cannot
    best_scales = (extreme / -half).astype(kind)
    least = np.full(best_scales.shape, np.inf, np.float32)
    for shrink in INT4_SHRINKS if bits == 4 else INT8_SHRINKS:
        scales = (extreme / -half * shrink).astype(kind)
        held = nearest_steps(blocks, scales, half) * scales.astype(np.float32)[..., None]
        error = np.square(held - blocks).sum(axis=-1)
        best_scales = np.where(error < least, scales, best_scales)
        least = np.minimum(error, least)
    return (nearest_steps(blocks, best_scales, half) + half).astype(np.uint8), best_scales


def extremes(blocks: NDArray[np.float32]) -> NDArray[np.float32]:
    """The number of each block [..., n] that is farthest from zero, with its sign."""
    at = np.abs(blocks).argmax(axis=-1, keepdims=True)
    return np.take_along_axis(blocks, at, axis=-1)[..., 0]


def nearest_steps(blocks: NDArray[np.float32], scales: NDArray[Any], half: int) -> NDArray[np.float32]:
    """The nearest integers in [-half, half - 1]; a block of zeros (or of nearly nothing) gives zeros."""
    scales = scales.astype(np.float32)
    inverse = np.divide(1.0, scales, out=np.zeros_like(scales), where=np.abs(scales) > 1e-30)
    rounded: NDArray[np.float32] = np.clip(np.rint(blocks * inverse[..., None]), -half, half - 1)
    return rounded
