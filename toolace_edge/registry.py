"""Which model: a bundled name or a path becomes an engine, a format and a calibration, once its hashes are checked.

Bundled models lie in the package `toolace_edge.models`, and their names follow from the files:

    "NAME"         models/NAME/        model.onnx, tokenizer.json, and toolace.json, which holds their SHA-256
    "NAME-gguf"    models/NAME.gguf    with NAME.gguf.sha256 beside it, as `sha256sum` writes it

A path to such a folder, to the model.onnx inside it, or to any .gguf is as good as a name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from toolace_edge.errors import ModelError
from toolace_edge.formats import NAMES

if TYPE_CHECKING:
    from toolace_edge.engines.base import Engine
    from toolace_edge.formats.base import Format
    from toolace_edge.session import Session

DEFAULT = "nano"
FACTS_FILE = "toolace.json"


@dataclass(frozen=True, slots=True)
class Entry:
    """A model on disk. `path` is a folder (onnx) or a file (gguf); `hashes` are SHA-256 by file, where known."""

    name: str
    path: Path
    kind: Literal["onnx", "gguf"]
    hashes: Mapping[Path, str]

    @property
    def size_bytes(self) -> int:
        if self.kind == "gguf":
            return self.path.stat().st_size
        return sum(file.stat().st_size for file in self.path.iterdir() if file.is_file())


def bundled(root: Path | None = None) -> dict[str, Entry]:
    """The models that came with this installation, by name, the default one first."""
    root = root or Path(str(files("toolace_edge.models")))
    entries = [_folder_entry(file.parent) for file in sorted(root.glob(f"*/{FACTS_FILE}"))]
    entries += [_gguf_entry(file, f"{file.stem}-gguf") for file in sorted(root.glob("*.gguf"))]
    entries.sort(key=lambda entry: (entry.name != DEFAULT, entry.name))
    return {entry.name: entry for entry in entries}


def find(model: str | Path | None = None) -> Entry:
    """The model of that name, or at that path."""
    known = bundled()
    name = str(model if model is not None else DEFAULT)
    if name in known:
        return known[name]
    path = Path(name)
    if path.is_dir() or path.name == "model.onnx":
        return _folder_entry(path if path.is_dir() else path.parent)
    if path.is_file():
        if path.suffix != ".gguf":
            raise ModelError(f"{path} is neither a .gguf file, a model.onnx, nor a folder with a {FACTS_FILE}.")
        return _gguf_entry(path, path.stem)
    names = ", ".join(known) or "none is installed"
    raise ModelError(
        f"No model is called {name!r}, and no such file exists.",
        hint=f"Known models: {names}. A path to a model folder or a .gguf file works too.",
    )


def _folder_entry(folder: Path) -> Entry:
    facts = read_facts(folder)
    hashes = facts.get("sha256")
    if not isinstance(hashes, dict) or not all(Path(name).name == name for name in hashes):
        raise ModelError(f"{folder / FACTS_FILE}: `sha256` must map the names of files in this folder to their hashes.")
    return Entry(folder.name, folder, "onnx", {folder / name: str(value) for name, value in hashes.items()})


def _gguf_entry(file: Path, name: str) -> Entry:
    beside = file.with_name(file.name + ".sha256")
    if not beside.is_file():
        return Entry(name, file, "gguf", {})
    words = beside.read_text("utf-8", "replace").split()
    if not words:
        raise ModelError(f"{beside} is empty; it should hold the SHA-256 of {file.name}.")
    return Entry(name, file, "gguf", {file: words[0]})


def read_facts(folder: Path) -> dict[str, Any]:
    """toolace.json of a model folder."""
    file = folder / FACTS_FILE
    try:
        facts = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{folder} has no {FACTS_FILE}, so it is not a model folder of ours.") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file} is not JSON: {error}.") from error
    if not isinstance(facts, dict):
        raise ModelError(f"{file} must hold a JSON object.")
    return facts


def verify(entry: Entry) -> None:
    """Raise ModelError where a file is missing or is not the one that its hash was made of. About 1 s a gigabyte."""
    for file, expected in entry.hashes.items():
        if not file.is_file():
            raise ModelError(f"{file} is missing from the model {entry.name}.")
        if _sha256(file) != expected.lower():
            raise ModelError(
                f"{file} is damaged or was changed: its SHA-256 is not the one on record.",
                hint="Install or convert the model again.",
            )


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Model:
    """An open model: what a Session needs besides tools. Close it, or use it as a context manager."""

    name: str
    engine: Engine
    format: Format
    calibration: Mapping[str, Any] | None = None

    def session(self, tools: Iterable[Any] = (), **options: Any) -> Session:
        """A conversation with these tools; `options` are Session's. They share the engine, so use one at a time."""
        from toolace_edge.session import Session

        return Session(self.engine, self.format, tuple(tools), **{"calibration": self.calibration, **options})

    def close(self) -> None:
        self.engine.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_model(
    model: str | Path | None = None,
    *,
    format_name: str | None = None,
    threads: int | None = None,
    n_ctx: int | None = None,
) -> Model:
    """Open a model by name or path. `format_name` says how it writes calls where its own file does not."""
    from toolace_edge.engines.base import open_engine
    from toolace_edge.formats import get

    entry = find(model)
    if entry.kind == "gguf":  # the ONNX engine checks the very bytes that it reads
        verify(entry)
    facts = _facts(entry)
    fmt = get(_format_name(entry, facts, format_name))
    return Model(entry.name, open_engine(entry.path, threads=threads, n_ctx=n_ctx), fmt, facts.get("calibration"))


def _facts(entry: Entry) -> Mapping[str, Any]:
    """`format` and `calibration` as the model's own files have them."""
    if entry.kind == "onnx":
        return read_facts(entry.path)
    from toolace_edge.engines.gguf_header import read_header

    metadata = read_header(entry.path).metadata
    calibration = metadata.get("toolace.calibration")
    try:
        parsed = None if calibration is None else json.loads(str(calibration))
    except ValueError as error:
        raise ModelError(f"{entry.path}: its key toolace.calibration is not JSON: {error}.") from error
    return {"format": metadata.get("toolace.format"), "calibration": parsed}


def _format_name(entry: Entry, facts: Mapping[str, Any], wanted: str | None) -> str:
    name = wanted or facts.get("format")
    if not name:
        raise ModelError(
            f"{entry.path} does not say how its model writes calls.",
            hint="Name it with --format: toolace (ToolACE's own checkpoints), hermes (Qwen, Hermes) or compact.",
        )
    if wanted is None and name not in NAMES:
        raise ModelError(
            f"{entry.path} says that its model writes calls as {name!r:.40}, which is none of {', '.join(NAMES)}.",
            hint="Name the right one with --format.",
        )
    return str(name)


def load(model: str | Path | None = None, tools: Iterable[Any] = (), **options: Any) -> Session:
    """A Session with a model by name or path, and tools: functions, dicts, or `Tool`s. `options` are Session's.

    The engine lives as long as the session; `session.engine.close()` frees it earlier.
    """
    from toolace_edge.tools import load_tools

    return open_model(model).session(load_tools(list(tools)), **options)
