"""Opens damaged GGUF files with the native library, one after the other: `python fuzz_gguf.py FOLDER COUNT`.

It is a script, as a library that fails here ends its process; the last line then names the seed.
"""

from __future__ import annotations

import random
import struct
import sys
from pathlib import Path

from toolace_edge.engines.amx import probe_model
from toolace_edge.engines.llama_cpp import LlamaCppEngine
from toolace_edge.errors import ToolaceEdgeError

MODEL = probe_model(width=32, vocab=8)
HEADER_BYTES = 1200
VALUES = (0, 1, 2, 3, 7, 64, 100_000, 2**31 - 1, 2**31, 2**32 - 1)


def damaged(seed: int) -> bytes:
    dice = random.Random(seed)
    content = bytearray(MODEL)
    for _ in range(dice.choice((1, 1, 2, 4))):
        at = dice.randrange(HEADER_BYTES)
        if dice.random() < 0.5:
            content[at] ^= 1 << dice.randrange(8)
        else:
            content[at : at + 4] = struct.pack("<I", dice.choice(VALUES))
    return bytes(content)


def main(folder: Path, count: int) -> None:
    for seed in range(count):
        path = folder / f"{seed}.gguf"
        path.write_bytes(damaged(seed))
        print(f"seed {seed}", file=sys.stderr, flush=True)
        try:
            with LlamaCppEngine(path, threads=1) as engine:
                engine.forward([1, 2, 3], n_logits=2)
        except (ToolaceEdgeError, ValueError):  # ValueError: fewer tokens than we asked about
            pass
        path.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
