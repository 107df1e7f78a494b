"""What holds for every test: the user's own models are neither seen nor touched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # libraries that load onnxruntime by themselves


@pytest.fixture(autouse=True, scope="session")
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty model store, for this process and those that it starts."""
    folder = tmp_path_factory.mktemp("home")
    before = os.environ.get("TOOLACE_EDGE_HOME")
    os.environ["TOOLACE_EDGE_HOME"] = str(folder)
    yield folder
    os.environ.pop("TOOLACE_EDGE_HOME")
    if before is not None:
        os.environ["TOOLACE_EDGE_HOME"] = before
