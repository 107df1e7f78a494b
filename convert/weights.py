"""Reads the tensors of a checkpoint's safetensors files, one at a time, as float32.

A safetensors file is 8 bytes of header length (little endian), a JSON header {name: {dtype, shape, data_offsets}},
then raw little-endian numbers. Every offset is checked against the file before a byte of data is read; nothing is
unpickled. Our own reader, as numpy has no bfloat16 for the library to give.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolace_edge.errors import ModelError

HINT = "Give a folder as `save_pretrained` of transformers writes it: config.json, *.safetensors, tokenizer.json."
MAX_HEADER_BYTES = 100_000_000
NUMPY_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}


@dataclass(frozen=True, slots=True)
class TensorSlot:
    """Where a tensor lies: bytes `start` to `start + size_bytes` of `file`."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    size_bytes: int


def read_tensor(name: str, slot: TensorSlot) -> NDArray[np.float32]:
    """A fresh float32 array of `slot.shape`; the file is opened for this tensor only."""
    check_slot(name, slot, slot.shape)
    dtype = NUMPY_DTYPES[slot.dtype]
    raw = np.fromfile(slot.file, dtype=dtype, count=slot.size_bytes // dtype.itemsize, offset=slot.start)
    if slot.dtype == "BF16":  # the upper half of a float32
        raw = raw.astype(np.uint32)
        raw <<= np.uint32(16)  # in place: an embedding takes gigabytes
        raw = raw.view(np.float32)
    values: NDArray[np.float32] = raw.astype(np.float32, copy=False).reshape(slot.shape)
    if not np.isfinite(values).all():
        raise refused(slot.file, f"{name!r} holds numbers that are not finite")
    return values


def check_slot(name: str, slot: TensorSlot, shape: tuple[int, ...]) -> None:
    """ModelError unless `slot` holds numbers that can be read, in `shape`."""
    if slot.dtype not in NUMPY_DTYPES:
        raise refused(slot.file, f"{name!r} is stored as {slot.dtype}; F32, F16 and BF16 can be read")
    if slot.shape != shape:
        raise refused(slot.file, f"{name!r} has shape {list(slot.shape)}, but the model needs {list(shape)}")


def read_slots(folder: Path) -> dict[str, TensorSlot]:
    """Every tensor of the checkpoint in `folder`, from headers alone."""
    slots: dict[str, TensorSlot] = {}
    for file in _weight_files(folder):
        slots.update(read_file_slots(file))
    return slots


def _weight_files(folder: Path) -> list[Path]:
    """One file where there is one, as transformers takes it first, or the shards that an index names.

    Shards must lie in the folder itself.
    """
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.exists():
        return [single]
    if not index.exists():
        raise refused(folder, f"there is no model.safetensors, {other_weights(folder)}")
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise refused(index, "it names no weight files")
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise refused(index, f"{name!r} is not the name of a safetensors file in this folder")
    return [folder / name for name in names]


def other_weights(folder: Path) -> str:
    """What lies in `folder` in place of safetensors, as the end of a sentence."""
    pickles = sorted(path.name for suffix in ("bin", "pt", "pth", "ckpt") for path in folder.glob(f"*.{suffix}"))
    return f"only {pickles[0]}, a pickle, which is never opened" if pickles else "and no other weights"


def read_file_slots(file: Path) -> dict[str, TensorSlot]:
    """The tensors of one safetensors file, each checked to lie inside it."""
    try:
        size_bytes = file.stat().st_size
        with file.open("rb") as stream:
            prefix = stream.read(8)
            header_bytes: int = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
            if not 2 <= header_bytes <= min(MAX_HEADER_BYTES, size_bytes - 8):
                raise refused(file, "it is not a safetensors file, or it is cut short")
            header = json.loads(stream.read(header_bytes))
    except OSError as error:
        raise refused(file, f"it cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise refused(file, "it is not a safetensors file: its header is not JSON") from error
    if not isinstance(header, dict):
        raise refused(file, "it is not a safetensors file: its header is not an object")
    data = 8 + header_bytes
    header.pop("__metadata__", None)
    return {name: _slot(file, name, entry, data, size_bytes) for name, entry in header.items()}


def _slot(file: Path, name: str, entry: Any, data: int, size_bytes: int) -> TensorSlot:
    """One header entry; its length must be what dtype and shape say."""
    try:
        dtype, shape = str(entry["dtype"]), tuple(int(n) for n in entry["shape"])
        begin, end = (int(n) for n in entry["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise refused(file, f"the header entry of {name!r} is damaged") from error
    wanted = math.prod(shape) * NUMPY_DTYPES[dtype].itemsize if dtype in NUMPY_DTYPES else end - begin
    if min(shape, default=1) < 0 or not 0 <= begin <= end <= size_bytes - data or end - begin != wanted:
        raise refused(file, f"{name!r} does not lie inside the file; it is cut short or damaged")
    return TensorSlot(file, dtype, shape, data + begin, end - begin)


def read_json(file: Path) -> Mapping[str, Any]:
    """The JSON object in `file`."""
    try:
        value = json.loads(read_text(file))
    except ValueError as error:
        raise refused(file, f"it is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise refused(file, "it does not hold a JSON object")
    return value


def read_text(file: Path) -> str:
    """The UTF-8 text in `file`."""
    try:
        return file.read_text("utf-8")
    except OSError as error:
        raise refused(file, f"it cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise refused(file, "it is not UTF-8 text") from error


def refused(file: Path, why: str) -> ModelError:
    """The error for a checkpoint that cannot be converted."""
    return ModelError(f"{file}: {why}.", hint=HINT)
