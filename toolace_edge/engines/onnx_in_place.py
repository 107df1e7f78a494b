"""Runs the graph that convert/onnx_graph.py builds, whose cache stays where it is (that file names the inputs).

The cache is one float32 array [1, n_kv_heads, n_ctx, head_dim] for the keys and one for the values of each layer,
bound once as the graph's past and its present: a call writes its own positions in place, and what is forgotten is only
no longer counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolace_edge.engines.onnx_native import native


class InPlaceGraph:
    """`states` names the cache's parts, each [n_kv_heads, n_ctx, head_dim] as `shape` says. MemoryError, ValueError."""

    INPUTS = frozenset({"input_ids", "logits_from", "seqlens_k", "total_sequence_length"})

    def __init__(self, session: Any, states: Sequence[str], shape: tuple[int, int, int]) -> None:
        self._session = session
        # The system hands out this memory as it is first written.
        self._arrays = [np.zeros((1, *shape), np.float32) for _ in states]
        self._values = [native().OrtValue.ortvalue_from_numpy(array) for array in self._arrays]
        self._binding = session.io_binding()
        for name, value in zip(states, self._values, strict=True):
            self._binding.bind_ortvalue_input(f"past_key_values.{name}", value)
            self._binding.bind_ortvalue_output(f"present.{name}", value)

    def run(self, ids: NDArray[np.int64], past: int, rows: NDArray[np.float32]) -> None:
        binding, count = self._binding, ids.size
        length = past + count
        binding.bind_cpu_input("input_ids", ids.reshape(1, count))
        binding.bind_cpu_input("logits_from", np.asarray([count - len(rows)], np.int64))
        binding.bind_cpu_input("seqlens_k", np.asarray([length - 1], np.int32))
        binding.bind_cpu_input("total_sequence_length", np.asarray(length, np.int32))
        binding.bind_output("logits", "cpu", 0, np.float32, (1, *rows.shape), rows.ctypes.data)
        self._session.run_with_iobinding(binding)

    def read(self, length: int) -> NDArray[np.float32]:
        return np.stack([array[0, :, :length] for array in self._arrays])

    def write(self, states: NDArray[np.float32]) -> None:
        for array, saved in zip(self._arrays, states, strict=True):
            array[0, :, : saved.shape[1]] = saved
