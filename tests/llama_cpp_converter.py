"""The oracle for GGUF files: the converter inside the source distribution of the llama-cpp-python that is installed.

The distribution (77 MB) is downloaded once, by pip and so from wherever pip is told to look; the converter, 2 MB of it,
stays in the cache folder. It runs in a process of its own, where its own copy of `gguf` comes before the installed:

    python -m tests.llama_cpp_converter FOLDER < jobs    jobs: a JSON list of {"source", "kind", "out", "name", "pre"}

Two of its functions are replaced there. It finds the pre-tokenizer by a hash of what the tokenizer makes of a text,
which no self-trained one has, so the job names it; and it loads `sentencepiece` before it looks whether there is a
tokenizer.model to read with it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from toolace_edge.paths import cache_dir

DISTRIBUTION = "llama-cpp-python"
KINDS = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}
_INSIDE = "vendor/llama.cpp/"
_PARTS = ("conversion/", "gguf-py/gguf/")


class NotToBeHad(Exception):
    """Why there is no converter here."""


def converter_folder() -> Path:
    """Where the converter lies, downloaded if need be."""
    release = version(DISTRIBUTION)
    folder = cache_dir() / f"llama.cpp-converter-{release}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".converter-") as scratch:
            _unpack(_downloaded(release, Path(scratch)), Path(scratch) / "converter")
            with contextlib.suppress(OSError):  # another run was faster
                (Path(scratch) / "converter").rename(folder)
    return folder


def _downloaded(release: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--quiet", "--retries", "1"]
    command += ["--no-deps", "--no-binary", DISTRIBUTION, "--dest", str(folder), f"{DISTRIBUTION}=={release}"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    found = list(folder.glob("*.tar.gz"))
    if done.returncode or len(found) != 1:
        said = (done.stderr.strip() or f"{len(found)} files came").splitlines()
        raise NotToBeHad(f"pip download {DISTRIBUTION}=={release}: {said[-1]}")
    return found[0]


def _unpack(archive: Path, folder: Path) -> None:
    """Of the files below vendor/llama.cpp those of the converter, each by its own name: nothing leads elsewhere."""
    with tarfile.open(archive) as opened:
        for member in opened:
            name = member.name.partition("/")[2].removeprefix(_INSIDE)
            if not member.isfile() or not name.startswith(_PARTS) or ".." in Path(name).parts:
                continue
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            content = opened.extractfile(member)
            assert content is not None
            with place.open("wb") as file:
                shutil.copyfileobj(content, file)
    assert (folder / "conversion" / "base.py").is_file(), f"{archive} has no converter"


def convert_all(folder: Path, jobs: Sequence[dict[str, str]]) -> None:
    """Runs `jobs` with the converter in `folder`; AssertionError with its last words where it fails."""
    command = [sys.executable, "-m", __name__, str(folder)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command,
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent.parent,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def _convert(job: dict[str, str]) -> None:
    import gguf
    from conversion import base, get_model_class
    from conversion.base import ModelBase

    def no_model(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise FileNotFoundError("tokenizer.model")

    base.TextModel.get_vocab_base_pre = lambda self, tokenizer: job["pre"]
    base.TextModel._create_vocab_sentencepiece = no_model
    source = Path(job["source"])
    architecture = ModelBase.load_hparams(source, False)["architectures"][0]
    file_type = gguf.LlamaFileType[KINDS[job["kind"]]]
    get_model_class(architecture)(source, file_type, Path(job["out"]), model_name=job["name"]).write()


def _main() -> None:
    folder = Path(sys.argv[1])
    sys.path[:0] = [str(folder / "gguf-py"), str(folder)]
    import torch

    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    with torch.inference_mode():
        for job in json.load(sys.stdin):
            _convert(job)


if __name__ == "__main__":
    _main()
