"""What words are about, as vectors: "umbrella" lies near "forecast", though they share no letter.

A text is the sum of its words' vectors, each times the word's weight, made one long; two texts are as near as the
cosine of theirs. The table is trained on requests and the tools that answered them (train/meanings.py), comes with the
package (models/meanings.npz) and is read once. A row is a stem's (terms.py): int8 numbers that share a factor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]


class Meanings:
    """`vectors` int8 [words, width], `factors` float32 [words]: what a row is multiplied by."""

    def __init__(self, words: Sequence[str], vectors: NDArray[np.int8], factors: Vector) -> None:
        self._rows = {word: row for row, word in enumerate(words)}
        self._vectors = vectors
        self._factors = factors

    def __contains__(self, word: object) -> bool:
        return word in self._rows

    def of(self, weights: Mapping[str, float]) -> Vector:
        """A text's vector by its stems and their weights, float32 [width]: of length 1, or zeros if none is known."""
        rows = [row for word in weights if (row := self._rows.get(word)) is not None]
        known = np.array([weight for word, weight in weights.items() if word in self._rows], np.float32)
        total: Vector = (known * self._factors[rows]) @ self._vectors[rows].astype(np.float32)
        return total / max(float(np.linalg.norm(total)), 1e-9)


@cache
def meanings() -> Meanings:
    """The table that comes with the package."""
    return read(Path(str(files("toolace_edge.models"))) / "meanings.npz")


def read(path: Path) -> Meanings:
    """A table that `write` wrote."""
    with np.load(path, allow_pickle=False) as found:
        words = found["words"].tobytes().decode().split("\n")
        return Meanings(words, found["vectors"], found["factors"].astype(np.float32))


def write(path: Path, words: Sequence[str], vectors: Vector) -> None:
    """`vectors` float32 [words, width], rounded to int8. `path` holds the whole table, or what it held before."""
    factors = (np.abs(vectors).max(axis=1, keepdims=True) / 127).astype(np.float16).clip(min=np.float16(6e-8))
    rounded = np.rint(vectors / factors.astype(np.float32)).clip(-127, 127).astype(np.int8)
    text = np.frombuffer("\n".join(words).encode(), np.uint8)
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as out:
        np.savez_compressed(out, words=text, vectors=rounded, factors=factors[:, 0])
    part.replace(path)
