"""Turns a tokenizer.json into the lists that GGUF wants: tokens, their types, merges, and the name of a pre-tokenizer.

`llama-bpe` names Llama 3's pre-tokenizer, with merges ignored for whole tokens. A tokenizer that cuts text differently
is refused: its model would answer worse and never say why.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .checkpoint import Checkpoint
from .weights import read_json, refused

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, slots=True)
class GgufTokenizer:
    """Tokens by id, in the byte-level alphabet; `types` are gguf's (1 normal, 3 control, 4 user defined, 5 unused)."""

    tokens: list[str]
    types: list[int]
    merges: list[str]
    bos: int | None
    eos: int | None

    def add_to(self, writer: Any) -> None:
        """`writer`: a gguf.GGUFWriter."""
        writer.add_tokenizer_model("gpt2")  # byte-level BPE
        writer.add_tokenizer_pre("llama-bpe")
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
    file = checkpoint.folder / "tokenizer.json"
    raw = json.loads(checkpoint.tokenizer_json)
    _check_tokenizer(file, raw)
    size = checkpoint.config.vocab_size
    tokens, types = [f"[PAD{i}]" for i in range(size)], [5] * size
    for token, i in raw["model"]["vocab"].items():
        tokens[i], types[i] = token, 1
    for added in raw.get("added_tokens", []):
        tokens[added["id"]], types[added["id"]] = added["content"], 3 if added["special"] else 4
    # Old files have "a b", new ones ["a", "b"]; a space itself is never in a token, it is written as another letter.
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in raw["model"]["merges"]]
    return GgufTokenizer(tokens, types, merges, checkpoint.config.bos, _end_token(checkpoint, tokens))


def _check_tokenizer(file: Path, raw: Mapping[str, Any]) -> None:
    model = raw["model"]
    if model.get("type") != "BPE" or not model.get("ignore_merges") or raw.get("normalizer"):
        raise refused(file, "it is not a byte-level BPE with ignore_merges and without a normalizer, as Llama 3's is")
    pre = raw.get("pre_tokenizer") or {}
    steps = pre.get("pretokenizers", [pre])
    patterns = [step.get("pattern", {}).get("Regex") for step in steps if step.get("type") == "Split"]
    byte_level = [step for step in steps if step.get("type") == "ByteLevel"]
    if patterns != [LLAMA3_PATTERN] or len(byte_level) != 1 or len(steps) != 2 or byte_level[0].get("use_regex"):
        raise refused(file, "its pre-tokenizer is not Llama 3's, and llama.cpp knows it by no other name")


def _end_token(checkpoint: Checkpoint, tokens: list[str]) -> int | None:
    """Chat models list several ends in config.json; tokenizer_config.json names the one of a turn."""
    file = checkpoint.folder / "tokenizer_config.json"
    named = read_json(file).get("eos_token") if file.exists() else None
    text = named.get("content") if isinstance(named, dict) else named
    if text in tokens:
        return tokens.index(text)
    return next(iter(checkpoint.config.eos), None)
