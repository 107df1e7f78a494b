"""A GGUF file of ours is what llama.cpp's own converter makes of the same checkpoint, number by number, key by key."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.checkpoints import CONFIG, FAMILIES, random_tensors, write_checkpoint, write_safetensors
from tests.llama_cpp_converter import KINDS, NotToBeHad, convert_all, converter_folder
from tests.tiny import tiny_tokenizer_json

pytestmark = pytest.mark.slow
gguf = pytest.importorskip("gguf")
for library in ("llama_cpp", "torch", "transformers"):
    pytest.importorskip(library)

from toolace_edge.convert.gguf import convert_gguf  # noqa: E402
from toolace_edge.convert.gguf_quantize import quantize  # noqa: E402
from toolace_edge.formats.compact import SPECIAL_TOKENS  # noqa: E402

# The dtype that the checkpoint is stored in, where it is not float32.
STORED = {"llama_of_bf16": "BF16", "llama_of_f16": "F16"}
SOURCES: dict[str, dict[str, Any]] = {**FAMILIES, **{name: {} for name in STORED}}
# What our files have besides. A reader that does not know `toolace.` passes over it. Prompts bring their own first
# token. Of the sizes, llama.cpp takes what these say from others where they are missing.
OURS = {"toolace.format", "toolace.normalizer", "tokenizer.ggml.add_bos_token"}
SIZES = {"rope.dimension_count", "vocab_size", "attention.key_length", "attention.value_length"}
# The one tensor that is computed, not copied: in float64 here, in float32 there.
COMPUTED = "rope_freqs.weight"


def pre_of(source: str) -> str:
    return "qwen2" if source.startswith("qwen") else "llama-bpe"


def write_source(folder: Path, source: str) -> Path:
    """The checkpoint, with what transformers and llama.cpp's converter read beside the weights."""
    write_checkpoint(folder, tiny_tokenizer_json(pre=pre_of(source)), **SOURCES[source])
    if source in STORED:
        write_safetensors(folder / "model.safetensors", random_tensors(CONFIG), STORED[source])
    begin, end = SPECIAL_TOKENS[CONFIG["bos_token_id"]], SPECIAL_TOKENS[CONFIG["eos_token_id"]]
    facts = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": begin, "eos_token": end}
    facts |= {"chat_template": "{{ messages }}"}
    (folder / "tokenizer_config.json").write_text(json.dumps(facts))
    return folder


@dataclass(frozen=True)
class Pair:
    """Two files of the same checkpoint and kind."""

    theirs: Path
    ours: Path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Pair]:
    """What llama.cpp's converter and ours make of each checkpoint, by checkpoint and kind."""
    try:
        converter = converter_folder()
    except NotToBeHad as error:
        pytest.skip(f"llama.cpp's converter is not on this machine and cannot be downloaded: {error}")
    root = tmp_path_factory.mktemp("official")
    jobs, pairs = [], {}
    for source in SOURCES:
        folder = write_source(root / source, source)
        for kind in KINDS:
            pair = Pair(root / f"{source}-{kind}-theirs.gguf", root / f"{source}-{kind}.gguf")
            jobs.append({"source": str(folder), "kind": kind, "out": str(pair.theirs)})
            jobs[-1] |= {"name": source, "pre": pre_of(source)}
            if kind == "q8_0":
                quantize(pairs[source, "f32"].ours, pair.ours, "Q8_0")
            else:
                convert_gguf(folder, pair.ours, kind=kind, name=source)
            pairs[source, kind] = pair
    convert_all(converter, jobs)
    return pairs


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", SOURCES)
def test_tensors_are_bit_for_bit_those_of_llama_cpps_converter(
    source: str, kind: str, pairs: dict[tuple[str, str], Pair]
) -> None:
    pair = pairs[source, kind]
    expected = {one.name: one for one in gguf.GGUFReader(pair.theirs).tensors}
    found = {one.name: one for one in gguf.GGUFReader(pair.ours).tensors}
    assert found.keys() == expected.keys()
    for name, one in found.items():
        other = expected[name]
        assert (one.tensor_type, one.shape.tolist()) == (other.tensor_type, other.shape.tolist()), name
        if name == COMPUTED:
            np.testing.assert_array_max_ulp(one.data, other.data, maxulp=2)
        else:
            assert one.data.tobytes() == other.data.tobytes(), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", SOURCES)
def test_metadata_is_that_of_llama_cpps_converter_key_by_key(
    source: str, kind: str, pairs: dict[tuple[str, str], Pair]
) -> None:
    expected, found = contents(pairs[source, kind].theirs), contents(pairs[source, kind].ours)
    assert {key: found.get(key) for key in expected} == expected
    architecture = expected["general.architecture"][1]
    assert found.keys() - expected.keys() <= OURS | {f"{architecture}.{size}" for size in SIZES}


def contents(file: Path) -> dict[str, Any]:
    """Every key of the file with its value, and the type it is written in; not the reader's own three on the header."""
    fields = gguf.GGUFReader(file).fields.values()
    return {one.name: (one.types, one.contents()) for one in fields if not one.name.startswith("GGUF.")}
