"""Is this installation able to work? The processor, the engines, the model's hash, and one call made for real."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING

from toolace_edge import __version__, registry
from toolace_edge.errors import MissingDependency, ToolaceEdgeError

if TYPE_CHECKING:
    from toolace_edge.registry import Model

_CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "sve")
_PACKAGES = ("numpy", "onnxruntime", "llguidance", "tokenizers", "llama-cpp-python")
_SELF_TEST = "set a timer for 10 minutes"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `ok` is None where it is a fact and not a test."""

    name: str
    ok: bool | None
    detail: str


def examine(model: str | None, open_model: Callable[..., Model], format_name: str | None = None) -> Iterator[Check]:
    """Every check in turn, none of which raises."""
    yield Check("toolace-edge", None, f"{__version__}, Python {platform.python_version()} on {platform.platform()}")
    yield _processor()
    for package in _PACKAGES:
        yield _package(package)
    yield from _amx()
    yield _guarded("model files", lambda: _model_files(model))
    yield _guarded("self-test", lambda: _self_test(model, open_model, format_name))


def _guarded(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check())
    except ToolaceEdgeError as error:
        return Check(name, False, f"{error} {error.hint}".strip())
    except Exception as error:  # whatever a machine may say: the other checks are worth having
        return Check(name, False, f"{type(error).__name__}: {error}")


def _processor() -> Check:
    name, flags = platform.processor() or platform.machine(), set[str]()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        facts = dict(_pairs(info.read_text("utf-8", "replace")))
        name = facts.get("model name", name)
        flags = set(facts.get("flags", facts.get("Features", "")).split())
    known = " ".join(flag for flag in _CPU_FLAGS if flag in flags) or "unknown"
    return Check("processor", None, f"{name}, {_usable_cores()} of {os.cpu_count()} cores usable, features: {known}")


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            yield key.strip(), value.strip()


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _package(name: str) -> Check:
    try:
        return Check(name, None, metadata.version(name))
    except metadata.PackageNotFoundError:
        extra = f", for GGUF models: {MissingDependency(name, 'gguf').hint}" if name == "llama-cpp-python" else ""
        return Check(name, None if extra else False, f"not installed{extra}")


def _amx() -> Iterator[Check]:
    """llama.cpp built by some compilers dies on processors with AMX; the engine knows how it gets around that."""
    if util.find_spec("llama_cpp") is None:
        return
    from toolace_edge.engines.amx import amx_finding

    finding = amx_finding()
    yield Check("llama.cpp and AMX", None, f"{finding.reason} {finding.hint}".strip())


def _model_files(model: str | None) -> str:
    entry = registry.find(model)
    registry.verify(entry)
    hashes = (f"{file.name} {expected[:12].lower()}" for file, expected in entry.hashes.items())
    checked = "SHA-256 right: " + ", ".join(hashes) if entry.hashes else "no SHA-256 on record"
    return f"{entry.name} at {entry.path}, {entry.size_bytes / 1e6:.1f} MB, {checked}"


def _self_test(model: str | None, open_model: Callable[..., Model], format_name: str | None) -> str:
    from toolace_edge.builtin import BUILTIN_TOOLS
    from toolace_edge.tools import load_tools

    with open_model(model, format_name=format_name) as opened:
        answer = opened.session(load_tools(list(BUILTIN_TOOLS))).complete(_SELF_TEST)
    said = ", ".join(map(str, answer.calls)) or "no call"
    seconds = answer.usage.prefill_s + answer.usage.decode_s
    return f"{_SELF_TEST!r} -> {said} ({answer.usage.forward_passes} forward passes, {seconds * 1000:.0f} ms)"
