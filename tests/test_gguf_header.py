"""No count, length or offset of a GGUF header is believed before it was held against the file."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from toolace_edge.engines.amx import probe_model
from toolace_edge.engines.gguf_header import TENSOR_TYPES, GgufHeader, read_header
from toolace_edge.errors import ModelError

MODEL = probe_model(width=32, vocab=8)


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


ARCHITECTURE = text("general.architecture") + u32(8) + text("llama")
LAYERS = text("llama.block_count") + u32(4) + u32(1)
TENSOR = text("a") + u32(1) + u64(32) + u32(0) + u64(0)


def gguf(*keys: bytes, tensors: tuple[bytes, ...] = (TENSOR,), version: int = 3, data: int = 128) -> bytes:
    """A file with our two obligatory keys before `keys`, and `data` bytes of tensors."""
    keys = (ARCHITECTURE, LAYERS, *keys)
    head = b"GGUF" + u32(version) + u64(len(tensors)) + u64(len(keys)) + b"".join(keys + tensors)
    return head + bytes(-len(head) % 32 + data)


def strings(key: str, *values: str | bytes) -> bytes:
    return text(key) + u32(9) + u32(8) + u64(len(values)) + b"".join(map(text, values))


@pytest.fixture
def read(tmp_path):
    def read(content: bytes) -> GgufHeader:
        (tmp_path / "m.gguf").write_bytes(content)
        return read_header(tmp_path / "m.gguf")

    return read


def test_a_sound_header_is_read(read):
    header = read(
        gguf(text("x.list") + u32(9) + u32(5) + u64(2) + struct.pack("<2i", -1, 7), strings("x.names", "é", "b"))
    )
    assert header.metadata["x.list"] == (-1, 7)
    assert header.metadata["x.names"] == ("é", "b")
    (tensor,) = header.tensors
    assert (tensor.name, tensor.type, tensor.shape, tensor.size_bytes) == ("a", "F32", (32,), 128)
    assert tensor.start % 32 == 0
    assert not header.quantized


def test_gguf_s_own_reader_sees_the_same(read, tmp_path):
    library = pytest.importorskip("gguf")
    header = read(MODEL)
    theirs = library.GGUFReader(tmp_path / "m.gguf")
    assert [(t.name, t.start, t.size_bytes) for t in header.tensors] == [
        (t.name, t.data_offset, t.n_bytes) for t in theirs.tensors
    ]
    assert {key: field.contents() for key, field in theirs.fields.items() if not key.startswith("GGUF.")} == dict(
        header.metadata
    )
    sizes = {int(kind): (kind.name, *sizes) for kind, sizes in library.GGML_QUANT_SIZES.items()}
    assert {kind: sizes.get(kind, known) for kind, known in TENSOR_TYPES.items()} == TENSOR_TYPES


BAD = {
    "nothing": (b"", "empty"),
    "another file": (b"PK\x03\x04" + bytes(100), "not a GGUF file"),
    "the first version": (gguf(version=1), "version 1"),
    "big endian": (gguf(version=3 << 24), "version"),
    "too many tensors": (b"GGUF" + u32(3) + u64(1 << 40) + u64(0), "number of tensors"),
    "too many keys": (b"GGUF" + u32(3) + u64(0) + u64(1 << 63), "number of keys"),
    "a key twice": (gguf(text("k") + u32(4) + u32(1), text("k") + u32(4) + u32(2)), "'k', is there twice"),
    "an empty key": (gguf(text("") + u32(4) + u32(1)), "empty"),
    "a long key": (gguf(u64(1 << 62) + b"k"), "length of key 2"),
    "a long string": (gguf(text("k") + u32(8) + u64(1 << 40)), "length of 'k'"),
    "a string past the end": (gguf(text("k") + u32(8) + u64(5000)), "ends inside 'k'"),
    "an unknown type": (gguf(text("k") + u32(77)), "unknown type 77"),
    "a long array": (gguf(text("k") + u32(9) + u32(4) + u64(1 << 60)), "length of 'k'"),
    "an array past the end": (gguf(text("k") + u32(9) + u32(10) + u64(1 << 20)), "ends inside 'k'"),
    "an array of arrays": (gguf(text("k") + u32(9) + u32(9) + u64(1)), "unknown type 9"),
    "an odd alignment": (gguf(text("general.alignment") + u32(4) + u32(24)), "power of two"),
    "no alignment": (gguf(text("general.alignment") + u32(4) + u32(0)), "power of two"),
    "an alignment in words": (gguf(text("general.alignment") + u32(8) + text("32")), "power of two"),
    "a long tensor name": (gguf(tensors=(text("a" * 64) + TENSOR[9:],)), "name of tensor 0"),
    "five dimensions": (gguf(tensors=(text("a") + u32(5) + bytes(64),)), "number of dimensions"),
    "no dimensions": (gguf(tensors=(text("a") + u32(0) + u32(0) + u64(0),)), "impossible shape"),
    "an empty shape": (gguf(tensors=(text("a") + u32(1) + u64(0) + u32(0) + u64(0),)), "impossible shape"),
    "half a block": (gguf(tensors=(text("a") + u32(1) + u64(33) + u32(8) + u64(0),)), "impossible shape"),
    "an unknown tensor type": (gguf(tensors=(text("a") + u32(1) + u64(32) + u32(31) + u64(0),)), "unknown type 31"),
    "a shape that overflows": (
        gguf(tensors=(text("a") + u32(2) + u64(1 << 62) + u64(4) + u32(0) + u64(0),)),
        "past the end",
    ),
    "data past the end": (gguf(data=127), "past the end"),
    "an offset into another": (gguf(tensors=(TENSOR[:-8] + u64(32),), data=256), "offset 32, not at 0"),
    "an offset beyond all": (gguf(tensors=(TENSOR[:-8] + u64(1 << 62),)), "offset"),
    "a tensor twice": (gguf(tensors=(TENSOR, TENSOR[:-8] + u64(128)), data=256), "'a' is there twice"),
    "a part of a model": (gguf(text("split.count") + u32(2) + struct.pack("<H", 3)), "one of 3 parts"),
    "no layers": (gguf().replace(LAYERS, LAYERS[:-4] + u32(0)), "block_count is 0"),
    "a token twice": (gguf(strings("tokenizer.ggml.tokens", "a", "a")), "token stands twice"),
    "a token twice before a zero": (gguf(strings("tokenizer.ggml.tokens", "a", "a\0b")), "token stands twice"),
    "tokens that are numbers": (gguf(text("tokenizer.ggml.tokens") + u32(4) + u32(5)), "list of strings"),
    "too few types": (
        gguf(
            strings("tokenizer.ggml.tokens", "a", "b"),
            text("tokenizer.ggml.token_type") + u32(9) + u32(5) + u64(1) + u32(1),
        ),
        "1 entries for 2 tokens",
    ),
    "an end outside": (
        gguf(strings("tokenizer.ggml.tokens", "a"), text("tokenizer.ggml.eos_token_id") + u32(4) + u32(1)),
        "eos_token_id is 1",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_header_is_refused_with_the_reason(name, read):
    content, reason = BAD[name]
    with pytest.raises(ModelError, match=reason) as caught:
        read(content)
    assert "m.gguf" in str(caught.value)


def test_a_file_that_is_not_there_or_is_a_folder_is_refused(tmp_path):
    for path in (tmp_path / "none.gguf", tmp_path):
        with pytest.raises(ModelError, match="cannot be read"):
            read_header(path)


def test_every_truncation_is_refused(read):
    for length in range(0, len(MODEL), 97):
        with pytest.raises(ModelError):
            read(MODEL[:length])


def test_random_damage_never_gives_another_error(read):
    dice = random.Random(0)
    for _ in range(300):
        content = bytearray(MODEL[:2000])
        for _ in range(dice.randint(1, 4)):
            content[dice.randrange(1100)] = dice.choice((0, 1, 9, 127, 128, 255))
        content += bytes(len(MODEL) - 2000)
        try:
            read(bytes(content))
        except ModelError:
            continue


@pytest.mark.slow
def test_what_passes_does_not_end_the_native_library(tmp_path):
    """In a child, as this is what must not happen. A wrong size or name is llama.cpp's own to refuse."""
    pytest.importorskip("llama_cpp")
    import subprocess
    import sys

    script = Path(__file__).with_name("fuzz_gguf.py")
    child = subprocess.run([sys.executable, script, tmp_path, "150"], capture_output=True, text=True, timeout=300)
    assert child.returncode == 0, child.stderr[-2000:]
