"""Turns a tokenizer.json into what GGUF wants: tokens, their types, merges, and the name of a pre-tokenizer.

llama.cpp knows each way to cut a text by a name, which here is found by the rule itself (a self-trained tokenizer has
the hash of nobody else's). Whether the rule of that name then cuts as tokenizers does is proven by gguf_proof.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolace_edge.engines.llama_vocabulary import NORMALIZER_KEY

from .checkpoint import Checkpoint
from .weights import refused

_ENGLISH = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3_PATTERN = _ENGLISH + r"|\p{N}{1,3}" + _REST
QWEN2_PATTERN = _ENGLISH + r"|\p{N}" + _REST


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """llama.cpp's `name` for `steps`; with `ignore_merges` a word that is a token needs no merges to become it."""

    name: str
    steps: tuple[str, ...]
    ignore_merges: bool = False


PRE_TOKENIZERS = (
    PreTokenizer("llama-bpe", (LLAMA3_PATTERN, "bytes"), ignore_merges=True),
    PreTokenizer("dbrx", (LLAMA3_PATTERN, "bytes")),
    PreTokenizer("qwen2", (QWEN2_PATTERN, "bytes")),
    PreTokenizer("gpt-2", ("words as bytes",)),
    PreTokenizer("smollm", ("digits", "words as bytes")),
)
_UNUSED, _NORMAL, _CONTROL, _USER_DEFINED = 5, 1, 3, 4  # gguf's types of tokens


@dataclass(frozen=True, slots=True)
class GgufTokenizer:
    """Tokens by id, in the byte-level alphabet. `exact` is false where `pre` treats merges otherwise: prove it more."""

    pre: str
    exact: bool
    normalizer: str
    tokens: list[str]
    types: list[int]
    merges: list[str]
    bos: int | None
    eos: int | None

    def add_to(self, writer: Any) -> None:
        """`writer`: a gguf.GGUFWriter."""
        writer.add_tokenizer_model("gpt2")  # byte-level BPE
        writer.add_tokenizer_pre(self.pre)
        writer.add_string(NORMALIZER_KEY, self.normalizer)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        writer.add_token_merges(self.merges)
        if self.bos is not None:
            writer.add_bos_token_id(self.bos)
        if self.eos is not None:
            writer.add_eos_token_id(self.eos)
        writer.add_add_bos_token(False)  # prompts bring their own


def read_gguf_tokenizer(checkpoint: Checkpoint) -> GgufTokenizer:
    """The tokenizer.json of `checkpoint`; ModelError where llama.cpp could not cut text as it does."""
    file = checkpoint.file("tokenizer.json") or checkpoint.folder
    raw = json.loads(checkpoint.tokenizer_json)
    try:
        return _read(file, raw, checkpoint)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise refused(file, f"it is damaged ({error})") from error


def _read(file: Path, raw: Mapping[str, Any], checkpoint: Checkpoint) -> GgufTokenizer:
    _check_model(file, raw)
    pre, exact = _pre_tokenizer(file, raw)
    size = checkpoint.config.vocab_size
    tokens, types = [f"[PAD{i}]" for i in range(size)], [_UNUSED] * size
    for token, i in raw["model"]["vocab"].items():
        tokens[i], types[i] = token, _NORMAL
    for added in raw.get("added_tokens", []):
        if added.get("lstrip") or added.get("rstrip") or added.get("single_word"):
            raise refused(file, f"the token {added['content']!r} depends on what stands beside it")
        tokens[added["id"]], types[added["id"]] = added["content"], _CONTROL if added["special"] else _USER_DEFINED
    # Old files have "a b", new ones ["a", "b"]; a space itself is never in a token, it is written as another letter.
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in raw["model"]["merges"]]
    bos, eos = checkpoint.config.bos, _end_token(checkpoint, tokens)
    return GgufTokenizer(pre, exact, _normalizer(file, raw), tokens, types, merges, bos, eos)


def _check_model(file: Path, raw: Mapping[str, Any]) -> None:
    """A byte-level BPE without the variations that llama.cpp has no field for."""
    model = raw["model"]
    if model.get("type") != "BPE":
        raise refused(file, f"it is a {model.get('type')} tokenizer; only byte-level BPE can be converted to GGUF")
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise refused(file, f"its BPE has {key} {model[key]!r}, which llama.cpp does not know")


def _normalizer(file: Path, raw: Mapping[str, Any]) -> str:
    """NFC or none; the engine applies it, as llama.cpp does not."""
    normalizer = raw.get("normalizer") or {"type": "Sequence", "normalizers": []}
    steps = normalizer["normalizers"] if normalizer["type"] == "Sequence" else [normalizer]
    kinds = [step["type"] for step in steps]
    if kinds not in ([], ["NFC"]):
        raise refused(file, f"it changes texts by {' and '.join(kinds)}; only NFC can be converted")
    return kinds[0] if kinds else "none"


def _pre_tokenizer(file: Path, raw: Mapping[str, Any]) -> tuple[str, bool]:
    """The name of its rule, and whether merges are treated alike too."""
    pre = raw.get("pre_tokenizer") or {}
    steps = tuple(map(_step, pre["pretokenizers"] if pre.get("type") == "Sequence" else [pre]))
    ignore_merges = bool(raw["model"].get("ignore_merges"))
    known = [rule for rule in PRE_TOKENIZERS if rule.steps == steps]
    if not known:
        raise refused(file, f"its pre-tokenizer, {' then '.join(steps)[:300]}, is none that llama.cpp follows exactly")
    alike = [rule for rule in known if rule.ignore_merges == ignore_merges]
    return (alike or known)[0].name, bool(alike)


def _step(step: Mapping[str, Any]) -> str:
    """One step in a word, or by its regular expression; what has no word here stays as it is, and is then unknown."""
    kind, pattern = step.get("type"), step.get("pattern") or {}
    if kind == "Split" and "Regex" in pattern and step.get("behavior") == "Isolated" and not step.get("invert"):
        return str(pattern["Regex"])
    if kind == "ByteLevel" and not step.get("add_prefix_space"):
        return "words as bytes" if step.get("use_regex", True) else "bytes"
    if kind == "Digits" and step.get("individual_digits"):
        return "digits"
    return json.dumps(step, ensure_ascii=False)


def _end_token(checkpoint: Checkpoint, tokens: list[str]) -> int | None:
    """Chat models list several ends in config.json; tokenizer_config.json names the one of a turn."""
    named = checkpoint.json_file("tokenizer_config.json").get("eos_token")
    text = named.get("content") if isinstance(named, dict) else named
    if text in tokens:
        return tokens.index(text)
    return next(iter(checkpoint.config.eos), None)
