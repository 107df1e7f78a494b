"""Reads just enough of an ONNX file to know that it is safe to hand to the native library.

The engine runs what our converter writes and nothing else: one flat graph of a few operators, weights inside. So a
file with references to other files, nested graphs, functions or foreign operators is refused here. ONNX is protobuf:
a message is a row of fields, each a varint (number << 3 | wire type) and then a varint (0), 8 bytes (1), a length and
that many bytes (2) or 4 bytes (5). No other wire type is in use.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from toolace_edge.errors import ModelError

OPERATORS = frozenset(
    {
        "Add",
        "Cast",
        "Gather",
        "GatherBlockQuantized",
        "GroupQueryAttention",
        "MatMul",
        "MatMulNBits",
        "Mul",
        "QuickGelu",
        "Reshape",
        "SimplifiedLayerNormalization",
        "SkipSimplifiedLayerNormalization",
        "Slice",
        "Split",
        "Transpose",
    }
)
# Field numbers of onnx.proto.
_MODEL_GRAPH, _MODEL_FUNCTIONS = 7, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_OP, _NODE_ATTRIBUTE = 4, 5
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14
_ATTRIBUTE_NESTED = frozenset({5, 6, 10, 11, 22, 23})  # t, g, tensors, graphs, sparse_tensor, sparse_tensors
_FIXED_BYTES = {1: 8, 5: 4}


def check_onnx(file: Path, content: bytes) -> None:
    """ModelError unless `content`, read from `file`, is a whole model of the kind that convert/onnx.py writes."""
    try:
        problem = _problem(memoryview(content))
    except ValueError as error:
        raise ModelError(f"{file} is not an ONNX model, or it is cut short ({error}).") from error
    if problem:
        raise ModelError(f"{file} is not a model that this engine runs: it has {problem}.")


def _problem(model: memoryview) -> str:
    graphs = 0
    for number, value in _fields(model):
        if number == _MODEL_FUNCTIONS:
            return "functions of its own"
        if number == _MODEL_GRAPH:
            graphs += 1
            problem = _graph_problem(_message(value))
            if problem:
                return problem
    return "" if graphs == 1 else f"{graphs} graphs"


def _graph_problem(graph: memoryview) -> str:
    for number, value in _fields(graph):
        if number == _GRAPH_SPARSE:
            return "sparse weights"
        if number == _GRAPH_INITIALIZER:
            fields = {field for field, _ in _fields(_message(value))}
            if fields & {_TENSOR_EXTERNAL, _TENSOR_LOCATION}:
                return "weights in another file"
        if number == _GRAPH_NODE:
            problem = _node_problem(_message(value))
            if problem:
                return problem
    return ""


def _node_problem(node: memoryview) -> str:
    for number, value in _fields(node):
        if number == _NODE_OP and bytes(_message(value)).decode("ascii", "replace") not in OPERATORS:
            return f"the operator {bytes(_message(value)).decode('ascii', 'replace')[:40]!r}"
        if number == _NODE_ATTRIBUTE and {field for field, _ in _fields(_message(value))} & _ATTRIBUTE_NESTED:
            return "graphs or tensors inside a node"
    return ""


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """(field number, value) of each field; nothing is copied. ValueError where the message is malformed."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(message, at)
        elif wire in _FIXED_BYTES:
            size = _FIXED_BYTES[wire]
        else:
            raise ValueError(f"wire type {wire}")
        if size > len(message) - at:
            raise ValueError("a field reaches past the end")
        yield number, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """(value, where it ends)."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("it ends inside a number")
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number is too long")


def _message(value: memoryview | int) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message should be")
    return value
