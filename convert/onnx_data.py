"""Weights in a file beside the graph, for models that do not fit into one protobuf message (2 GiB).

They lie one after the other, each on a page of its own as ONNX asks for, so that onnxruntime can map them into memory.
What is smaller than a page stays in the graph: shapes and norms, which onnxruntime wants to see as it loads.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from typing_extensions import Self

PAGE_BYTES = 4096


class DataFile:
    """The file `path`, written as tensors are added: only one of them is in memory at a time. Close it."""

    def __init__(self, path: Path) -> None:
        self._name, self._stream = path.name, path.open("wb")

    def add(self, values: NDArray[Any], name: str) -> onnx.TensorProto:
        """`values`, which are written now, as the graph names them."""
        values = np.ascontiguousarray(values)
        if values.nbytes < PAGE_BYTES:
            return numpy_helper.from_array(values, name)
        self._stream.write(bytes(-self._stream.tell() % PAGE_BYTES))
        tensor = TensorProto(name=name, dims=values.shape, data_location=TensorProto.EXTERNAL)
        tensor.data_type = helper.np_dtype_to_tensor_dtype(values.dtype)
        place = {"location": self._name, "offset": self._stream.tell(), "length": values.nbytes}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self._stream.write(values.astype(values.dtype.newbyteorder("<"), copy=False).data.cast("B"))
        return tensor

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
