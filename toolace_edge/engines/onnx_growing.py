"""Runs a graph as optimum exports it: the past goes in, and a present that is longer by the new tokens comes out.

    inputs   input_ids, position_ids int64 [1, n]; attention_mask int64 [1, past + n]
             past_key_values.{layer}.key|value float32 [1, n_kv_heads, past, head_dim]
    outputs  logits float32 [1, n, vocab]: those of every position
             present.{layer}.key|value float32 [1, n_kv_heads, past + n, head_dim]

So each call copies the cache, and forgetting tokens copies it once more; for that, every exporter writes such graphs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolace_edge.engines.onnx_native import native


class GrowingGraph:
    """`states` names the cache's parts, each [n_kv_heads, at most n_ctx, head_dim] as `shape` says."""

    INPUTS = frozenset({"input_ids", "attention_mask", "position_ids"})

    def __init__(self, session: Any, states: Sequence[str], shape: tuple[int, int, int]) -> None:
        self._session, self._names = session, tuple(states)
        self._outputs = ["logits", *(f"present.{name}" for name in states)]
        n_kv_heads, _, head_dim = shape
        self._cached = [_value(np.zeros((1, n_kv_heads, 0, head_dim), np.float32)) for _ in states]

    def run(self, ids: NDArray[np.int64], past: int, rows: NDArray[np.float32]) -> None:
        self._keep(past)
        places = np.arange(past, past + ids.size, dtype=np.int64)
        inputs = {f"past_key_values.{name}": value for name, value in zip(self._names, self._cached, strict=True)}
        inputs["input_ids"] = _value(ids.reshape(1, -1))
        inputs["position_ids"] = _value(places.reshape(1, -1))
        inputs["attention_mask"] = _value(np.ones((1, past + ids.size), np.int64))
        logits, *cached = self._session.run_with_ort_values(self._outputs, inputs)
        rows[:] = logits.numpy()[0, -len(rows) :]
        self._cached = cached

    def _keep(self, length: int) -> None:
        """Cut off what was rewound, now that something else follows."""
        if self._cached[0].shape()[2] > length:
            self.write(self.read(length))

    def read(self, length: int) -> NDArray[np.float32]:
        return np.stack([value.numpy()[0, :, :length] for value in self._cached])

    def write(self, states: NDArray[np.float32]) -> None:
        self._cached = [_value(np.ascontiguousarray(saved)[None]) for saved in states]


def _value(array: NDArray[Any]) -> Any:
    """An OrtValue over the array's own memory."""
    return native().OrtValue.ortvalue_from_numpy(array)
