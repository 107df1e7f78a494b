"""Whether llama.cpp may use AMX is found out once, by a child process; where it does, nobody disturbs its tiles."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from importlib.resources import files
from pathlib import Path

import pytest

from toolace_edge.engines import amx, llama_cpp
from toolace_edge.engines.gguf_header import read_header
from toolace_edge.engines.llama_native import native

pytest.importorskip("llama_cpp")
NANO = Path(str(files("toolace_edge.models"))) / "nano.gguf"
CRASH = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"


@pytest.fixture
def find(monkeypatch, tmp_path):
    """amx_finding() as on a CPU with AMX, with `script` for a child."""
    monkeypatch.setenv("TOOLACE_EDGE_CACHE", str(tmp_path))

    def find(script: str, flags: tuple[str, ...] = ("amx_int8", "amx_tile")) -> amx.AmxFinding:
        monkeypatch.setattr(amx, "PROBE", (sys.executable, "-c", script))
        monkeypatch.setattr(amx, "_amx_flags", lambda: list(flags))
        amx.amx_finding.cache_clear()
        try:
            return amx.amx_finding()
        finally:
            amx.amx_finding.cache_clear()

    return find


def test_without_amx_nothing_is_tried(find):
    assert find(CRASH, flags=()).usable


def test_a_child_that_lives_lets_amx_be_used(find):
    assert find("pass").usable


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_crash_is_remembered_and_said(find):
    assert not find(CRASH).usable
    finding = find("pass")  # not asked again
    assert not finding.usable
    assert "crashes" in finding.reason
    assert "GCC 13" in str(finding)


def test_a_child_that_only_failed_is_asked_again(find):
    assert not find("raise SystemExit(1)").usable
    assert find("pass").usable


def test_the_probe_runs_a_quantized_model_here(tmp_path):
    (tmp_path / "probe.gguf").write_bytes(amx.probe_model())
    assert read_header(tmp_path / "probe.gguf").quantized
    assert amx._probe() is True


def test_with_amx_the_model_runs_in_a_thread_that_nothing_else_runs_in(monkeypatch):
    seen = []

    def watched(context, batch):
        seen.append(threading.get_ident())
        return decode(context, batch)

    decode = native().llama_decode
    monkeypatch.setattr(native(), "llama_decode", watched)
    monkeypatch.setattr(llama_cpp, "has_amx", lambda: False)
    with llama_cpp.LlamaCppEngine(NANO, float16=False) as plain:
        expected = plain.forward(range(300, 340), 3)
    assert set(seen) == {threading.get_ident()}
    monkeypatch.setattr(llama_cpp, "has_amx", lambda: True)
    with llama_cpp.LlamaCppEngine(NANO, repack=True, float16=False) as engine:
        assert (engine.forward(range(300, 340), 3) == expected).all()
        with pytest.raises(ValueError, match="rewind"):
            engine.rewind(99)
    assert len(set(seen)) == 2


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_an_interrupt_is_raised_once_the_call_has_ended():
    """In a process of its own, whose main thread has long been waiting when the signal comes.

    A shell's background job ignores interrupts, and so do its children: hence the handler.
    """
    script = """
import signal, threading, time
from toolace_edge.engines.own_thread import OwnThread

def interrupt():
    time.sleep(0.5)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    time.sleep(0.5)
    ended.append(True)

ended = []
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    OwnThread().run(interrupt)
except KeyboardInterrupt:
    assert ended
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")


@pytest.mark.slow
def test_others_who_use_amx_in_the_same_thread_change_nothing():
    """In a process of its own, as the fault would end it. On a CPU without AMX it cannot fail."""
    pytest.importorskip("torch")
    script = f"""
import torch
from toolace_edge.engines.llama_cpp import LlamaCppEngine
with LlamaCppEngine({str(NANO)!r}, float16=False, threads=1) as engine:
    before = engine.forward(range(300, 400), 9)
    square = torch.ones(512, 512, dtype=torch.bfloat16)
    square @ square
    engine.rewind(0)
    assert (engine.forward(range(300, 400), 9) == before).all()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
