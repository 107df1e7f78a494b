"""Finds out, once and in a process of its own, whether llama.cpp as it was compiled here survives this CPU.

GCC up to 12 miscompiles llama.cpp's set-up of AMX tiles: a quantized model and a batch above one end the process with a
segmentation fault. Where the CPU has AMX and the library uses it, a child process runs a tiny quantized model; if it
dies, the engine keeps llama.cpp from repacking weights (`use_extra_bufts`), which is slower and safe.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from toolace_edge.engines.cache_file import write_aside
from toolace_edge.paths import cache_dir

PROBE = (sys.executable, "-m", "toolace_edge.engines.amx")
_PROBE_TIMEOUT_S = 120
_CURE = (
    "Prompts would be about twice as fast with llama-cpp-python compiled by GCC 13 or newer, or as .ci/llama_cpp.cmake "
    "in this project's source says."
)


@dataclass(frozen=True, slots=True)
class AmxFinding:
    """`usable`: llama.cpp may repack weights. `reason` says why in one sentence, `hint` what could be done."""

    usable: bool
    reason: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.reason} {self.hint}".strip()


@lru_cache(maxsize=1)
def amx_finding() -> AmxFinding:
    """Answers at once without AMX or from the user's cache; the first time with AMX, a child runs for about 1 s."""
    flags = _amx_flags()
    if not flags:
        return AmxFinding(True, "This CPU has no AMX, so nothing has to be worked round.")
    library = _cpu_library()
    if library is None:
        return AmxFinding(True, "llama-cpp-python is not installed, so AMX was not tried.")
    key = hashlib.sha256(library.read_bytes() + " ".join(flags).encode()).hexdigest()
    note = cache_dir() / "amx" / f"{key}.json"
    survived = _remembered(note)
    if survived is None:
        survived = _probe()
        with suppress(OSError):  # a note that cannot be written only costs time
            write_aside(note, json.dumps(survived).encode())
    if survived is None:
        return AmxFinding(False, "Whether llama.cpp survives this CPU's AMX could not be tried, so it is not used.")
    if survived:
        return AmxFinding(True, "This CPU has AMX, and llama.cpp as compiled here runs quantized models on it.")
    return AmxFinding(False, "llama.cpp as compiled here crashes on this CPU's AMX, so it must not use it.", _CURE)


def has_amx() -> bool:
    """Whether this CPU has AMX."""
    return bool(_amx_flags())


def _amx_flags() -> list[str]:
    """The CPU's AMX features as Linux names them. Other systems' compilers do not have the fault."""
    try:
        words = Path("/proc/cpuinfo").read_text("utf-8", "replace").split()
    except OSError:
        return []
    return sorted({word for word in words if word.startswith("amx_")})


def _cpu_library() -> Path | None:
    """llama.cpp's CPU library, found without loading anything."""
    spec = find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        return None
    folder = Path(os.environ.get("LLAMA_CPP_LIB_PATH") or Path(spec.origin).parent / "lib")
    return next(iter(sorted(folder.glob("*ggml-cpu*"))), None)


def _remembered(note: Path) -> bool | None:
    try:
        value = json.loads(note.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, bool) else None


def _probe() -> bool | None:
    """Whether the child lived; None where it could not be run or ended in an ordinary error."""
    try:
        child = subprocess.run(PROBE, capture_output=True, timeout=_PROBE_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if child.returncode < 0:  # a signal
        return False
    return True if child.returncode == 0 else None


def main() -> None:
    """The child: a quantized model, with batches below and above a tile."""
    from toolace_edge.engines.llama_cpp import LlamaCppEngine

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.gguf"
        path.write_bytes(probe_model())
        with LlamaCppEngine(path, repack=True, float16=False, threads=1) as engine:
            for count in (1, 2, 40):
                engine.forward([1] * count)


def probe_model(width: int = 256, vocab: int = 64) -> bytes:
    """A GGUF file: one Llama layer of zeros in Q8_0, no vocabulary; about 0.5 MB. See gguf_header.py for the layout."""
    facts = {"context_length": 64, "embedding_length": width, "block_count": 1, "feed_forward_length": width}
    facts |= {"attention.head_count": 4, "attention.head_count_kv": 4, "vocab_size": vocab}
    keys = [_text("general.architecture") + _U32(8) + _text("llama")]
    keys += [_text("tokenizer.ggml.model") + _U32(8) + _text("no_vocab")]
    keys += [_text(f"llama.{key}") + _U32(4) + _U32(value) for key, value in facts.items()]
    keys += [_text("llama.attention.layer_norm_rms_epsilon") + _U32(6) + struct.pack("<f", 1e-5)]
    matrices = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    shapes = {"token_embd.weight": (width, vocab), "output.weight": (width, vocab), "output_norm.weight": (width,)}
    shapes |= {f"blk.0.{name}.weight": (width, width) for name in matrices}
    shapes |= {f"blk.0.{name}_norm.weight": (width,) for name in ("attn", "ffn")}
    entries, offset = [], 0
    for name, shape in shapes.items():
        size_bytes = shape[0] * 4 if len(shape) == 1 else shape[0] * shape[1] // 32 * 34
        kind = _U32(0 if len(shape) == 1 else 8)
        sizes = struct.pack(f"<{len(shape)}Q", *shape)
        entries.append(_text(name) + _U32(len(shape)) + sizes + kind + struct.pack("<Q", offset))
        offset += size_bytes + -size_bytes % 32
    head = b"GGUF" + _U32(3) + struct.pack("<QQ", len(entries), len(keys)) + b"".join(keys + entries)
    return head + bytes(-len(head) % 32 + offset)


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


_U32 = struct.Struct("<I").pack


if __name__ == "__main__":
    main()
