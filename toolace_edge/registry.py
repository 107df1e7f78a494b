"""Which model: a bundled name or a path becomes an engine, a format and a calibration, once its hashes are checked.

Bundled models lie in the package `toolace_edge.models`, and their names follow from the files:

    "NAME"         models/NAME/        model.onnx, tokenizer.json, and toolace.json, which holds their SHA-256
    "NAME-gguf"    models/NAME.gguf    with NAME.gguf.sha256 beside it, as `sha256sum` writes it

The names of the store (store.py) come after them. A path to such a folder, to the model.onnx inside it, or to any .gguf
is as good as a name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from toolace_edge.errors import InputError, ModelError
from toolace_edge.formats import ASK, NAMES
from toolace_edge.manifest import Kind, Manifest
from toolace_edge.messages import Tool
from toolace_edge.model_facts import FACTS_FILE, hash_beside, read_hashes, read_model_facts
from toolace_edge.store import Store, sha256_of

if TYPE_CHECKING:
    from toolace_edge.engines.base import Engine
    from toolace_edge.formats.base import Format
    from toolace_edge.session import Session
    from toolace_edge.tools import Source

DEFAULT = "nano"


@dataclass(frozen=True, slots=True)
class Entry:
    """A model on disk. `path` is a file (gguf) or a folder; `hashes` are SHA-256 by file, where known.

    `manifest` is what the store knows of it, where it is one of the store's.
    """

    name: str
    path: Path
    kind: Kind
    hashes: Mapping[Path, str]
    manifest: Manifest | None = None

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


def find(model: str | os.PathLike[str] | None = None) -> Entry:
    """The model of that name, bundled or in the store, or at that path; a name counts before a path.

    ModelError where there is none; InputError for what is neither a name nor a path.
    """
    if not isinstance(model, str | os.PathLike | None):
        raise _no_model(model)
    known = bundled()
    name = os.fspath(model) if model is not None else DEFAULT
    if name in known:
        return known[name]
    store = Store.default()
    if store.holds(name):
        return stored(name, store)
    path = Path(name)
    if _exists(path, Path.is_dir) or path.name == "model.onnx":
        return _folder_entry(path if path.is_dir() else path.parent)
    if _exists(path, Path.is_file):
        if path.suffix != ".gguf":
            raise ModelError(f"{path} is neither a .gguf file, a model.onnx, nor a folder with a {FACTS_FILE}.")
        return _gguf_entry(path, path.stem)
    names = ", ".join([*known, *store.names()]) or "none is installed"
    raise ModelError(
        f"No model is called {name!r:.200}, and no such file exists.",
        hint=f"Known models: {names}. A path to a model folder or a .gguf file works too.",
    )


def path_only(path: Path) -> str:
    """`path` as a text that `find` takes for no name: `./nano`."""
    return str(path) if len(path.parts) > 1 else f".{os.sep}{path}"


def check_clear(model: str) -> None:
    """InputError where `model` is the name of one model and the path of another."""
    path = Path(model)
    known = model in bundled() or Store.default().holds(model)
    if known and _exists(path, Path.exists) and not path.samefile(find(model).path):
        raise InputError(
            f"{model} is the name of a model, and of a file or folder here too.",
            hint=f"Write {path_only(path)} for what is here; the other one is {find(model).path}.",
        )


def _exists(path: Path, kind: Callable[[Path], bool]) -> bool:
    try:
        return kind(path)
    except (OSError, ValueError):  # a name that no file can have
        return False


def _no_model(given: object) -> InputError:
    """For what stands in a model's place."""
    if isinstance(given, Model):
        return InputError(f"The model {given.name} is open already.", hint="Use it as it is.")
    listed = given if isinstance(given, list | tuple | set) else [given]
    tools = any(callable(one) or isinstance(one, Tool | Mapping) for one in listed)
    return InputError(
        f"A model is a name, a path or an open Model, not {type(given).__name__}.",
        hint="Tools go by name: tools=[...]." if tools else "Without one, the bundled model is taken.",
    )


def stored(name: str, store: Store) -> Entry:
    """The model of that name in a store; ModelError where it is damaged."""
    manifest = store.read(name)
    folder = store.folder(manifest)
    hashes = {folder / file.path: file.sha256 for file in manifest.files}
    return Entry(name, store.path(manifest), manifest.kind, hashes, manifest)


def _folder_entry(folder: Path) -> Entry:
    hashes = read_hashes(folder)
    return Entry(folder.name, folder, "onnx", {folder / name: value for name, value in hashes.items()})


def _gguf_entry(file: Path, name: str) -> Entry:
    sha256 = hash_beside(file)
    return Entry(name, file, "gguf", {} if sha256 is None else {file: sha256})


def verify(entry: Entry, sha256: Callable[[Path], str] = sha256_of) -> None:
    """Raise ModelError where a file is missing or is not the one that its hash was made of. About 1 s a gigabyte."""
    for file, expected in entry.hashes.items():
        if not file.is_file():
            raise ModelError(f"{file} is missing from the model {entry.name}.")
        if sha256(file) != expected.lower():
            raise ModelError(
                f"{file} is damaged or was changed: its SHA-256 is not the one on record.",
                hint="Install, convert or pull the model again.",
            )


@dataclass(frozen=True, slots=True)
class Model:
    """An open model: what a Session needs besides tools. Close it, or use it as a context manager."""

    name: str
    engine: Engine
    format: Format
    calibration: Mapping[str, Any] | None = None

    def session(self, tools: Source = (), **options: Any) -> Session:
        """Answers with these tools; `options` are Session's. All share the engine, and wait for their turn at it."""
        from toolace_edge.session import Session

        return Session(self.engine, self.format, tools, **{"calibration": self.calibration, **options})

    def close(self) -> None:
        self.engine.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_model(
    model: str | os.PathLike[str] | None = None,
    *,
    format_name: str | None = None,
    threads: int | None = None,
    n_ctx: int | None = None,
) -> Model:
    """Open a model by name or path. `format_name` says how it writes calls where its own file does not."""
    from toolace_edge.engines.base import open_engine
    from toolace_edge.engines.cache_file import weights_sha256
    from toolace_edge.formats import get

    entry = find(model)
    if entry.kind == "checkpoint":
        form = f" --format {entry.manifest.format}" if entry.manifest and entry.manifest.format else ""
        raise ModelError(
            f"{entry.name} is a checkpoint, which no engine runs.",
            hint=f"Convert it first: toolace-edge convert gguf {entry.path} {entry.name}.gguf --kind Q8_0{form}",
        )
    if entry.kind == "gguf":  # the ONNX engine checks the very bytes that it reads
        verify(entry, weights_sha256)
    facts = read_model_facts(entry.path, entry.kind)
    recorded = entry.manifest.format if entry.manifest else None
    fmt = get(_format_name(entry, recorded or facts.format, format_name))
    return Model(entry.name, open_engine(entry.path, threads=threads, n_ctx=n_ctx), fmt, facts.calibration)


def _format_name(entry: Entry, said: str | None, wanted: str | None) -> str:
    name = wanted or said
    if not name:
        raise ModelError(
            f"{entry.path} does not say how its model writes calls.",
            hint=ASK,
        )
    if wanted is None and name not in NAMES:
        raise ModelError(
            f"{entry.path} says that its model writes calls as {name!r:.40}, which is none of {', '.join(NAMES)}.",
            hint="Name the right one with --format.",
        )
    return name


def load(model: Model | str | os.PathLike[str] | None = None, tools: Source = (), **options: Any) -> Session:
    """A Session with a model (a name, a path, or an open `Model`), and tools: whatever `load_tools` takes.

    `options` are Session's. An engine opened here lives as long as the session; `session.engine.close()` frees it
    earlier. InputError where `model` is none of the three.
    """
    from toolace_edge.tools import tools_of

    described = tools_of(tools)  # before the model, which takes longer
    opened = model if isinstance(model, Model) else open_model(model)
    try:
        return opened.session(described, **options)
    except BaseException:
        if opened is not model:
            opened.close()
        raise
