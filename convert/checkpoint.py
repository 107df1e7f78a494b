"""Opens a checkpoint: a Hugging Face folder (config.json, safetensors, tokenizer.json), or a LoRA adapter on its base.

Opening reads headers only, and everything is checked by them: every tensor that the configuration asks for is there,
in its shape, and there is no other. The numbers are read when they are asked for, one tensor at a time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolace_edge.errors import InputError, ModelError

from .config import ModelConfig, read_config
from .lora import CONFIG_FILE, EMBEDDING, HEAD, LowRank, read_adapter
from .weights import TensorSlot, check_slot, read_json, read_slots, read_tensor, read_text, refused

_IGNORED = ".rotary_emb.inv_freq"  # old versions of transformers stored what follows from the configuration


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint whose tensors are read when asked for.

    `folders` are where its small files may lie, the adapter's before its base's; `added` is what an adapter adds;
    `on_read` is told the name of each tensor once it was read.
    """

    folders: tuple[Path, ...]
    config: ModelConfig
    tokenizer_json: str
    slots: Mapping[str, TensorSlot]
    added: Mapping[str, LowRank]
    on_read: Callable[[str], None] | None = None

    @property
    def folder(self) -> Path:
        return self.folders[0]

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever converts it should be told, a sentence each."""
        if self.config.window is None:
            return ()
        return (f"The context ends at {self.config.window} tokens, the model's sliding window.",)

    def tensor(self, name: str) -> NDArray[np.float32]:
        """The tensor `name` as a fresh float32 array, the adapter's part added."""
        values = read_tensor(name, self.slots[name])
        if name in self.added:
            self.added[name].add_to(name, values)
        if self.on_read is not None:
            self.on_read(name)
        return values

    def watched(self, on_progress: Callable[[int, int], None]) -> Checkpoint:
        """The same one, telling how many of how many tensors were read so far."""
        read: set[str] = set()
        total = len(self.config.tensor_shapes())

        def on_read(name: str) -> None:
            read.add(name)  # a tied embedding is read twice
            on_progress(len(read), total)

        return replace(self, on_read=on_read)

    def file(self, name: str) -> Path | None:
        """The first file of that name."""
        return next((folder / name for folder in self.folders if (folder / name).is_file()), None)

    def json_file(self, name: str) -> Mapping[str, Any]:
        """The object in the first file of that name; empty where there is none."""
        file = self.file(name)
        return {} if file is None else read_json(file)


def note(sentence: str) -> None:
    """Tells whoever runs the conversion, beside its output."""
    print(f"Note: {sentence}", file=sys.stderr)


def read_checkpoint(folder: str | Path, base: str | Path | None = None) -> Checkpoint:
    """Opens the checkpoint in `folder`; `base` is the folder of its base where it is an adapter and names none here.

    ModelError says what is missing or wrong, InputError that a base is wanted, or was given to a whole checkpoint.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise refused(folder, "this is not a folder with a checkpoint")
    if not (folder / CONFIG_FILE).exists():
        if base is not None:
            raise InputError(f"{folder} has no {CONFIG_FILE}: it is not an adapter.", hint="Leave --base away.")
        config, slots = read_config(folder / "config.json"), read_slots(folder)
        added: Mapping[str, LowRank] = {}
        folders: tuple[Path, ...] = (folder,)
    else:
        adapter = read_adapter(folder, None if base is None else Path(base))
        if (adapter.base / CONFIG_FILE).exists():
            raise refused(adapter.base, "the base is an adapter itself; merge that one first")
        config, slots = read_config(adapter.base / "config.json"), read_slots(adapter.base)
        config, slots = adapter.merged(config, slots)
        adapter.check(config.tensor_shapes())
        added, folders = adapter.added, (folder, adapter.base)
    _check_tensors(folders[-1], config, slots)
    tokenizer = next((place for place in folders if (place / "tokenizer.json").exists()), folders[-1])
    tokenizer_json = read_text(tokenizer / "tokenizer.json")
    _check_tokenizer(tokenizer / "tokenizer.json", tokenizer_json, config.vocab_size)
    return Checkpoint(folders, config, tokenizer_json, MappingProxyType(slots), MappingProxyType(dict(added)))


def _check_tensors(folder: Path, config: ModelConfig, slots: Mapping[str, TensorSlot]) -> None:
    """Every tensor that `config` asks for, and none whose part in the model would be lost."""
    shapes = config.tensor_shapes()
    for name, shape in shapes.items():
        if name not in slots:
            raise refused(folder, f"the checkpoint has no tensor {name!r}")
        check_slot(name, slots[name], shape)
    for name, slot in slots.items():
        if name in shapes or name.endswith(_IGNORED):
            continue
        if name != HEAD:
            raise refused(slot.file, f"{name!r} is no part of a {config.family.model_type} model")
        if not _same(slot, slots[EMBEDDING]):
            raise refused(slot.file, f"tie_word_embeddings is true, but {HEAD!r} is not {EMBEDDING!r}")


def _same(one: TensorSlot, other: TensorSlot) -> bool:
    """Whether both hold the same bytes, read a part at a time."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    part = 1 << 24
    with one.file.open("rb") as left, other.file.open("rb") as right:
        left.seek(one.start)
        right.seek(other.start)
        sizes = (min(part, one.size_bytes - at) for at in range(0, one.size_bytes, part))
        return all(left.read(size) == right.read(size) for size in sizes)


def _check_tokenizer(file: Path, text: str, vocab_size: int) -> None:
    """Every token must have a row in the embedding, and a part of a prompt be the same tokens wherever it stands."""
    try:
        raw = json.loads(text)
        highest = max([*raw["model"]["vocab"].values(), *(token["id"] for token in raw.get("added_tokens", []))])
        problem = _not_byte_level(raw)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if (kind := _model_type(text)) not in ("", "BPE"):  # whose vocabulary is another thing
            raise _other_tokenizer(file, f"it is a {kind} tokenizer") from error
        raise refused(file, "it is not a tokenizer.json of the tokenizers library") from error
    if not isinstance(highest, int) or highest >= vocab_size:
        raise refused(file, f"token {highest} has no row in an embedding of {vocab_size}")
    if problem:
        raise _other_tokenizer(file, problem)


def _not_byte_level(raw: Mapping[str, Any]) -> str:
    """Why not every part of a prompt could be encoded by itself and each token be bytes; "" where it is so."""
    model = raw["model"]
    if model.get("type", "BPE") != "BPE":  # old files do not say
        return f"it is a {model['type']} tokenizer"
    if model.get("byte_fallback"):
        return "it is a SentencePiece tokenizer (as of Llama 2 and Mistral 7B), which puts a space before every text"
    if model.get("dropout"):
        return f"its BPE has dropout {model['dropout']}, so that a text is other tokens each time"
    steps = [*_steps(raw.get("normalizer")), *_steps(raw.get("pre_tokenizer"))]
    before = [step for step in steps if step["type"] in ("Prepend", "Metaspace") or step.get("add_prefix_space")]
    if before:
        return f"its step {before[0]['type']} puts something before every text"
    if "ByteLevel" not in (step["type"] for step in _steps(raw.get("decoder"))):
        return "its tokens are no bytes, as it has no ByteLevel decoder"
    return ""


def _steps(stage: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """The steps of a normalizer, a pre-tokenizer or a decoder, of which there may be one, a sequence or none."""
    if not stage:
        return []
    parts = next((stage[key] for key in ("normalizers", "pretokenizers", "decoders") if key in stage), None)
    return [stage] if parts is None else [step for part in parts for step in _steps(part)]


def _model_type(text: str) -> str:
    try:
        return str(json.loads(text)["model"]["type"])
    except (ValueError, KeyError, TypeError):
        return ""


def _other_tokenizer(file: Path, why: str) -> ModelError:
    return ModelError(
        f"{file}: {why}: the parts of a prompt could not be encoded one by one.",
        hint="Take a model with a byte-level tokenizer, as Llama 3, Qwen and Mistral's newer ones have.",
    )
