"""What a model's own files say of it: architecture, context, quantization, format, calibration, licence.

`examine` is for files that come from outside: it puts them through the same checks as the engines before they load.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolace_edge.errors import InputError, ModelError
from toolace_edge.manifest import Kind, is_inside

if TYPE_CHECKING:
    from toolace_edge.engines.gguf_header import GgufHeader

FACTS_FILE = "toolace.json"
CARD_FILES = ("README.md", "LICENSE", "LICENCE")  # beside a model: what people wrote of it
# llama.cpp's `llama_ftype`, the value of general.file_type.
FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
    21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4_MOE",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Facts of one model, None where its files do not say. `n_ctx` is the longest context, in tokens."""

    kind: Kind
    architecture: str | None = None
    n_ctx: int | None = None
    quantization: str | None = None
    format: str | None = None
    calibration: Mapping[str, Any] | None = None
    licence: str | None = None
    source: str | None = None


def read_model_facts(path: Path, kind: Kind) -> ModelFacts:
    """Facts of the .gguf file, model folder or checkpoint folder at `path`. ModelError where they cannot be read."""
    if kind == "gguf":
        return _gguf_facts(path)
    if kind == "checkpoint":
        return _checkpoint_facts(path)
    facts = read_facts(path)
    return ModelFacts(
        kind="onnx",
        architecture=_text(facts.get("architecture")),
        n_ctx=_count(facts.get("n_ctx")),
        quantization=_text(facts.get("precision")),
        format=_text(facts.get("format")),
        calibration=facts.get("calibration"),
        licence=_text(facts.get("licence")),
        source=_text(facts.get("source")),
    )


def read_facts(folder: Path) -> dict[str, Any]:
    """toolace.json of a model folder."""
    return _read_object(folder / FACTS_FILE, f"{folder} has no {FACTS_FILE}, so it is not a model folder of ours.")


def read_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 by file name, as toolace.json has them."""
    hashes = read_facts(folder).get("sha256")
    if not isinstance(hashes, dict) or not all(is_inside(name) and "/" not in name for name in hashes):
        raise ModelError(f"{folder / FACTS_FILE}: `sha256` must map the names of files in this folder to their hashes.")
    return {name: str(value) for name, value in hashes.items()}


def hash_beside(file: Path) -> str | None:
    """What FILE.sha256 says of a .gguf file, as `sha256sum` writes it; None where there is none."""
    beside = file.with_name(file.name + ".sha256")
    if not beside.is_file():
        return None
    words = beside.read_text("utf-8", "replace").split()
    if not words:
        raise ModelError(f"{beside} is empty; it should hold the SHA-256 of {file.name}.")
    return words[0].lower()


def model_files(path: Path, kind: Kind) -> tuple[str, ...]:
    """Names of the files that make up the gguf or onnx model at `path`, its card and licence included."""
    if kind == "gguf":
        return (path.name,)
    beside = [name for name in CARD_FILES if (path / name).is_file()]
    return tuple(sorted({FACTS_FILE, *read_hashes(path), *beside}))


def examine(path: Path) -> tuple[Path, ModelFacts]:
    """The model at `path` (a .gguf, a model folder or the model.onnx in one) after the engines' own checks.

    Reads an ONNX model whole, as its hashes are checked too. InputError where it is no model that an engine runs.
    """
    if path.name == "model.onnx" and path.is_file():
        path = path.parent
    if path.is_dir() and (path / FACTS_FILE).is_file():
        from toolace_edge.engines.onnx_folder import read_folder

        read_folder(path)
        return path, read_model_facts(path, "onnx")
    if path.is_dir():
        checkpoint = (path / "config.json").is_file() and any(path.glob("*.safetensors"))
        raise InputError(
            f"{path} is a checkpoint, which no engine runs." if checkpoint else f"{path} has no {FACTS_FILE}.",
            hint=f"Convert it first: toolace-edge convert gguf {path} NAME.gguf --kind Q8_0"
            if checkpoint
            else "A model is a .gguf file, or a folder that `toolace-edge convert onnx` wrote.",
        )
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder.")
    if path.suffix != ".gguf":
        raise InputError(f"{path} is neither a .gguf file nor a model folder.")
    return path, read_model_facts(path, "gguf")


def _gguf_facts(path: Path) -> ModelFacts:
    from toolace_edge.engines.gguf_header import read_header

    header = read_header(path)
    metadata = header.metadata
    calibration = metadata.get("toolace.calibration")
    try:
        parsed = None if calibration is None else json.loads(str(calibration))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: its key toolace.calibration is not JSON: {error}.") from error
    architecture = _text(metadata.get("general.architecture"))
    return ModelFacts(
        kind="gguf",
        architecture=architecture,
        n_ctx=_count(metadata.get(f"{architecture}.context_length")),
        quantization=_quantization(header),
        format=_text(metadata.get("toolace.format")),
        calibration=parsed,
        licence=_text(metadata.get("general.license")),
        source=_text(metadata.get("general.source.url") or metadata.get("general.source.huggingface.repository")),
    )


def _quantization(header: GgufHeader) -> str | None:
    """What the file calls itself, or else the type that most of its bytes have."""
    named = header.metadata.get("general.file_type")
    if isinstance(named, int) and named in FILE_TYPES:
        return FILE_TYPES[named]
    size_bytes: Counter[str] = Counter()
    for tensor in header.tensors:
        size_bytes[tensor.type] += tensor.size_bytes
    return next((name for name, _ in size_bytes.most_common(1)), None)


def _checkpoint_facts(folder: Path) -> ModelFacts:
    """Of a whole checkpoint, or of an adapter (LoRA) to one."""
    file = next((file for name in ("config", "adapter_config") if (file := folder / f"{name}.json").is_file()), None)
    config = _read_object(file or folder / "config.json", f"{folder} has no config.json, so it is not a checkpoint.")
    return ModelFacts(
        kind="checkpoint",
        architecture=_text(config.get("model_type") or config.get("peft_type")),
        n_ctx=_count(config.get("max_position_embeddings")),
        quantization=_text(config.get("dtype") or config.get("torch_dtype")),
    )


def _read_object(file: Path, missing: str) -> dict[str, Any]:
    try:
        facts = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ModelError(missing) from error
    except OSError as error:
        raise ModelError(f"{file} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file} is not JSON: {error}.") from error
    if not isinstance(facts, dict):
        raise ModelError(f"{file} must hold a JSON object.")
    return facts


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
