"""The folders and pyproject.toml say the same, and the wheel holds what they say."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

import toolace_edge

tomllib = pytest.importorskip("tomllib")
ROOT = Path(__file__).parent.parent
SOURCES = ("toolace_edge", "convert", "models", "train")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    settings: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    return settings


def installed_name(folder: Path) -> str:
    parts = folder.relative_to(ROOT).parts
    return ".".join(parts if parts[0] == "toolace_edge" else ("toolace_edge", *parts))


def test_the_package_list_is_the_folders(project: dict[str, Any]) -> None:
    folders = {installed_name(file.parent) for source in SOURCES for file in (ROOT / source).rglob("__init__.py")}
    assert folders == set(project["tool"]["setuptools"]["packages"])


def test_each_folder_is_mapped_to_its_place(project: dict[str, Any]) -> None:
    mapping = project["tool"]["setuptools"]["package-dir"]
    assert {installed_name(ROOT / folder): folder for folder in SOURCES} == mapping


def test_the_base_install_needs_no_compiler_and_no_torch(project: dict[str, Any]) -> None:
    names = {re.split("[>;]", requirement)[0] for requirement in project["project"]["dependencies"]}
    assert names == {"click", "llguidance", "numpy", "onnxruntime", "tokenizers", "tzdata"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names in a wheel built from a copy of the sources."""
    copy = tmp_path_factory.mktemp("source")
    for source in SOURCES:
        shutil.copytree(ROOT / source, copy / source, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, copy)
    build = "from setuptools import build_meta; print(build_meta.build_wheel('dist'))"
    (copy / "dist").mkdir()
    subprocess.run([sys.executable, "-c", build], cwd=copy, check=True, capture_output=True)
    (file,) = (copy / "dist").glob("*.whl")
    assert file.name.startswith(f"toolace_edge-{toolace_edge.__version__}-py3-none-any")
    with zipfile.ZipFile(file) as archive:
        return archive.namelist()


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_packages(wheel: list[str]) -> None:
    wanted = set()
    for source in SOURCES:
        for file in (ROOT / source).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                wanted.add("/".join([*installed_name(file.parent).split("."), file.name]))
    assert wanted - set(wheel) == set()


@pytest.mark.slow
def test_the_wheel_puts_nothing_beside_the_package(wheel: list[str]) -> None:
    top = {name.split("/")[0] for name in wheel}
    assert top == {"toolace_edge", f"toolace_edge-{toolace_edge.__version__}.dist-info"}
