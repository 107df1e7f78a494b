"""The small files of a run's folder: what the run is, each written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from toolace_edge.errors import InputError

_PART = 1 << 24


def digest(file: Path) -> str:
    """SHA-256 of a file; of weights, which may be many gigabytes, of the size and the first and last 16 MiB."""
    size, found = file.stat().st_size, hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(_PART):
            found.update(block)
            if file.suffix == ".safetensors" and content.tell() < size - _PART:
                found.update(str(size).encode())
                content.seek(size - _PART)
    return found.hexdigest()


def digests(folder: Path) -> dict[str, str]:
    """Those of a Hugging Face folder's configuration, tokenizer and weights."""
    files = (folder / "config.json", folder / "tokenizer.json", *sorted(folder.glob("*.safetensors")))
    return {file.name: digest(file) for file in files if file.is_file()}


def begin_run(out: Path, facts: Mapping[str, Any]) -> None:
    """Writes down what the run in `out` is."""
    out.mkdir(parents=True, exist_ok=True)
    replace_text(out / "run.json", json.dumps(facts, indent=1) + "\n")


def check_same_run(out: Path, facts: Mapping[str, Any]) -> None:
    """InputError where another run was begun in `out`."""
    file = out / "run.json"
    if not file.exists():
        return
    before, now = read_json(file), json.loads(json.dumps(facts))
    if changed := [name for name in now if before.get(name) != now[name]]:
        raise InputError(
            f"{out} holds a run with another {' and another '.join(changed)}.", hint="Give another --out, or remove it."
        )


def text_lines(file: Path) -> Iterator[str]:
    """The lines of a text, without their ends: line feeds alone, as an id may hold whatever else Unicode breaks at.

    InputError where the file is no text.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="\n") as lines:
            for line in lines:
                yield line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8, so no text: {error}.", hint="Give the file that was meant.") from error
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}.") from error


def replace_text(file: Path, text: str) -> None:
    """`file` holds `text` from now on, or what it held before."""
    part = file.with_name(f".{file.name}.part")
    part.write_text(text, "utf-8")
    part.replace(file)


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder to fill, which is `out` once all is in it. InputError where `out` is there already."""
    if out.exists():
        raise InputError(f"{out} is there already.", hint="Give another --out, or remove it.")
    aside = out.with_name(f".{out.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        aside.replace(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def read_json(file: Path) -> dict[str, Any]:
    """The object in a file that `replace_text` wrote; InputError where somebody else did."""
    try:
        found = json.loads(file.read_text("utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{file} is damaged.", hint="Remove it: what it says is made again.")
    return found
