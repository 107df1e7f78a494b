"""The Hugging Face hub, through huggingface_hub: what a repository holds at one commit, and one file of it, checked.

Every file is held against the hub's own hash of it: SHA-256 where the hub keeps it apart (LFS), git's SHA-1 for small
ones. A download that broke off is taken up again. HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE count as they do there.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any

from toolace_edge import __version__
from toolace_edge.errors import InputError, MissingDependency, ModelError
from toolace_edge.hub_files import HubFile
from toolace_edge.manifest import StoredFile, is_inside
from toolace_edge.store import sha256_of

_RETRY_AFTER_S = (1.0, 2.0, 4.0)
_LISTING_TIMEOUT_S = 30
_NO_SUCH_RANGE = 416  # the status where a part is asked for that begins behind the end
_LIBRARY = {"library_name": "toolace-edge", "library_version": __version__}
_TRUE = ("1", "ON", "YES", "TRUE")  # as huggingface_hub reads its variables

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Listing:
    """A repository at one commit. `of` are the models that its card says it was made from."""

    repo: str
    commit: str
    files: tuple[HubFile, ...]
    licence: str | None
    of: tuple[str, ...]


def is_offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE


def list_repo(repo: str, revision: str | None = None) -> Listing:
    """The files of `repo` at a branch, tag or commit (main). InputError where there is no such thing."""
    with _in_our_words(repo, revision):
        api = _hub().HfApi(endpoint=_endpoint(), **_LIBRARY)
        info = api.model_info(repo, revision=revision, files_metadata=True, timeout=_LISTING_TIMEOUT_S)
    if not re.fullmatch(r"[0-9a-f]{40}", str(info.sha)):
        raise ModelError(f"The hub names no commit of {repo}.", hint="Is HF_ENDPOINT the address of a hub?")
    files = [
        HubFile(one.rfilename, one.size or 0, None if one.lfs is None else one.lfs.sha256, one.blob_id)
        for one in info.siblings or ()
        if is_inside(one.rfilename)  # any other name can never be chosen, so nothing is written outside
    ]
    card = info.card_data.to_dict() if info.card_data is not None else {}
    licence = _texts(card.get("license_name") if card.get("license") == "other" else card.get("license"))
    return Listing(repo, info.sha, tuple(files), ", ".join(licence) or None, _texts(card.get("base_model")))


def _texts(value: Any) -> tuple[str, ...]:
    """A card's value, of which there may be none, one or a list."""
    return tuple(map(str, value)) if isinstance(value, list) else () if value is None else (str(value),)


def fetch(listing: Listing, file: HubFile, folder: Path, say: Say) -> StoredFile:
    """One file, to `folder` and its path below it. Where it is not what the hub promised, the folder is removed."""
    with _in_our_words(listing.repo, listing.commit):
        path = _download(listing, file, folder, say)
    sha256 = sha256_of(path)
    problem = _problem(path, file, sha256)
    if problem:
        raise _discarded(folder, listing, file, problem)
    return StoredFile(PurePosixPath(file.path).name, path.stat().st_size, sha256)


def _download(listing: Listing, file: HubFile, folder: Path, say: Say) -> Path:
    """Taken up where it broke off; a broken connection is tried again a few times.

    What was left may be longer than the file, as after a loss of power: no part is left to ask for, and it begins anew.
    """
    hub, network_error = _hub(), _import("requests").RequestException
    waits_s = list(_RETRY_AFTER_S)
    while True:
        try:
            path = hub.hf_hub_download(
                listing.repo, file.path, revision=listing.commit, local_dir=folder, endpoint=_endpoint(), **_LIBRARY
            )
            return Path(path)
        except network_error as error:
            response = getattr(error, "response", None)
            if response is not None and response.status_code == _NO_SUCH_RANGE and _forget_parts(folder):
                continue
            if not waits_s or response is not None:
                raise
            say(f"{file.path}: the connection broke; taking it up again in {waits_s[0]:.0f} s")
            time.sleep(waits_s.pop(0))
        except OSError as error:
            if error.errno is not None:  # the disk's
                raise
            raise _discarded(folder, listing, file, "its size is another") from error


def _forget_parts(folder: Path) -> bool:
    """Removes what arrived of files that are not whole; whether there was anything."""
    parts = [part for part in folder.rglob("*.incomplete") if part.stat().st_size]
    for part in parts:
        part.unlink()
    return bool(parts)


def _problem(path: Path, file: HubFile, sha256: str) -> str:
    """What is wrong with a file that arrived, or nothing."""
    size_bytes = path.stat().st_size
    if size_bytes != file.size_bytes:
        return f"it has {size_bytes} bytes, not {file.size_bytes}"
    if file.sha256 is not None:
        return "" if sha256 == file.sha256 else "its SHA-256 is another"
    content = path.read_bytes()
    git = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    return "" if git == file.blob_id else "its git hash is another"


def _discarded(folder: Path, listing: Listing, file: HubFile, problem: str) -> ModelError:
    shutil.rmtree(folder, ignore_errors=True)
    return ModelError(
        f"{file.path} of {listing.repo} did not arrive as the hub has it: {problem}.",
        hint="Nothing of it was kept. Pull it again; if that does not help, a server on the way changes files.",
    )


@contextmanager
def _in_our_words(repo: str, revision: str | None) -> Iterator[None]:
    """huggingface_hub's errors as ours."""
    _hub()
    errors, requests = _import("huggingface_hub.errors"), _import("requests")
    try:
        yield
    except errors.HFValidationError as error:
        raise InputError(
            f"{repo} cannot be the name of a repository.", hint="Write OWNER/REPO as the hub's page has it."
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise _unreachable(repo, "huggingface_hub is in offline mode") from error
    except errors.RevisionNotFoundError as error:
        raise InputError(f"{repo} has no revision {revision!r:.80}.", hint="Give another --revision.") from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status is None:
            raise _unreachable(repo, "the hub does not answer") from error
        raise _refused(repo, status) from error
    except requests.RequestException as error:
        raise _unreachable(repo, f"the connection failed ({type(error).__name__})") from error


def _refused(repo: str, status: int) -> InputError | ModelError:
    login = "A private or gated one needs HF_TOKEN (or `hf auth login`), and its terms accepted on the hub."
    if status in (401, 403):
        return ModelError(f"{repo} is private or gated, or does not exist: the hub refused access.", hint=login)
    if status == 404:
        return InputError(f"There is no repository {repo} on the hub, or the file is gone.", hint=login)
    return ModelError(f"The hub answered {status} when asked for {repo}.", hint="Try again later.")


def _unreachable(repo: str, why: str) -> ModelError:
    return ModelError(
        f"{repo} cannot be fetched: {why}.",
        hint="The same command takes up what has arrived; HF_ENDPOINT names another server.",
    )


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def _hub() -> Any:
    # Its other way of downloading (xet) begins anew after a break; plain HTTP goes on where it stopped.
    os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
    return _import("huggingface_hub")


def _import(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingDependency("huggingface_hub", "hub") from error
