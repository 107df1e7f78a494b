"""The bundled model's own embeddings of requests and tools, for retrieval.py to measure beside the words.

Two kinds: the mean of a text's token embeddings, each weighted by how rare it is among the tools (a table look-up, as
SIF by Arora, Liang and Ma, 2017), and the mean of the last hidden states (llama.cpp's mean pooling; a forward pass).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolace_edge.messages import Message, Tool
from toolace_edge.retrieval import EARLIER, texts

Vector = NDArray[np.float32]
COMMON_DIRECTIONS = 1  # taken out of all vectors: what every text shares
SMOOTHING = 1e-3  # of SIF: a token's weight is a / (a + its share of all tokens)


class Embedder:
    """Vectors of texts by `embed`, without the directions that all of the `tools`' share; remembers them."""

    def __init__(self, embed: Callable[[str], Vector], tools: Sequence[Tool]) -> None:
        self._embed = embed
        self._known: dict[str, Vector] = {}
        sample = np.stack([embed(text_of(tool)) for tool in tools])
        self._mean = sample.mean(axis=0)
        self._common = np.linalg.svd(sample - self._mean, full_matrices=False)[2][:COMMON_DIRECTIONS]

    def vector(self, text: str) -> Vector:
        """Shape [width], of length 1."""
        if text not in self._known:
            centred = self._embed(text) - self._mean
            centred = centred - self._common.T @ (self._common @ centred)
            self._known[text] = centred / max(float(np.linalg.norm(centred)), 1e-9)
        return self._known[text]

    def scores(self, messages: Sequence[Message], tools: Sequence[Tool]) -> list[float]:
        """Cosine of each tool with what the user said, the last turn most."""
        turns = [one.content for one in messages if one.role == "user" and one.content.strip()]
        asked = sum(EARLIER**age * self.vector(turn) for age, turn in enumerate(reversed(turns)))
        return [float(np.dot(asked, self.vector(text_of(tool)))) for tool in tools]


def text_of(tool: Tool) -> str:
    """A tool as a sentence: its name in words, its description, its parameters' names."""
    name, description, parameters, _, _ = texts(tool)
    return f"{' '.join(name.replace('_', ' ').replace('.', ' ').split())}: {description[:300]} ({parameters[:200]})"


def by_tokens(model: Path, tools: Sequence[Tool]) -> Embedder:
    """Means of token embeddings of a GGUF model."""
    from gguf import GGUFReader, dequantize
    from llama_cpp import Llama

    tensor = next(one for one in GGUFReader(model).tensors if one.name == "token_embd.weight")
    table = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
    llama = Llama(str(model), vocab_only=True, verbose=False)
    counts = Counter(token for tool in tools for token in llama.tokenize(text_of(tool).encode(), add_bos=False))
    total = sum(counts.values())

    def embed(text: str) -> Vector:
        tokens = llama.tokenize(text.encode(), add_bos=False)
        weights = np.array([SMOOTHING / (SMOOTHING + counts[token] / total) for token in tokens], np.float32)
        mean: Vector = weights @ table[tokens] / max(len(tokens), 1)
        return mean

    return Embedder(embed, tools)


def by_states(model: Path, tools: Sequence[Tool]) -> Embedder:
    """Means of the last hidden states of a GGUF model."""
    from llama_cpp import LLAMA_POOLING_TYPE_MEAN, Llama

    llama = Llama(
        str(model), embedding=True, pooling_type=LLAMA_POOLING_TYPE_MEAN, n_ctx=512, n_batch=512, verbose=False,
        n_threads=1, n_threads_batch=1,
    )  # fmt: skip

    def embed(text: str) -> Vector:
        return np.asarray(llama.embed(text, truncate=True), np.float32)

    return Embedder(embed, tools)
