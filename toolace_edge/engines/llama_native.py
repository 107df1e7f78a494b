"""Loads llama.cpp's library: its threads sleep while they wait, and its log goes into a short memory, not to stderr.

OpenMP's waiting threads spin by default. With any other busy process on the machine that made one token cost
200-800 ms in place of 28, so passive waiting is set before the library loads, unless the user has chosen.
"""

from __future__ import annotations

import os
from collections import deque
from ctypes import c_void_p
from functools import lru_cache
from typing import Any

from toolace_edge.engines.base import NOT_LOADED
from toolace_edge.errors import EngineError, MissingDependency

_WARNING, _ERROR, _CONTINUED = 3, 4, 5
_KEPT_LINES = 8

_log: deque[str] = deque(maxlen=_KEPT_LINES)
_callbacks: list[Any] = []  # the library calls it for as long as the process lives


@lru_cache(maxsize=1)
def native() -> Any:
    """The low-level module `llama_cpp.llama_cpp`, loaded once (0.5 s). Raises MissingDependency."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "passive"
        os.environ.setdefault("GOMP_SPINCOUNT", "0")
    try:
        import llama_cpp.llama_cpp as library
    except ModuleNotFoundError as error:
        raise MissingDependency("llama-cpp-python", "gguf") from error
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineError(f"llama.cpp's library does not load: {error}.", hint=NOT_LOADED) from error
    callback = library.llama_log_callback(_remember)
    _callbacks.append(callback)
    library.llama_log_set(callback, c_void_p(0))
    library.llama_backend_init()
    return library


def _remember(level: int, text: bytes, _user_data: object) -> None:
    line = text.decode("utf-8", "replace").strip()
    if level in (_WARNING, _ERROR) and line:
        _log.append(line)


def forget_log() -> None:
    """Start a new memory, before a call whose reasons may be wanted."""
    _log.clear()


def last_words() -> str:
    """What the library said last, as the end of a sentence; empty where it said nothing."""
    errors = [line.split(": ", 1)[-1] for line in _log if "error" in line.lower() or "fail" in line.lower()]
    said = errors[:2] or list(_log)[-1:]
    return f": {'; '.join(line.rstrip('.') for line in said)}" if said else ""
