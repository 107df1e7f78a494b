"""Whether llama.cpp may use AMX is found out once, by a child process."""

from __future__ import annotations

import os
import sys

import pytest

from toolace_edge.engines import amx
from toolace_edge.engines.gguf_header import read_header

pytest.importorskip("llama_cpp")
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
