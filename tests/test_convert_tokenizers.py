"""A tokenizer that llama.cpp does not know comes along to ONNX as it is, and is refused for GGUF."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unicodedata import is_normalized

import pytest
from tokenizers import Tokenizer, models, trainers

from tests.checkpoints import write_checkpoint
from tests.texts import many_texts
from tests.tiny import PRE_TOKENIZERS, tiny_tokenizer_json
from toolace_edge.engines.onnx import OnnxEngine
from toolace_edge.errors import ModelError
from toolace_edge.formats.compact import SPECIAL_TOKENS

pytest.importorskip("onnx")

from toolace_edge.convert.onnx import convert_onnx

SIZE = 1600
CORPUS = tuple(many_texts(600, seed=7))
# How Mistral's newer models cut: words by their capitals, numbers by their digits.
UPPER, LOWER = (rf"[{kinds}\p{{Lm}}\p{{Lo}}\p{{M}}]" for kinds in (r"\p{Lu}\p{Lt}", r"\p{Ll}"))
BEFORE = r"[^\r\n\p{L}\p{N}]?"
TEKKEN = (
    rf"{BEFORE}{UPPER}*{LOWER}+|{BEFORE}{UPPER}+{LOWER}*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def tokenizer_json(pre: str) -> str:
    """One whose merges reach across the borders of its pre-tokenizer, so that each border counts."""
    if pre != "tekken":
        return tiny_tokenizer_json(SIZE, pre=pre, corpus=CORPUS)
    raw = json.loads(tiny_tokenizer_json(SIZE, corpus=CORPUS))
    raw["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = TEKKEN
    return json.dumps(raw)


@pytest.mark.slow
@pytest.mark.parametrize("pre", [*PRE_TOKENIZERS, "tekken"])
def test_two_thousand_texts_become_the_same_tokens(pre: str, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", tokenizer_json(pre), vocab_size=SIZE)
    plain, special = (Tokenizer.from_file(str(source / "tokenizer.json")) for _ in range(2))
    plain.encode_special_tokens = True
    with OnnxEngine(convert_onnx(source, tmp_path / "m", precision="fp32", name="m"), threads=1) as engine:
        for i, text in enumerate(many_texts(2000, SPECIAL_TOKENS)):
            ids = engine.encode(text)
            assert ids == plain.encode(text, add_special_tokens=False).ids, repr(text)
            assert engine.encode(text, special=True) == special.encode(text, add_special_tokens=False).ids, repr(text)
            if pre != "qwen2":  # which composes characters first
                assert engine.decode(ids) == text.encode()
            if i % 10 == 0 and not any(name in text for name in SPECIAL_TOKENS):
                forced = engine.tokenizer.tokenize_str(text)  # what a grammar forces is never composed
                assert forced == ids or not is_normalized("NFC", text), repr(text)
                assert engine.decode(forced) == text.encode()


def test_a_way_to_cut_that_llama_cpp_only_comes_near_to_is_refused_for_gguf(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    pytest.importorskip("llama_cpp")
    from toolace_edge.convert.gguf import convert_gguf

    source = write_checkpoint(tmp_path / "source", tokenizer_json("tekken"), vocab_size=SIZE)
    with pytest.raises(ModelError, match=r"is none that llama\.cpp follows exactly"):
        convert_gguf(source, tmp_path / "out" / "m.gguf", name="m")
    assert not (tmp_path / "out").exists()


def changed(**parts: Any) -> str:
    """The tiny tokenizer with other members: those of `model` and of the first pre-tokenizer are added to."""
    raw = json.loads(tiny_tokenizer_json())
    raw["model"].update(parts.pop("model", {}))
    raw["pre_tokenizer"]["pretokenizers"][-1].update(parts.pop("step", {}))
    return json.dumps({**raw, **parts})


def unigram() -> str:
    tokenizer = Tokenizer(models.Unigram())
    trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=["<unk>", *SPECIAL_TOKENS], unk_token="<unk>")
    tokenizer.train_from_iterator(["the quick brown fox jumps over the lazy dog"], trainer)
    return str(tokenizer.to_str())


SPACES = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
REFUSED = {
    "dropout": (lambda: changed(model={"dropout": 0.3}), "dropout 0.3"),
    "prefix space": (lambda: changed(step={"add_prefix_space": True}), "step ByteLevel puts something before"),
    "metaspace": (lambda: changed(pre_tokenizer=SPACES, decoder=SPACES), "step Metaspace puts something before"),
    "prepended": (
        lambda: changed(normalizer={"type": "Prepend", "prepend": "▁"}),
        "step Prepend puts something before",
    ),
    "no decoder": (lambda: changed(decoder=None), "no ByteLevel decoder"),
    "words": (lambda: changed(model={"type": "WordPiece"}), "it is a WordPiece tokenizer"),
    "unigram": (unigram, "it is a Unigram tokenizer"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_tokenizer_whose_parts_depend_on_each_other_is_refused(case: str, tmp_path: Path) -> None:
    make, says = REFUSED[case]
    source = write_checkpoint(tmp_path / "source", make())
    with pytest.raises(ModelError, match=says) as raised:
        convert_onnx(source, tmp_path / "m", precision="fp32", name="m")
    assert "tokenizer.json" in str(raised.value)
    assert not (tmp_path / "m").exists()


def test_what_published_tokenizers_have_is_no_reason_to_refuse(tmp_path: Path) -> None:
    """Llama 3's decoder has an add_prefix_space that does nothing; old files do not name their kind of model."""
    raw = json.loads(
        changed(decoder={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True})
    )
    del raw["model"]["type"]
    raw["decoder"] = {"type": "Sequence", "decoders": [raw["decoder"]]}
    source = write_checkpoint(tmp_path / "source", json.dumps(raw))
    assert convert_onnx(source, tmp_path / "m", precision="fp32", name="m").exists()


def test_a_tokenizer_that_the_grammars_cannot_use_is_refused_before_there_is_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_self: OnnxEngine) -> None:
        raise ModelError("not a byte-level tokenizer.")

    monkeypatch.setattr(OnnxEngine, "tokenizer", property(fail))
    with pytest.raises(ModelError, match="byte-level"):
        convert_onnx(write_checkpoint(tmp_path / "source"), tmp_path / "m", precision="fp32", name="m")
    assert not (tmp_path / "m").exists()
