"""Writes a calibration, or other texts, into a finished model: toolace.json of a folder, the metadata of a GGUF file.

A GGUF file is a header, its keys and values, the tensors' places and, from an aligned offset, their data. Places count
from where the data begins, so a new key moves the data and changes nothing else: all of it is copied in one pass into
a file beside it, hashed on the way, and renamed.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from toolace_edge.engines.gguf_header import read_header
from toolace_edge.errors import InputError, MissingDependency
from toolace_edge.model_facts import FACTS_FILE, read_facts
from toolace_edge.registry import Entry
from toolace_edge.store import sha256_of

from .aside import replace_text

KEY = "toolace.calibration"
_STRING = 8  # GGUF's number of the type
_N_KEYS_AT = 16


def check_writable(entry: Entry) -> None:
    """InputError where the model stands in the store, under hashes that are not ours to renew."""
    if entry.manifest is not None:
        raise InputError(
            f"{entry.name} is kept with its hashes, and is not changed.",
            hint="Calibrate the file or folder that it was added from, and add it again.",
        )


def write_calibration(entry: Entry, calibration: Mapping[str, Any]) -> None:
    """Put `calibration` in the place of the model's old one."""
    check_writable(entry)
    if entry.kind == "onnx":
        facts = {**read_facts(entry.path), "calibration": dict(calibration)}
        replace_text(entry.path / FACTS_FILE, json.dumps(facts, indent=2) + "\n")
        return
    set_gguf_strings(entry.path, {KEY: json.dumps(dict(calibration))})


def set_gguf_strings(file: Path, values: Mapping[str, str]) -> None:
    """Set keys of a GGUF file to strings, written aside and renamed, and renew its hash where it has one."""
    try:
        import gguf
    except ImportError as error:
        raise MissingDependency("gguf", "convert") from error
    read_header(file)  # refuses what is damaged before a library without such checks reads it
    reader = gguf.GGUFReader(file)
    fields = [field for name, field in reader.fields.items() if not name.startswith("GGUF.")]
    spans = [
        (field.name, field.offset, field.offset + sum(int(part.nbytes) for part in field.parts)) for field in fields
    ]
    keys_end, data_start, alignment = max(end for _, _, end in spans), int(reader.data_offset), int(reader.alignment)
    places_end = max(
        tensor.field.offset + sum(int(part.nbytes) for part in tensor.field.parts) for tensor in reader.tensors
    )
    del reader  # the map of the file
    aside = file.with_name(f".{file.name}.part")
    try:
        with file.open("rb") as source, aside.open("wb") as target:
            kept = [(start, end) for name, start, end in spans if name not in values]
            source.seek(0)
            head = bytearray(source.read(_N_KEYS_AT + 8))
            struct.pack_into("<Q", head, _N_KEYS_AT, len(kept) + len(values))
            target.write(head)
            for start, end in kept:
                _copy(source, target, start, end)
            for key, value in values.items():
                target.write(_text(key) + struct.pack("<I", _STRING) + _text(value))
            _copy(source, target, keys_end, places_end)
            target.write(bytes(-target.tell() % alignment))
            source.seek(data_start)
            shutil.copyfileobj(source, target, 1 << 20)
        read_header(aside)
        shutil.copymode(file, aside)
        replace_hashed(aside, file)
    finally:
        aside.unlink(missing_ok=True)


def _text(value: str) -> bytes:
    content = value.encode()
    return struct.pack("<Q", len(content)) + content


def _copy(source: IO[bytes], target: IO[bytes], start: int, end: int) -> None:
    source.seek(start)
    target.write(source.read(end - start))


def replace_hashed(made: Path, out: Path) -> None:
    """`made` becomes `out`; OUT.sha256, as sha256sum writes it, is renewed where there is one.

    It is hashed before either is touched: whatever interrupts that leaves both as they were.
    """
    beside = out.with_name(out.name + ".sha256")
    text = f"{sha256_of(made)}  {out.name}\n" if beside.is_file() else None
    os.replace(made, out)
    if text is not None:
        replace_text(beside, text)
