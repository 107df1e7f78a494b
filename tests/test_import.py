"""Importing is cheap and silent, and the public names are the ones that are promised."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import toolace_edge
from toolace_edge import events

HEAVY = (
    *("numpy", "onnxruntime", "llguidance", "llama_cpp", "tokenizers", "torch", "transformers", "onnx", "gguf"),
    *("huggingface_hub", "requests"),
)


def modules_after(statement: str) -> set[str]:
    """Names of the modules that a fresh interpreter has loaded after `statement`, which must print nothing."""
    code = f"{statement}\nimport sys\nsys.stdout.write('\\n' + ' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    printed, _, modules = done.stdout.rpartition("\n")
    assert (printed, done.stderr) == ("", "")
    return set(modules.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import toolace_edge",
        "from toolace_edge import Message, Tool, ToolError, ToolaceEdgeError",
        "from toolace_edge import CallFinished, Event, open_model",
        "import toolace_edge.cli",
        "from toolace_edge.engines import Engine, open_engine",
        "import toolace_edge.registry",
        "import toolace_edge.pull",
        "from tests.cli_page import page; page()",
    ],
)
def test_nothing_heavy_is_imported_by(statement: str) -> None:
    assert modules_after(statement).isdisjoint(HEAVY)


def test_importing_the_package_imports_none_of_its_modules() -> None:
    loaded = {name for name in modules_after("import toolace_edge") if name.startswith("toolace_edge.")}
    assert loaded == set()


@pytest.mark.parametrize("name", toolace_edge.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(toolace_edge, name) is not None


def test_every_event_is_at_the_top_level() -> None:
    assert set(events.__all__) <= set(toolace_edge.__all__)
    assert {name for name in events.__all__ if getattr(toolace_edge, name) is not getattr(events, name)} == set()


def test_the_public_names_are_sorted_and_listed() -> None:
    assert toolace_edge.__all__ == sorted(toolace_edge.__all__)
    assert set(toolace_edge.__all__) <= set(dir(toolace_edge))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        toolace_edge.nothing  # noqa: B018


@pytest.mark.parametrize("model", ["nano", "nano-gguf"])
def test_a_native_runtime_leaves_nothing_in_the_home(model: str, tmp_path: Path) -> None:
    """onnxruntime from 1.29 on keeps an identifier there and reports, unless it is told not to before it loads.

    It also holds back where it finds signs of a CI, so the process gets an environment with none.
    """
    if model == "nano-gguf":
        pytest.importorskip("llama_cpp")
    code = f"from toolace_edge.registry import load; load({model!r}).complete('set a timer for 5 minutes')"
    keep = ("PATH", "PYTHONPATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "LLAMA_CPP_LIB_PATH")
    environment = {name: os.environ[name] for name in keep if name in os.environ}
    environment |= {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "ours")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name for path in tmp_path.iterdir()} <= {"ours"}
    assert {path.name for path in (tmp_path / "ours").glob("*")} <= {"toolace-edge"}


def test_onnxruntime_is_loaded_in_one_place() -> None:
    root = Path(toolace_edge.__file__).parent
    loads = re.compile(r"^\s*(?:import|from) onnxruntime\b", re.MULTILINE)
    found = {path.name for path in root.rglob("*.py") if loads.search(path.read_text("utf-8"))}
    assert found == {"onnx_native.py"}
