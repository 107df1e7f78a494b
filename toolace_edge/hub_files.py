"""Which files of a Hugging Face repository make a model: a .gguf, a model folder of ours, or a checkpoint to convert.

Only names are looked at. Pickles and Python files are never chosen, whatever else is there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from toolace_edge.errors import InputError
from toolace_edge.manifest import Kind

# The kinds as llama.cpp and those who publish write them, at the end of a file's name: `Name-8B-Q4_K_M.gguf`.
_QUANTIZATION = re.compile(
    r"(?:^|[-._])((?:UD-)?(?:IQ[1-4]_(?:XXS|XS|S|M|NL)|Q[2-8]_(?:K_(?:XXS|XS|S|M|L|XL)|K|[01](?:_\d_\d)?)"
    r"|TQ[12]_0|MXFP4(?:_MOE)?|BF16|FP?16|FP?32))$",
    re.IGNORECASE,
)
_PART = re.compile(r"-\d{5}-of-\d{5}$")
_CARD = ("README.md", "LICENSE*", "LICENCE*", "NOTICE*")
_CHECKPOINT = (*_CARD, "*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt")
_ONNX = (*_CARD, "model.onnx", "model.onnx.data", "model.onnx_data", "*.json")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository. Its hash is `sha256` where the hub keeps it apart (LFS), else git's own, `blob_id`."""

    path: str
    size_bytes: int = 0
    sha256: str | None = None
    blob_id: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """The files of one model, all in `folder` of the repository; `quantization` as the name of a .gguf says it."""

    kind: Kind
    files: tuple[HubFile, ...]
    folder: str = ""
    quantization: str | None = None

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


def quantization_of(path: str) -> str | None:
    """`toolace-8b_q4_k_m.gguf` -> `Q4_K_M`; None where the name does not end in one."""
    found = _QUANTIZATION.search(PurePosixPath(path).name.removesuffix(".gguf"))
    return None if found is None else _kind(found[1])


def _kind(text: str) -> str:
    return re.sub("^FP", "F", text.upper())


def choose(repo: str, files: Sequence[HubFile], wanted: str | None = None) -> Choice:
    """The model that `wanted` (a file, a quantization, `onnx` or `checkpoint`) names in a repository, or the only one.

    A checkpoint counts only where nothing runs as it is. InputError with the choices where there are several or none.
    """
    runnable = _ggufs(files) + _onnx_folders(files)
    checkpoint = _checkpoint(files)
    if wanted is None:
        found = runnable or checkpoint
    else:
        found = [one for one in runnable + checkpoint if is_wanted(one, wanted)]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"{repo} holds {len(found)} models{f' that {wanted!r} names' if wanted else ''}: {_listed(found)}.",
            hint=f"Say which, by its file or kind: toolace-edge models pull {repo}:{_example(found)}",
        )
    if runnable or checkpoint:
        raise InputError(f"{repo} has no {wanted!r}. It holds: {_listed(runnable + checkpoint)}.")
    raise InputError(f"{repo} holds nothing that can be used: {_why_not(files)}.")


def _ggufs(files: Sequence[HubFile]) -> list[Choice]:
    """One model a file; not the parts of a split model, nor what goes along with a model.

    Nor `.GGUF` in capitals: an engine is chosen by the suffix, so the file could be kept and not be opened.
    """
    return [
        Choice("gguf", (file,), _folder(file.path), quantization_of(file.path))
        for file in files
        if file.path.endswith(".gguf")
        and not _PART.search(PurePosixPath(file.path).stem)
        and not PurePosixPath(file.path).name.lower().startswith(("mmproj", "imatrix"))
    ]


def _onnx_folders(files: Sequence[HubFile]) -> list[Choice]:
    """Folders as `toolace-edge convert onnx` writes them, by their toolace.json."""
    choices = []
    for folder in sorted({_folder(file.path) for file in files}):
        inside = [file for file in files if _folder(file.path) == folder]
        if {"toolace.json", "model.onnx", "tokenizer.json"} <= {PurePosixPath(file.path).name for file in inside}:
            choices.append(Choice("onnx", tuple(file for file in inside if _matches(file, _ONNX)), folder))
    return choices


def _checkpoint(files: Sequence[HubFile]) -> list[Choice]:
    """The safetensors at the top of a repository and what belongs to them; Mistral has its weights twice."""
    inside = [file for file in files if not _folder(file.path) and _matches(file, _CHECKPOINT)]
    names = {file.path for file in inside}
    if any(fnmatchcase(name, "model*.safetensors") for name in names):
        inside = [file for file in inside if not fnmatchcase(file.path, "consolidated*.safetensors")]
    weights = any(name.endswith(".safetensors") for name in names)
    return [Choice("checkpoint", tuple(inside))] if weights and names & {"config.json", "adapter_config.json"} else []


def is_wanted(choice: Choice, wanted: str) -> bool:
    """Whether `wanted`, a file, a quantization, a folder or a kind, names it."""
    if choice.kind == "gguf":
        return wanted == choice.files[0].path or _kind(wanted) == choice.quantization
    return wanted.lower() == choice.kind or (choice.folder != "" and wanted == choice.folder)


def _listed(choices: Sequence[Choice]) -> str:
    return ", ".join(f"{_label(one)} ({one.size_bytes / 1e9:.2f} GB)" for one in choices[:40])


def _label(choice: Choice) -> str:
    return choice.files[0].path if choice.kind == "gguf" else (choice.folder or choice.kind)


def _example(choices: Sequence[Choice]) -> str:
    """The kind that most people take, where it is there and says all."""
    kinds = [one.quantization for one in choices if one.quantization]
    unique = [kind for kind in kinds if kinds.count(kind) == 1]
    return "Q4_K_M" if "Q4_K_M" in unique else unique[0] if unique else _label(choices[0])


def _why_not(files: Sequence[HubFile]) -> str:
    if any(_PART.search(PurePosixPath(file.path).stem) and file.path.endswith(".gguf") for file in files):
        return "its .gguf is split into parts; join them (llama-gguf-split --merge) and `models add` the result"
    if any(file.path.lower().endswith(".gguf") for file in files):
        return "its .GGUF files are not called .gguf; download one, rename it, and `models add` it"
    if any(file.path.endswith(".onnx") for file in files):
        return "its ONNX files were not written by `toolace-edge convert onnx`, and the engine runs no others"
    if any(_matches(file, _PICKLES) for file in files):
        return "its weights are pickles, which run code when they are loaded; only safetensors are read"
    return "it has no .gguf file, no model folder and no safetensors with a config.json"


def _folder(path: str) -> str:
    folder = str(PurePosixPath(path).parent)
    return "" if folder == "." else folder


def _matches(file: HubFile, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(PurePosixPath(file.path).name, pattern) for pattern in patterns)
