"""A tokenizer.json as engines need it: text to ids, control tokens on or off; ids to bytes; llguidance's view of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property

import llguidance
from tokenizers import Tokenizer

from toolace_edge.engines.tags import splitter
from toolace_edge.errors import InputError, ModelError
from toolace_edge.messages import is_text


class Vocabulary:
    """`text` is that of the tokenizer.json `file`; `size` the width of the model's logits where it is padded."""

    def __init__(self, text: str, size: int | None = None, file: str = "tokenizer.json") -> None:
        try:
            self._special = Tokenizer.from_str(text)
            self._plain = Tokenizer.from_str(text)
        except Exception as error:  # tokenizers raises bare Exception
            raise ModelError(f"{file} is not a tokenizer that can be read: {error}.") from error
        self._plain.encode_special_tokens = True  # "<|call|>" in a user's text is seven plain characters
        for tokenizer in (self._special, self._plain):
            tokenizer.no_padding()
            tokenizer.no_truncation()
        added = self._special.get_added_tokens_decoder().values()
        self._parts = splitter(token.content for token in added if not token.special)
        own = self._special.get_vocab_size(with_added_tokens=True)
        self.size = own if size is None else size
        if self.size < own:
            raise ModelError(f"{file} has {own} tokens, but the model's logits only {self.size}.")
        self._text, self._file = text, file

    def encode(self, text: str, special: bool = False) -> list[int]:
        if not is_text(text):
            raise InputError("The text holds half of a surrogate pair, which is not text.")
        if special:
            return list(self._special.encode(text, add_special_tokens=False).ids)
        parts = (self._plain.encode(part, add_special_tokens=False) for part in self._parts(text))
        return [token for part in parts for token in part.ids]

    def decode(self, ids: Sequence[int]) -> bytes:
        return self.llguidance.decode_bytes(list(ids))

    @cached_property
    def llguidance(self) -> llguidance.LLTokenizer:
        """50 ms at 8k tokens, 1 s at 128k."""
        text = self._text
        if self._special.normalizer is not None:  # what a grammar forces is written as it is, composed or not
            text = json.dumps({**json.loads(text), "normalizer": None}, ensure_ascii=False)
        try:
            return llguidance.LLTokenizer(text, n_vocab=self.size)
        except ValueError as error:
            raise ModelError(f"{self._file} is not a byte-level tokenizer: {error}.") from error
