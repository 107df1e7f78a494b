"""The tokenizer inside a GGUF file: text to ids with control tokens on or off, ids to bytes, and llguidance's view.

llguidance keeps the bare address of llama.cpp's vocabulary without owning it, and grammars outlive engines. So a
vocabulary is loaded on its own (no weights), once per file and process, and never freed: about 2 MB at 8k tokens,
40 MB at 128k.
"""

from __future__ import annotations

import os
import threading
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ctypes import create_string_buffer
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolace_edge.engines.llama_native import forget_log, last_words, native
from toolace_edge.engines.tags import splitter
from toolace_edge.errors import EngineError, InputError, ModelError

if TYPE_CHECKING:
    import llguidance

# How a text is normalized before it is cut: "NFC" or "none". llama.cpp leaves that step out, so our converter notes it.
NORMALIZER_KEY = "toolace.normalizer"
# Tokenizers that compose characters first (NFC), where a file of somebody else's does not say.
_COMPOSED = {"qwen2", "qwen35"}
_loaded: dict[tuple[str, int, int], LlamaVocabulary] = {}
_lock = threading.Lock()


def open_vocabulary(path: Path, metadata: Mapping[str, object]) -> LlamaVocabulary:
    """The vocabulary of the GGUF file at `path`, whose header was checked and has `metadata`."""
    stat = path.stat()
    key = (str(path.resolve()), stat.st_size, stat.st_mtime_ns)
    with _lock:
        if key not in _loaded:
            _loaded[key] = LlamaVocabulary(path, composes(metadata))
        return _loaded[key]


@contextmanager
def borrowed_vocabulary(path: Path, metadata: Mapping[str, object]) -> Iterator[LlamaVocabulary]:
    """As `open_vocabulary`, but freed at the end: for `encode` and `decode`, never for llguidance's view."""
    vocabulary = LlamaVocabulary(path, composes(metadata))
    try:
        yield vocabulary
    finally:
        vocabulary.free()


def composes(metadata: Mapping[str, object]) -> bool:
    """Whether characters are composed (NFC) before the text is cut into tokens."""
    said = metadata.get(NORMALIZER_KEY)
    return metadata.get("tokenizer.ggml.pre") in _COMPOSED if said is None else said == "NFC"


class LlamaVocabulary:
    """Use `open_vocabulary`: each of these is memory that stays. `composed`: texts are brought into NFC first."""

    def __init__(self, path: Path, composed: bool) -> None:
        self._native = native()
        self._composed = composed
        parameters = self._native.llama_model_default_params()
        parameters.vocab_only = True
        forget_log()
        self._model = self._native.llama_model_load_from_file(os.fsencode(path), parameters)
        if not self._model:
            raise ModelError(f"{path}: llama.cpp cannot read the vocabulary{last_words()}.")
        self._vocab: Any = self._native.llama_model_get_vocab(self._model)
        self.size: int = self._native.llama_vocab_n_tokens(self._vocab)

    def free(self) -> None:
        """Nothing of this may be used afterwards."""
        self._native.llama_model_free(self._model)

    def encode(self, text: str, special: bool = False) -> list[int]:
        """Token ids, nothing added; only with `special` do control tokens and tags in `text` count as such."""
        if self._composed:
            text = unicodedata.normalize("NFC", text)
        if special:
            return self._encode(text, True)
        return [token for part in self._parts(text) for token in self._encode(part, False)]

    def _encode(self, text: str, special: bool) -> list[int]:
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"The text holds half of a surrogate pair at character {error.start}.") from error
        room = len(data) + 8
        ids = (self._native.llama_token * room)()
        count = self._native.llama_tokenize(self._vocab, data, len(data), ids, room, False, special)
        if count < 0:
            raise EngineError(f"llama.cpp cannot tokenize a text of {len(data)} bytes.")
        return list(ids[:count])

    def decode(self, ids: Sequence[int]) -> bytes:
        """The bytes of `ids`, control tokens as their names."""
        return b"".join(map(self._pieces.__getitem__, ids))

    @cached_property
    def _parts(self) -> Callable[[str], list[str]]:
        kind_of = self._native.llama_vocab_get_attr
        defined = (i for i in range(self.size) if kind_of(self._vocab, i) & self._native.LLAMA_TOKEN_ATTR_USER_DEFINED)
        return splitter(self._native.llama_vocab_get_text(self._vocab, i).decode(errors="replace") for i in defined)

    @cached_property
    def _pieces(self) -> list[bytes]:
        room = 1024
        buffer = create_string_buffer(room)
        pieces = []
        for token in range(self.size):
            length = self._native.llama_token_to_piece(self._vocab, token, buffer, room, 0, True)
            if length < 0:  # the rare long token
                room = -length
                buffer = create_string_buffer(room)
                length = self._native.llama_token_to_piece(self._vocab, token, buffer, room, 0, True)
            pieces.append(buffer.raw[:length])
        return pieces

    @cached_property
    def llguidance(self) -> llguidance.LLTokenizer:
        """50 ms at 8k tokens, 1 s at 128k."""
        from llguidance.llamacpp import lltokenizer_from_vocab

        return lltokenizer_from_vocab(self._vocab)
