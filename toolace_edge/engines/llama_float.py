"""A quantized GGUF file with its weights as float16, written by llama.cpp where it can load them at once.

llama.cpp rounds what it multiplies quantized weights with to 8 bits, as the kernels of each CPU do it. What a model is
unsure of then falls one way or the other: of 300 held-out requests the bundled weights had the same calls as in float32
on 288, and on 299 with float16 weights. Those take two bytes a weight and 1.4 times the time.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from ctypes import byref
from pathlib import Path
from typing import Any

from toolace_edge.engines.llama_native import forget_log, last_words
from toolace_edge.errors import ModelError


@contextmanager
def as_float16(native: Any, source: Path, threads: int) -> Iterator[Path]:
    """The weights of `source`, whose header was checked, in a file that is gone after this. ModelError."""
    with ExitStack() as stack:
        out = _passing_file(stack)
        parameters = native.llama_model_quantize_default_params()
        parameters.nthread = threads
        parameters.ftype = native.LLAMA_FTYPE_MOSTLY_F16
        parameters.allow_requantize = True
        forget_log()
        if native.llama_model_quantize(os.fsencode(source), os.fsencode(out), byref(parameters)) != 0:
            raise ModelError(f"{source}: llama.cpp cannot write its weights as float16{last_words()}.")
        yield out


def _passing_file(stack: ExitStack) -> Path:
    """In memory where the system has such files, else among the temporary ones."""
    if hasattr(os, "memfd_create"):
        with suppress(OSError):
            number = os.memfd_create("weights")
            stack.callback(os.close, number)
            return Path(f"/proc/self/fd/{number}")
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="toolace-edge-"))) / "weights.gguf"
