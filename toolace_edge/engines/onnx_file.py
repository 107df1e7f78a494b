"""Reads just enough of an ONNX file to know that it is safe to hand to the native library.

The engine runs what our converter writes, or has optimum write, and nothing else: one flat graph of known operators.
So a file with nested graphs, functions or foreign operators is refused here, and so are weights in a file that does
not lie beside it: a path, an address in memory (onnxruntime knows a name for that), a place without an end. ONNX is
protobuf: a message is a row of fields, each a varint (number << 3 | wire type) and then a varint (0), 8 bytes (1), a
length and that many bytes (2) or 4 bytes (5). No other wire type is in use.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from toolace_edge.errors import ModelError

# What onnx_graph.py of the converter builds with.
_OWN = frozenset(
    {
        "Add",
        "Cast",
        "DequantizeLinear",
        "Expand",
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
# What optimum's exporter makes of the same families, and onnxruntime's dynamic quantization of that.
_EXPORTED = frozenset(
    """And Concat Constant ConstantOfShape Cos DequantizeLinear Div DynamicQuantizeLinear Equal Expand Flatten Identity
    IsNaN LessOrEqual MatMulInteger Neg Pow Range ReduceMean Shape Sigmoid Sin Softmax Sqrt Unsqueeze Where""".split()
)
OPERATORS = _OWN | _EXPORTED
# Field numbers of onnx.proto.
_MODEL_GRAPH, _MODEL_FUNCTIONS = 7, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_OP, _NODE_ATTRIBUTE = 4, 5
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_ATTRIBUTE_TENSOR = 5
_ATTRIBUTE_NESTED = frozenset({6, 10, 11, 22, 23})  # g, tensors, graphs, sparse_tensor, sparse_tensors
_FIXED_BYTES = {1: 8, 5: 4}


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes `start` to `end` of the file `name` beside the model: a tensor."""

    name: str
    start: int
    end: int


class _Unknown(Exception):
    """What a model has that none of ours has."""


def check_onnx(file: Path, content: bytes) -> list[Span]:
    """ModelError unless `content`, read from `file`, is a whole model of the kind that convert/onnx.py writes.

    Returns where the weights lie that are not inside; that these places exist is for the caller to see.
    """
    try:
        graphs = [graph for number, graph in _fields(memoryview(content)) if _is_graph(number)]
        if len(graphs) != 1:
            raise _Unknown(f"{len(graphs)} graphs")
        return [span for tensor in _tensors(_message(graphs[0])) for span in _span(tensor)]
    except ValueError as error:
        raise ModelError(f"{file} is not an ONNX model, or it is cut short ({error}).") from error
    except _Unknown as found:
        raise ModelError(f"{file} is not a model that this engine runs: it has {found}.") from found


def _is_graph(number: int) -> bool:
    if number == _MODEL_FUNCTIONS:
        raise _Unknown("functions of its own")
    return number == _MODEL_GRAPH


def _tensors(graph: memoryview) -> Iterator[memoryview]:
    """The weights of a graph, those in its nodes included, once the rest is known."""
    for number, value in _fields(graph):
        if number == _GRAPH_SPARSE:
            raise _Unknown("sparse weights")
        if number == _GRAPH_INITIALIZER:
            yield _message(value)
        if number == _GRAPH_NODE:
            yield from _node_tensors(_message(value))


def _node_tensors(node: memoryview) -> Iterator[memoryview]:
    for number, value in _fields(node):
        if number == _NODE_OP and _text(value) not in OPERATORS:
            raise _Unknown(f"the operator {_text(value)[:40]!r}")
        if number != _NODE_ATTRIBUTE:
            continue
        fields = list(_fields(_message(value)))
        tensors = [_message(inside) for field, inside in fields if field == _ATTRIBUTE_TENSOR]
        if len(tensors) > 1 or any(field in _ATTRIBUTE_NESTED for field, _ in fields):  # protobuf would join two
            raise _Unknown("a graph inside a node")
        yield from tensors


def _span(tensor: memoryview) -> Iterator[Span]:
    """Where a tensor lies that is not inside: one span, or none. `/` and `..` are in no name of a file in a folder."""
    entries = [_entry(_message(value)) for number, value in _fields(tensor) if number == _TENSOR_EXTERNAL]
    outside = any(number == _TENSOR_LOCATION and value != 0 for number, value in _fields(tensor))
    if not entries and not outside:
        return
    place = dict(entries)
    name, numbers = place.get("location", ""), [place.get(key, "") for key in ("offset", "length")]
    if len(place) != len(entries) or not all(number.isascii() and number.isdecimal() for number in numbers):
        raise _Unknown("weights in another file, without their place in it")
    if not name or name in (".", "..") or any(one in name for one in "/\\:\0"):
        raise _Unknown(f"weights in another file, {name[:80]!r}, which is none beside it")
    start, size = map(int, numbers)
    yield Span(name, start, start + size)


def _entry(entry: memoryview) -> tuple[str, str]:
    fields = dict(_fields(entry))
    return _text(fields.get(_ENTRY_KEY, memoryview(b""))), _text(fields.get(_ENTRY_VALUE, memoryview(b"")))


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


def _text(value: memoryview | int) -> str:
    return bytes(_message(value)).decode("utf-8", "replace")
