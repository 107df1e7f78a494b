"""`models pull`: one model of a Hugging Face repository into the store, whole or not at all.

What is fetched lies below the store's .pulls until all of it is there and was checked: against the hub's hashes, and by
the same guards as a file of the user's. Offline, no connection is opened.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath

from toolace_edge import hub
from toolace_edge.catalogue import known
from toolace_edge.errors import InputError, MissingDependency, ModelError
from toolace_edge.formats import NAMES
from toolace_edge.hub import Listing
from toolace_edge.hub_files import Choice, HubFile, choose, is_wanted, quantization_of
from toolace_edge.manifest import Manifest, name_from
from toolace_edge.model_facts import ModelFacts, examine, read_model_facts
from toolace_edge.store import Store, utc_now

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_ADDRESS = re.compile(r"^((https?://)?(huggingface\.co|hf\.co)/|hf:)")


def pull(
    reference: str,
    store: Store,
    *,
    name: str | None = None,
    revision: str | None = None,
    offline: bool = False,
    format_name: str | None = None,
    reserved: Collection[str] = (),
    say: hub.Say = lambda line: None,
) -> tuple[Manifest, bool]:
    """The model that `OWNER/REPO[:FILE or KIND]` names, and whether it had to be fetched.

    A model of the same repository and name, but of another commit, is replaced. InputError where there is no such model
    or more than one; ModelError where it cannot be had or is not whole.
    """
    repo, wanted = parse_reference(reference)
    if format_name is not None and format_name not in NAMES:
        raise InputError(f"There is no format {format_name!r}.", hint=f"Formats are {', '.join(NAMES)}.")
    if offline or hub.is_offline():
        return _in_format(store, _stored(store, repo, wanted, revision, name), format_name), False
    listing = hub.list_repo(repo, revision)
    choice = choose(repo, listing.files, wanted)
    name = name or _name_for(repo, choice)
    here = _already_there(store, name, listing, choice, reserved)
    if here is not None and here.revision == listing.commit:
        return _in_format(store, here, format_name), False
    say(f"{repo} at {listing.commit[:12]}: {len(choice.files)} files, {choice.size_bytes / 1e9:.2f} GB")
    with _download_folder(store, listing, choice) as folder:
        files = tuple(hub.fetch(listing, file, folder, say) for file in choice.files)
        facts = _check(folder, choice)
        manifest = Manifest(
            name=name,
            kind=choice.kind,
            files=files,
            format=format_name or facts.format or _format_of(listing),
            licence=listing.licence or facts.licence,
            source=f"hf:{repo}",
            revision=listing.commit,
            added=utc_now(),
            link=None,
            folder=choice.folder,
        )
        _move_in(store, folder / choice.folder, manifest, replace=here is not None)
        shutil.rmtree(folder, ignore_errors=True)
    return manifest, True


def parse_reference(reference: str) -> tuple[str, str | None]:
    """(repository, what of it): with or without the hub's address, or by the last part of a name in the catalogue."""
    repo, colon, wanted = _ADDRESS.sub("", reference.strip()).partition(":")
    repo = repo.removesuffix(".git")  # of an address to clone
    listed = known(repo)
    if "/" not in repo and listed is not None:
        repo = listed.repo
    if not _REPO.fullmatch(repo) or ".." in repo or (colon and not wanted):
        raise InputError(
            f"{reference!r:.120} does not name a repository.",
            hint="Write OWNER/REPO, OWNER/REPO:Q4_K_M or OWNER/REPO:FILE.gguf; `models ls --remote` lists some.",
        )
    return repo, wanted or None


def _stored(store: Store, repo: str, wanted: str | None, revision: str | None, name: str | None) -> Manifest:
    """The model of that repository that is in the store already, called `name` if that is given.

    InputError where there are several; ModelError says that it is missing.
    """
    here = [one for one in _of_repository(store, repo) if revision in (None, one.revision)]
    if wanted is None:  # as in a repository, a checkpoint counts only where nothing runs as it is
        found = [one for one in here if one.kind != "checkpoint"] or here
    else:
        found = [one for one in here if is_wanted(_choice_of(one), wanted)]
    named = [one for one in found if name in (None, one.name)]
    what = f"{repo}{f':{wanted}' if wanted else ''}{f' at {revision}' if revision else ''}"
    names = ", ".join(one.name for one in found)
    if len(named) == 1:
        return named[0]
    if named:
        raise InputError(f"{what} is in the store as {names}.", hint="Say which with --name, or by its file or kind.")
    if found:
        raise InputError(f"{what} is in the store as {names}, not as {name}.", hint="Leave --name away.")
    begun = "; a download of it was begun and is not whole" if _downloads(store, repo).exists() else ""
    raise ModelError(
        f"{what} is not in the store {store.root}, and offline nothing is fetched{begun}.",
        hint="Pull it without --offline and HF_HUB_OFFLINE, or bring the file here and `models add` it.",
    )


def _of_repository(store: Store, repo: str) -> Iterator[Manifest]:
    for name in store.names():
        with suppress(ModelError):  # one that is damaged is not the one
            manifest = store.read(name)
            if manifest.source == f"hf:{repo}":
                yield manifest


def _choice_of(manifest: Manifest) -> Choice:
    """What was chosen of the repository when it was pulled."""
    files = tuple(HubFile(str(PurePosixPath(manifest.folder, file.path))) for file in manifest.files)
    quantization = quantization_of(files[0].path) if manifest.kind == "gguf" else None
    return Choice(manifest.kind, files, manifest.folder, quantization)


def _in_format(store: Store, manifest: Manifest, format_name: str | None) -> Manifest:
    """The same model, noted to write calls as `format_name` where that is given and another."""
    if format_name in (None, manifest.format):
        return manifest
    noted = replace(manifest, format=format_name)
    store.note(noted)
    return noted


def _name_for(repo: str, choice: Choice) -> str:
    """`OWNER/Name-8B-GGUF` and Q4_K_M -> `Name-8B-Q4_K_M`; a .gguf of no known kind keeps its own name."""
    last = re.sub(r"[-_.]gguf$", "", repo.partition("/")[2], flags=re.IGNORECASE)
    if choice.kind != "gguf":
        return name_from(f"{last}-{choice.folder}" if choice.folder else last)
    if choice.quantization is None:
        return name_from(PurePosixPath(choice.files[0].path).stem)
    said = last.upper().replace(".", "-").endswith(f"-{choice.quantization}")
    return name_from(last if said else f"{last}-{choice.quantization}")


def _already_there(
    store: Store, name: str, listing: Listing, choice: Choice, reserved: Collection[str]
) -> Manifest | None:
    """The same model in the store, of whatever commit. InputError where the name is another model's."""
    if store.holds(name):
        manifest = store.read(name)
        names = {PurePosixPath(file.path).name for file in choice.files}
        same_file = choice.kind != "gguf" or {file.path for file in manifest.files} == names
        found = (manifest.source, manifest.kind, manifest.folder)
        if found == (f"hf:{listing.repo}", choice.kind, choice.folder) and same_file:
            return manifest
    store.check_free(name, reserved)
    return None


def _downloads(store: Store, repo: str) -> Path:
    return store.root / ".pulls" / repo.replace("/", "--")


@contextmanager
def _download_folder(store: Store, listing: Listing, choice: Choice) -> Iterator[Path]:
    """Where this download is, or was begun; one process at a time. Goes away when it is empty."""
    try:
        import filelock  # huggingface_hub needs it too
    except ImportError as error:
        raise MissingDependency("huggingface_hub", "hub") from error
    key = hashlib.sha256("\n".join(sorted(file.path for file in choice.files)).encode()).hexdigest()[:12]
    folder = _downloads(store, listing.repo) / key
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(str(folder.with_suffix(".lock")), timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise ModelError(f"Another process is pulling {listing.repo}.", hint="Let it finish.") from error
    try:
        begun = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        store.check_room(choice.size_bytes - begun)
        yield folder
    finally:
        lock.release()
        folder.with_suffix(".lock").unlink(missing_ok=True)
        for empty in (folder, folder.parent, folder.parent.parent):
            with suppress(OSError):
                empty.rmdir()


def _check(folder: Path, choice: Choice) -> ModelFacts:
    """Facts of what arrived, after the engines' own checks; what does not pass them is thrown away."""
    try:
        if choice.kind == "checkpoint":
            return read_model_facts(folder, "checkpoint")
        return examine(folder / (choice.files[0].path if choice.kind == "gguf" else choice.folder))[1]
    except (ModelError, InputError):
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _format_of(listing: Listing) -> str | None:
    """How the model writes calls, as the catalogue has it of this repository or of what it was made from."""
    entries = (known(repo) for repo in (listing.repo, *listing.of) if "/" in repo)
    return next((entry.format for entry in entries if entry is not None), None)


def _move_in(store: Store, source: Path, manifest: Manifest, *, replace: bool) -> None:
    with store.aside() as folder:
        (folder / "model").mkdir()
        for file in manifest.files:
            (source / PurePosixPath(file.path).name).rename(folder / "model" / file.path)
        store.commit(folder, manifest, replace=replace)
