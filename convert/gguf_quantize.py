"""Quantizes a GGUF file with llama.cpp, in a process of its own, with an importance matrix and kinds by tensor.

A tensor whose rows do not divide into a kind's blocks is stored in the next kind that fits (Q4_K rows of 288 become
Q5_0), so no checkpoint is refused for its dimensions; `stored_otherwise` says which ones. Weights that were trained on
a coarser grid keep it (gguf_grid.py). The job and the matrix go to the process in files, and the numpy buffers live
there as long as the call.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from ctypes import POINTER, byref, c_char_p, c_float, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolace_edge.engines.base import default_threads
from toolace_edge.engines.gguf_header import TENSOR_TYPES, GgufTensor, read_header
from toolace_edge.engines.llama_native import native
from toolace_edge.errors import EngineError, InputError

from .aside import made_aside
from .child import Progress, run_child, serve
from .gguf_grid import keep_grid
from .quantize import stored_otherwise as said_otherwise

QUANTIZED_KINDS = (
    *("Q8_0", "Q6_K", "Q5_K_M", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_0", "IQ4_NL", "IQ4_XS", "Q3_K_M", "IQ2_M"),
)
NEED_IMPORTANCE = ("IQ2_M",)
TENSOR_KINDS = ("f32", "f16", "bf16", "Q8_0", "Q6_K", "Q5_K", "Q5_0", "Q4_K", "Q4_0", "IQ4_NL", "IQ4_XS", "Q3_K")
_BLOCKS_OF_32 = ("Q8_0", "Q5_0", "Q4_0", "IQ4_NL")
_EMBEDDINGS = ("token_embd.weight", "output.weight")  # stored finer than the rest, so they need no importance
_BUFFER_BYTES = 1 << 30  # of rows in memory at once
_PROGRESS = re.compile(rb"\[\s*(\d+)/\s*(\d+)\]")
_WARNING, _ERROR = 3, 4  # llama.cpp's log levels

Importance = Mapping[str, NDArray[np.float32]]  # by GGUF tensor name: mean squared input, float32 [columns]
TensorKinds = Sequence[tuple[str, str]]  # (regular expression, one of TENSOR_KINDS); the first that is found counts


def quantize(
    source_gguf: Path,
    out: Path,
    kind: str,
    *,
    importance: Importance | None = None,
    tensor_kinds: TensorKinds = (),
    on_progress: Progress | None = None,
) -> Path:
    """Write `source_gguf` (f32, f16 or bf16) as `kind` to `out`, aside and then renamed. About 1 s per 10M weights.

    InputError, before any work, where `importance` is missing or of another model, or a tensor's kind cannot be.
    """
    if kind not in QUANTIZED_KINDS:
        raise ValueError(f"kind is {kind!r}, not one of {', '.join(QUANTIZED_KINDS)}")
    if read_header(source_gguf).quantized:
        raise EngineError(f"{source_gguf}: it is quantized already; start from an f32, f16 or bf16 file.", hint="")
    weights = matrices(source_gguf)
    fitting = _fitting(weights, importance, kind)
    chosen = choose_kinds([one.name for one in weights], tensor_kinds)
    native()  # a missing library is said here, not by the child
    with made_aside(out) as folder:
        aside, matrix = folder / out.name, folder / "importance.npz"
        if fitting:
            np.savez(matrix, **fitting)  # type: ignore[arg-type]  # its stub takes no names
        job: dict[str, Any] = {"source": str(source_gguf), "out": str(aside), "kind": kind}
        job |= {"tensor_kinds": chosen, "importance": str(matrix) if fitting else None}
        run_child(__name__, job, f"{source_gguf}: llama.cpp could not quantize it to {kind}", on_progress)
        keep_grid(source_gguf, aside, fitting, on_progress)
        aside.replace(out)
    return out


def matrices(file: Path) -> list[GgufTensor]:
    """The tensors of a GGUF file that are quantized; norms and biases are not."""
    return [tensor for tensor in read_header(file).tensors if len(tensor.shape) == 2]


def check_importance(kind: str, given: bool) -> None:
    """InputError where `kind` cannot be made without an importance matrix."""
    if kind in NEED_IMPORTANCE and not given:
        raise InputError(
            f"{kind} needs an importance matrix: with so few bits it has to know which weights matter.",
            hint="Give --imatrix a file of one, or a data file to measure it on.",
        )


def _fitting(weights: Sequence[GgufTensor], importance: Importance | None, kind: str) -> dict[str, NDArray[np.float32]]:
    """The entries of `importance` that this file has tensors for."""
    check_importance(kind, bool(importance))
    if not importance:
        return {}
    wrong = [one for one in weights if one.name in importance and len(importance[one.name]) != one.shape[0]]
    fitting = {one.name: np.asarray(importance[one.name], np.float32) for one in weights if one.name in importance}
    if wrong or not fitting:
        raise InputError("The importance matrix is of another model: its tensors are not those of this one.")
    missing = [one.name for one in weights if one.name not in fitting and one.name not in _EMBEDDINGS]
    if missing and kind in NEED_IMPORTANCE:
        raise InputError(f"The importance matrix says nothing of {missing[0]} and {len(missing) - 1} more.")
    return fitting


def parse_tensor_kind(text: str) -> tuple[str, str]:
    """`REGEX=KIND` as a pair. InputError where it is not one."""
    pattern, _, wanted = text.rpartition("=")
    kinds = {kind.lower(): kind for kind in TENSOR_KINDS}
    if not pattern or wanted.lower() not in kinds:
        raise InputError(
            f"{text!r} is not REGEX=KIND with one of these kinds: {', '.join(TENSOR_KINDS)}.",
            hint="For example --tensor-type 'ffn_down=Q6_K'.",
        )
    try:
        re.compile(pattern)
    except re.error as error:
        raise InputError(f"{pattern!r} is not a regular expression: {error}.") from error
    return pattern, kinds[wanted.lower()]


def choose_kinds(names: Sequence[str], tensor_kinds: TensorKinds) -> dict[str, str]:
    """The kind of each matrix that an expression is found in the name of. InputError where one is found in none."""
    for pattern, _ in tensor_kinds:
        if not any(re.search(pattern, name) for name in names):
            raise InputError(
                f"No matrix of this model has {pattern!r} in its name.",
                hint="Names are token_embd.weight, blk.0.attn_q.weight, blk.0.ffn_down.weight and so on.",
            )
    found = {name: [kind for pattern, kind in tensor_kinds if re.search(pattern, name)] for name in names}
    return {name: kinds[0] for name, kinds in found.items() if kinds}


def stored_otherwise(file: Path, kind: str, tensor_kinds: TensorKinds = ()) -> str:
    """One sentence on the tensors of `file` that are not stored as asked; "" where all are."""
    if kind not in QUANTIZED_KINDS:
        return ""
    block = 32 if kind in _BLOCKS_OF_32 else 256
    weights = matrices(file)
    chosen = choose_kinds([one.name for one in weights], tensor_kinds)
    counts = Counter[tuple[int, str]]()
    for tensor in weights:
        asked = chosen.get(tensor.name)
        if (asked is None and tensor.shape[0] % block) or (asked is not None and tensor.type != asked.upper()):
            counts[tensor.shape[0], tensor.type] += 1
    return said_otherwise(counts)


def work(job: dict[str, Any], on_progress: Progress) -> None:
    """The child."""
    library = native()
    parameters = library.llama_model_quantize_default_params()
    parameters.nthread = default_threads()
    parameters.ftype = getattr(library, f"LLAMA_FTYPE_MOSTLY_{job['kind']}")
    parameters.max_buf_size = _BUFFER_BYTES
    importance = dict(np.load(job["importance"])) if job["importance"] else {}
    if importance:
        parameters.imatrix = _importance_entries(library, importance)
    _set_kinds(library, parameters, job["tensor_kinds"])
    said: list[str] = []

    def listen(level: int, text: bytes, _user_data: object) -> None:
        if found := _PROGRESS.search(text):
            on_progress(int(found[1]), int(found[2]))
        elif level in (_WARNING, _ERROR) and text.strip():
            said.append(text.decode("utf-8", "replace").strip())

    callback = library.llama_log_callback(listen)
    library.llama_log_set(callback, c_void_p(0))
    paths = (c_char_p(job[name].encode()) for name in ("source", "out"))
    status: int = library.llama_model_quantize(*paths, byref(parameters))
    if status != 0:
        raise EngineError(f"{said[-1].rstrip('.') if said else f'status {status}'}.")


def _importance_entries(library: Any, importance: dict[str, NDArray[np.float32]]) -> Any:
    """llama.cpp's array, ended by an entry without a name; it points into the arrays of `importance`."""
    entries = (library.llama_model_imatrix_data * (len(importance) + 1))()
    for entry, (name, values) in zip(entries, importance.items(), strict=False):
        entry.name, entry.data, entry.size = name.encode(), values.ctypes.data_as(POINTER(c_float)), values.size
    return entries


def _set_kinds(library: Any, parameters: Any, tensor_kinds: Mapping[str, str]) -> None:
    """Kinds by tensor name, as llama.cpp's expressions; the embeddings have fields of their own besides."""
    if not tensor_kinds:
        return
    numbers = {name: number for number, (name, _, _) in TENSOR_TYPES.items()}
    overrides = (library.llama_model_tensor_override * (len(tensor_kinds) + 1))()  # the last one is the end
    for override, (name, kind) in zip(overrides, tensor_kinds.items(), strict=False):
        override.pattern, override.type = f"^{re.escape(name)}$".encode(), numbers[kind.upper()]
    parameters.tt_overrides = overrides
    for name, field in zip(_EMBEDDINGS, ("token_embedding_type", "output_tensor_type"), strict=True):
        if name in tensor_kinds:
            setattr(parameters, field, numbers[tensor_kinds[name].upper()])


if __name__ == "__main__":
    sys.exit(serve(work))
