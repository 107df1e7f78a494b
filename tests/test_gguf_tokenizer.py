"""llama.cpp cuts text with a converted vocabulary as tokenizers does with the original, or there is no conversion."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.checkpoints import write_checkpoint
from tests.texts import many_texts
from tests.tiny import PRE_TOKENIZERS, tiny_tokenizer_json
from toolace_edge.engines.gguf_header import read_header
from toolace_edge.engines.llama_vocabulary import borrowed_vocabulary, composes
from toolace_edge.engines.vocabulary import Vocabulary
from toolace_edge.errors import ModelError
from toolace_edge.formats.compact import SPECIAL_TOKENS

pytest.importorskip("gguf")
pytest.importorskip("llama_cpp")

from toolace_edge.convert import gguf_tokenizer
from toolace_edge.convert.gguf import convert_gguf

TAGS = ("<tool_call>", "</tool_call>", "Ünï")
CORPUS = tuple(many_texts(600, seed=7))
SIZE = 1600


def tokenizer_json(pre: str) -> str:
    """One whose merges reach across the borders of its pre-tokenizer, so that each border counts."""
    return tiny_tokenizer_json(SIZE - 20, SPECIAL_TOKENS, TAGS, pre=pre, corpus=CORPUS)


def convert(folder: Path, tokenizer: str) -> Path:
    source = write_checkpoint(folder / "model", tokenizer, vocab_size=SIZE)
    return convert_gguf(source, folder / "out" / "m.gguf", kind="f16", name="m")


@pytest.mark.slow
@pytest.mark.parametrize("pre", PRE_TOKENIZERS)
def test_two_thousand_texts_become_the_same_tokens(pre: str, tmp_path: Path) -> None:
    path = convert(tmp_path, tokenizer_json(pre))
    metadata = read_header(path).metadata
    theirs = Vocabulary(tokenizer_json(pre))
    assert metadata["tokenizer.ggml.pre"] == pre
    assert metadata["toolace.normalizer"] == ("NFC" if pre == "qwen2" else "none")
    with borrowed_vocabulary(path, metadata) as ours:
        for text in many_texts(2000, SPECIAL_TOKENS + TAGS):
            for special in (False, True):
                assert ours.encode(text, special) == theirs.encode(text, special), repr(text)
            if pre != "qwen2":
                assert ours.decode(ours.encode(text)) == text.encode()


@pytest.mark.parametrize("pre", ["qwen2", "gpt-2", "smollm"])
def test_a_wrong_name_is_found_out_before_anything_is_written(pre: str, tmp_path: Path, monkeypatch: Any) -> None:
    """As if the table named the rule of each for that of Llama 3."""
    wrong = [replace(rule, name="llama-bpe") for rule in gguf_tokenizer.PRE_TOKENIZERS]
    monkeypatch.setattr(gguf_tokenizer, "PRE_TOKENIZERS", tuple(wrong))
    with pytest.raises(ModelError, match=r"tokenizer\.json: llama\.cpp would cut "):
        convert(tmp_path, tokenizer_json(pre))
    assert list((tmp_path / "out").iterdir()) == []


def test_another_use_of_merges_is_refused_where_it_shows(tmp_path: Path) -> None:
    """qwen2 in llama.cpp always merges. That is the same as long as every token can be merged."""
    raw = json.loads(tokenizer_json("qwen2"))
    raw["model"]["ignore_merges"] = True
    assert read_header(convert(tmp_path / "a", json.dumps(raw))).metadata["tokenizer.ggml.pre"] == "qwen2"
    merged = "Ġthe"
    raw["model"]["merges"] = [pair for pair in raw["model"]["merges"] if "".join(pair) != merged]
    assert merged in raw["model"]["vocab"]
    with pytest.raises(ModelError, match="would cut ' the'"):
        convert(tmp_path / "b", json.dumps(raw))


Change = Callable[[dict[str, Any]], object]


def model(**changes: Any) -> Change:
    return lambda raw: raw["model"].update(changes)


def step(**changes: Any) -> Change:
    return lambda raw: raw["pre_tokenizer"]["pretokenizers"][0].update(changes)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (model(type="WordPiece"), "WordPiece tokenizer"),
        (model(byte_fallback=True), "SentencePiece tokenizer"),
        (model(end_of_word_suffix="</w>"), "end_of_word_suffix '</w>'"),
        (model(merges=[7]), "damaged"),
        (step(pattern={"Regex": r"\w+"}), r"pre-tokenizer, \\w\+ then bytes, is none"),
        (step(behavior="Removed"), "Removed"),
        (lambda raw: raw.update(pre_tokenizer=None), "is none that llama.cpp"),
        (lambda raw: raw.update(normalizer={"type": "NFKC"}), "by NFKC; only NFC"),
        (lambda raw: raw.update(normalizer={"type": "Replace"}), "by Replace"),
        (lambda raw: raw["added_tokens"][3].update(lstrip=True), "depends on what stands beside it"),
    ],
)
def test_another_kind_of_tokenizer_is_refused_with_a_sentence(change: Change, says: str, tmp_path: Path) -> None:
    raw = json.loads(tiny_tokenizer_json())
    change(raw)
    with pytest.raises(ModelError, match=says) as raised:
        convert(tmp_path, json.dumps(raw))
    assert "tokenizer.json" in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("metadata", "composed"),
    [
        ({"tokenizer.ggml.pre": "qwen2"}, True),
        ({"tokenizer.ggml.pre": "llama-bpe"}, False),
        ({"tokenizer.ggml.pre": "qwen2", "toolace.normalizer": "none"}, False),
        ({"tokenizer.ggml.pre": "gpt-2", "toolace.normalizer": "NFC"}, True),
        ({}, False),
    ],
)
def test_a_file_says_whether_characters_are_composed_and_qwens_need_not(
    metadata: dict[str, str], composed: bool
) -> None:
    assert composes(metadata) is composed
