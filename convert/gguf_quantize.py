"""Quantizes a GGUF file with llama.cpp, in a process of its own: what the library ends, it ends there.

A tensor whose rows do not divide into a kind's blocks is stored in the next kind that fits (Q4_K rows of 288 become
Q5_0), so no checkpoint is refused for its dimensions.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from ctypes import byref
from pathlib import Path

from toolace_edge.engines.base import default_threads
from toolace_edge.engines.gguf_header import read_header
from toolace_edge.engines.llama_native import last_words, native
from toolace_edge.errors import EngineError

QUANTIZED_KINDS = ("Q8_0", "Q6_K", "Q5_K_M", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_0", "IQ4_NL", "IQ4_XS", "Q3_K_M")


def quantize(source_gguf: Path, out: Path, kind: str) -> Path:
    """Write `source_gguf` (f32, f16 or bf16) as `kind` to `out`, aside and then renamed. About 1 s per 10M weights."""
    if kind not in QUANTIZED_KINDS:
        raise ValueError(f"kind is {kind!r}, not one of {', '.join(QUANTIZED_KINDS)}")
    if read_header(source_gguf).quantized:
        raise EngineError(f"{source_gguf}: it is quantized already; start from an f32, f16 or bf16 file.", hint="")
    native()  # a missing library is said here, not by the child
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        aside = Path(folder) / out.name
        command = [sys.executable, "-m", __name__, str(source_gguf), str(aside), kind]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
        if child.returncode != 0:
            said = child.stderr.strip().splitlines()[-1:] or [f"it ended with code {child.returncode}"]
            raise EngineError(f"{source_gguf}: llama.cpp could not quantize it to {kind}: {said[0]}.")
        read_header(aside)
        aside.replace(out)
    return out


def main(source: str, out: str, kind: str) -> int:
    """The child."""
    library = native()
    parameters = library.llama_model_quantize_default_params()
    parameters.nthread = default_threads()
    parameters.ftype = getattr(library, f"LLAMA_FTYPE_MOSTLY_{kind}")
    status: int = library.llama_model_quantize(source.encode(), out.encode(), byref(parameters))
    if status != 0:
        print(f"status {status}{last_words()}", file=sys.stderr)
    return 1 if status else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
