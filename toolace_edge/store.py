"""The model store: a folder of models by name, which two processes may change at once.

    HOME/models/NAME/manifest.json     what it is (manifest.py)
    HOME/models/NAME/model/...         its files, unless the manifest links to where they lie
    HOME/models/.adding-*, .removed-*  being written or removed; swept up after a day
    HOME/models/.pulls/...             downloads that can be taken up again (hub.py)

A model appears and disappears by one rename of its folder. Where two add the same name, the second is refused.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from toolace_edge.errors import InputError, ModelError
from toolace_edge.formats import NAMES
from toolace_edge.manifest import (
    FILE_NAME,
    Kind,
    Manifest,
    StoredFile,
    check_name,
    is_inside,
    is_name,
    name_from,
    read_manifest,
)
from toolace_edge.model_facts import examine, hash_beside, model_files
from toolace_edge.paths import data_dir

_BLOCK_BYTES = 1 << 20
_STALE_S = 24 * 3600

Progress = Callable[[int], None]  # told how many bytes were read since it was last called


def _silent(size_bytes: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Store:
    """The models below `root`, which is made when the first is added."""

    root: Path

    @classmethod
    def default(cls) -> Store:
        return cls(data_dir() / "models")

    def names(self) -> list[str]:
        """What is in the store, damaged models included."""
        try:
            return sorted(entry.name for entry in self.root.iterdir() if is_name(entry.name) and entry.is_dir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ModelError(f"The model store {self.root} cannot be read ({error.strerror}).", hint="") from error

    def holds(self, name: str) -> bool:
        """Whether a model is called so, letter by letter: some disks would find it by another case of them, too."""
        return is_name(name) and (self.root / name).is_dir() and name in self.names()

    def read(self, name: str) -> Manifest:
        """The manifest of a model; ModelError where it is damaged."""
        return read_manifest(self.root / name / FILE_NAME)

    def folder(self, manifest: Manifest) -> Path:
        """Where the model's files lie."""
        if manifest.link is None:
            return self.root / manifest.name / "model"
        link = Path(manifest.link)
        return link.parent if manifest.kind == "gguf" else link

    def path(self, manifest: Manifest) -> Path:
        """What an engine opens: the .gguf file, or the folder."""
        folder = self.folder(manifest)
        return folder / manifest.files[0].path if manifest.kind == "gguf" else folder

    def check_free(self, name: str, reserved: Collection[str] = ()) -> str:
        """`name`, unless it is taken: by a model of the store or one of the `reserved` names."""
        check_name(name)
        if name in reserved:
            raise InputError(f"{name} is the name of a model that came with the program.", hint="Give another --name.")
        if (self.root / name).exists():
            raise _taken(name)
        return name

    def add(
        self,
        source: str | Path,
        *,
        name: str | None = None,
        link: bool = False,
        format_name: str | None = None,
        licence: str | None = None,
        reserved: Collection[str] = (),
        progress: Progress = _silent,
    ) -> Manifest:
        """Copy a model into the store after checking it, or with `link` only note where it is.

        A .gguf is read once (its hash), an ONNX model twice. InputError where the name is taken or `source` is not a
        model, ModelError where its header does not hold together.
        """
        if format_name is not None and format_name not in NAMES:
            raise InputError(f"There is no format {format_name!r}.", hint=f"Formats are {', '.join(NAMES)}.")
        path = Path(os.path.abspath(source))
        name = self.check_free(name or _name_of(path), reserved)
        path, facts = examine(path)
        beside = path.parent if facts.kind == "gguf" else path
        with self.aside() as folder:
            files = self._take(beside, model_files(path, facts.kind), None if link else folder / "model", progress)
            _check_hash(path, facts.kind, files[0])
            manifest = Manifest(
                name=name,
                kind=facts.kind,
                files=files,
                format=format_name or facts.format,
                licence=licence or facts.licence,
                source=str(path),
                revision=None,
                added=utc_now(),
                link=str(path) if link else None,
            )
            self.commit(folder, manifest)
        return manifest

    def _take(
        self, beside: Path, names: Sequence[str], target: Path | None, progress: Progress
    ) -> tuple[StoredFile, ...]:
        """Hash the files, and copy them to `target` where there is one."""
        odd = next((name for name in names if not is_inside(name)), None)
        if odd is not None:
            raise InputError(f"{beside}: {odd!r} holds characters that some systems do not allow.", hint="Rename it.")
        if target is not None:
            self.check_room(sum((beside / name).stat().st_size for name in names))
            target.mkdir()
        return tuple(_read(beside / name, target and target / name, progress) for name in names)

    @contextmanager
    def aside(self) -> Iterator[Path]:
        """A new folder beside the models, to be committed; what is left of it is removed."""
        self.root.mkdir(parents=True, exist_ok=True)
        self._sweep()
        folder = self.root / f".adding-{uuid.uuid4().hex}"
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def commit(self, folder: Path, manifest: Manifest, *, replace: bool = False) -> None:
        """The folder that was filled aside becomes the model. Only with `replace` may there be one already."""
        (folder / FILE_NAME).write_text(manifest.to_json(), encoding="utf-8")
        target, old = self.root / manifest.name, None
        if replace and target.exists():
            old = target.rename(self.root / f".removed-{uuid.uuid4().hex}")
        try:
            folder.rename(target)
        except OSError as error:
            if target.exists():  # each system has its own error for that
                raise _taken(manifest.name) from error
            if old is not None:
                old.rename(target)
            raise
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)

    def note(self, manifest: Manifest) -> None:
        """What is known of a model that is here, renewed by one rename."""
        part = self.root / manifest.name / f".{uuid.uuid4().hex}.part"
        try:
            part.write_text(manifest.to_json(), encoding="utf-8")
            part.replace(part.with_name(FILE_NAME))
        finally:
            part.unlink(missing_ok=True)

    def check_room(self, size_bytes: int) -> None:
        """ModelError where the disk has no room for so much more."""
        free = shutil.disk_usage(self.root).free
        if size_bytes > free:
            raise ModelError(
                f"{size_bytes / 1e9:.2f} GB do not fit into {self.root}: {free / 1e9:.2f} GB are free.",
                hint="Remove a model (`toolace-edge models rm`), or keep the store elsewhere (TOOLACE_EDGE_HOME).",
            )

    def remove(self, name: str) -> None:
        """Take a model out of the store, damaged or not. What it links to stays."""
        if not self.holds(check_name(name)):
            raise InputError(f"No model called {name!r} is in the store.", hint=self._known())
        removed = self.root / f".removed-{uuid.uuid4().hex}"
        (self.root / name).rename(removed)
        shutil.rmtree(removed, ignore_errors=True)

    def _known(self) -> str:
        names = self.names()
        return f"It holds: {', '.join(names)}." if names else "It is empty."

    def _sweep(self) -> None:
        """Remove what a killed process left behind."""
        for folder in (*self.root.glob(".adding-*"), *self.root.glob(".removed-*")):
            with suppress(OSError):
                if time.time() - folder.stat().st_mtime > _STALE_S:
                    shutil.rmtree(folder, ignore_errors=True)


def sha256_of(file: Path, progress: Progress = _silent) -> str:
    """About 1 s a gigabyte."""
    return _read(file, None, progress).sha256


def utc_now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")


def _read(file: Path, target: Path | None, progress: Progress) -> StoredFile:
    """Hash a file and, with a target, copy it in the same pass."""
    digest, size_bytes = hashlib.sha256(), 0
    with file.open("rb") as stream, open(target or os.devnull, "wb") as copy:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
            copy.write(block)
            size_bytes += len(block)
            progress(len(block))
    return StoredFile(file.name, size_bytes, digest.hexdigest())


def _check_hash(path: Path, kind: Kind, read: StoredFile) -> None:
    """ModelError where a .gguf is not the file that its .sha256 was made of; a folder was examined already."""
    expected = hash_beside(path) if kind == "gguf" else None
    if expected is not None and expected != read.sha256:
        raise ModelError(
            f"{path} is damaged or was changed: its SHA-256 is not the one in {path.name}.sha256.",
            hint="Convert or download it again.",
        )


def _name_of(path: Path) -> str:
    if path.name == "model.onnx":
        path = path.parent
    return name_from(path.stem if path.suffix.lower() == ".gguf" else path.name)


def _taken(name: str) -> InputError:
    return InputError(
        f"A model called {name} is in the store already.",
        hint=f"Give another --name, or remove that one: `toolace-edge models rm {name}`.",
    )
