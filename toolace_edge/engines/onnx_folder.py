"""A model folder as convert/onnx.py writes it: model.onnx, tokenizer.json, and toolace.json with facts and hashes.

These are read once, and what was checked is what is used: no file can be changed in between. A large model has its
weights in a file beside model.onnx, which onnxruntime maps into memory after it was checked here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolace_edge.engines.cache_file import weights_sha256
from toolace_edge.engines.onnx_file import Span, check_onnx
from toolace_edge.errors import ModelError

_AGAIN = "Install or convert the model again."
_SIZES = ("n_ctx", "n_layers", "n_kv_heads", "head_dim", "vocab_size")


@dataclass(frozen=True, slots=True)
class OnnxFolder:
    """A checked model. `model` is the ONNX file's bytes, `sha256` of all weights; `n_ctx` what it was made for."""

    model_file: Path
    model: bytes
    sha256: str
    tokenizer_json: str
    n_ctx: int
    n_layers: int
    n_kv_heads: int
    head_dim: int
    vocab_size: int


def read_folder(path: Path) -> OnnxFolder:
    """The model in the folder `path`, or the .onnx file `path` with its neighbours. ModelError where one is wrong."""
    folder = path if path.is_dir() else path.parent
    model_file = folder / "model.onnx" if path.is_dir() else path
    facts = _read_facts(folder / "toolace.json")
    model = _read_checked(model_file, facts["sha256"])
    tokenizer = _read_checked(folder / "tokenizer.json", facts["sha256"])
    beside = _check_beside(folder, check_onnx(model_file, model), facts["sha256"])
    return OnnxFolder(
        model_file=model_file,
        model=model,
        sha256=hashlib.sha256(b"".join([model, *beside])).hexdigest(),
        tokenizer_json=tokenizer.decode("utf-8", "replace"),
        **{key: facts[key] for key in _SIZES},
    )


def _read_facts(file: Path) -> dict[str, Any]:
    """toolace.json, its sizes and hashes checked."""
    try:
        facts = json.loads(file.read_bytes())
        wrong = [key for key in _SIZES if type(facts[key]) is not int or not 0 < facts[key] < 1 << 24]
        if wrong or not isinstance(facts["sha256"], dict):
            raise ValueError(f"{', '.join(wrong) or 'sha256'} makes no sense")
    except OSError as error:
        raise ModelError(f"{file} cannot be read ({error.strerror}), so this is not a model folder of ours.") from error
    except KeyError as error:
        raise ModelError(f"{file} is damaged: {error} is missing.") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise ModelError(f"{file} is damaged: {error}.") from error
    checked: dict[str, Any] = facts
    return checked


def _read_checked(file: Path, hashes: dict[str, Any]) -> bytes:
    """The bytes of `file`, once they are those that its hash was made of."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ModelError(f"{file} cannot be read ({error.strerror}).") from error
    if hashlib.sha256(content).hexdigest() != hashes.get(file.name):
        raise _changed(file)
    return content


def _check_beside(folder: Path, spans: Iterable[Span], hashes: dict[str, Any]) -> list[bytes]:
    """The hashes of the files that hold `spans`; each is a file of this folder, long enough, and the one hashed."""
    ends: dict[str, int] = {}
    for span in spans:
        ends[span.name] = max(span.end, ends.get(span.name, 0))
    found = []
    for name, end in sorted(ends.items()):
        file = folder / name
        try:
            if name not in hashes or file.resolve().parent != folder.resolve() or not file.is_file():
                missing = f"{folder} has no file {name!r:.80} of its own, and its model's weights should be there."
                raise ModelError(missing, hint=_AGAIN)
            size = file.stat().st_size
            if size < end:
                raise ModelError(f"{file} is cut short: it has {size} of at least {end} bytes.", hint=_AGAIN)
            if weights_sha256(file) != hashes[name]:
                raise _changed(file)
        except OSError as error:
            raise ModelError(f"{file} cannot be read ({error.strerror}).") from error
        found.append(hashes[name].encode())
    return found


def _changed(file: Path) -> ModelError:
    return ModelError(f"{file} is damaged or was changed: its SHA-256 is not the one in toolace.json.", hint=_AGAIN)
