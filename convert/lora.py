"""Reads a PEFT LoRA adapter (adapter_config.json, adapter_model.safetensors) and adds it to its base, tensor by tensor.

A layer with an adapter computes (W + scale * B A) x, with A [r, in], B [out, r] and scale alpha / r, or alpha / sqrt(r)
with rslora (arXiv 2106.09685, 2312.03732); on an embedding the product is [in, out] and is turned. What was trained
whole (`modules_to_save`, the embeddings of a grown vocabulary) lies in the file as a copy and takes the base's place.
PEFT has many kinds and variants by now: each setting that is not known to leave this formula as it is is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolace_edge.errors import InputError

from .config import ModelConfig
from .weights import TensorSlot, check_slot, other_weights, read_file_slots, read_json, read_tensor, refused

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
_PREFIX = "base_model.model."
_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(\.weight)?")
# Settings that are read here, or that only training or a form of training that leaves no trace needs. `fan_in_fan_out`
# is among these: it speaks of layers that no family here has, and PEFT itself takes it as false for all others.
_KNOWN = frozenset(
    """
    peft_type task_type peft_version auto_mapping base_model_name_or_path revision inference_mode r lora_alpha
    lora_dropout fan_in_fan_out use_rslora target_modules exclude_modules modules_to_save layers_to_transform
    layers_pattern rank_pattern alpha_pattern init_lora_weights bias megatron_core loftq_config eva_config
    corda_config lora_ga_config qalora_group_size runtime_config
    """.split()
)
_MEANT: Mapping[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "task_type": ("CAUSAL_LM", None),
    "bias": ("none",),
    "init_lora_weights": (True, False, None, "gaussian", "eva", "orthogonal"),  # others change the base's weights too
}


@dataclass(frozen=True, slots=True)
class LowRank:
    """What is added to one weight: `scale` times the product of two small matrices."""

    a: TensorSlot
    b: TensorSlot
    scale: float
    embedding: bool

    def add_to(self, name: str, weight: NDArray[np.float32]) -> None:
        """`weight` float32 [out, in] is changed in place."""
        product = read_tensor(f"{name} (B)", self.b) @ read_tensor(f"{name} (A)", self.a)
        product *= np.float32(self.scale)
        weight += product.T if self.embedding else product

    def check(self, name: str, shape: tuple[int, ...] | None) -> None:
        """ModelError unless this fits the weight `name` of the base, which has `shape`."""
        if shape is None or len(shape) != 2:
            raise refused(self.a.file, f"the base has no weight {name!r}; the adapter is of another model")
        out, into = shape[::-1] if self.embedding else shape
        rank = self.a.shape[0] if self.a.shape else 0
        if self.a.shape != (rank, into) or self.b.shape != (out, rank):
            found = f"{list(self.b.shape)} times {list(self.a.shape)}"
            raise refused(self.a.file, f"{found} does not fit {name!r} {list(shape)}; the adapter is of another model")


@dataclass(frozen=True, slots=True)
class Adapter:
    """Both maps are by the names of the base's tensors."""

    folder: Path
    base: Path
    added: Mapping[str, LowRank]
    copies: Mapping[str, TensorSlot]
    ties_weights: bool

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """ModelError, naming the first tensor that does not belong to a model with `shapes`."""
        for name, low_rank in self.added.items():
            low_rank.check(name, shapes.get(name))
        for name, slot in self.copies.items():
            if name not in shapes and name != HEAD:
                raise refused(slot.file, f"the base has no tensor {name!r}; the adapter is of another model")

    def merged(self, config: ModelConfig, slots: Mapping[str, TensorSlot]) -> tuple[ModelConfig, dict[str, TensorSlot]]:
        """The base's facts and tensors with the copies in their places; `added` is for whoever reads a tensor.

        A base whose two embeddings are one has two of its own afterwards, unless both copies are the same.
        """
        merged = {**slots, **self.copies}
        if EMBEDDING in self.copies and self.copies[EMBEDDING].shape:
            config = replace(config, vocab_size=self.copies[EMBEDDING].shape[0])
        touched = {EMBEDDING, HEAD} & {*self.added, *self.copies}
        if not config.tied or not touched:
            return config, merged
        if touched <= self.copies.keys() and len(touched) == 2 and not touched & self.added.keys():
            one, other = (self.copies[name] for name in (EMBEDDING, HEAD))
            if one.shape == other.shape and np.array_equal(read_tensor(EMBEDDING, one), read_tensor(HEAD, other)):
                return config, merged
        if self.ties_weights:
            raise refused(self.folder, "ensure_weight_tying with an adapter on the embedding cannot be converted")
        if HEAD not in self.copies and EMBEDDING in slots:
            merged[HEAD] = slots[EMBEDDING]
        return replace(config, tied=False), merged


def read_adapter(folder: Path, base: Path | None) -> Adapter:
    """The adapter in `folder`, headers only. `base` is its base's folder where adapter_config.json names none."""
    file = folder / CONFIG_FILE
    raw = read_json(file)
    _check_kind(file, raw)
    base = base or _named_base(file, raw)
    weights = folder / WEIGHTS_FILE
    if not weights.exists():
        raise refused(folder, f"there is no {WEIGHTS_FILE}, {other_weights(folder)}")
    factors: dict[tuple[str, bool], dict[str, TensorSlot]] = {}
    copies: dict[str, TensorSlot] = {}
    for key, slot in read_file_slots(weights).items():
        name = key.removeprefix(_PREFIX)
        factor = _FACTOR.fullmatch(name)
        if name == key or ("lora_" in name and not factor):
            raise refused(weights, f"{key!r} is not a name that PEFT gives to a part of LoRA")
        if factor:
            check_slot(key, slot, slot.shape)
            pair = factors.setdefault((factor["module"], bool(factor["embedding"])), {})
            pair[factor["side"]] = slot
        else:
            copies[name.replace(".base_layer.", ".")] = slot
    if not factors and not copies:
        raise refused(weights, "it is empty")
    added = {f"{module}.weight": _low_rank(file, raw, module, pair, e) for (module, e), pair in factors.items()}
    return Adapter(folder, base, added, copies, bool(raw.get("ensure_weight_tying")))


def _check_kind(file: Path, raw: Mapping[str, Any]) -> None:
    for key, meant in _MEANT.items():
        if (key in raw and raw[key] not in meant) or (key == "peft_type" and key not in raw):
            wanted = " or ".join(str(value) for value in meant)
            raise refused(file, f"{key} is {raw.get(key)!r}; only {wanted} can be merged")
    for key, value in raw.items():
        if value and key not in _KNOWN and key != "ensure_weight_tying":
            raise refused(file, f"{key} is {str(value)[:80]!r}, a variant of LoRA that cannot be merged")


def _named_base(file: Path, raw: Mapping[str, Any]) -> Path:
    name = raw.get("base_model_name_or_path")
    if isinstance(name, str) and name and Path(name).is_dir():
        return Path(name)
    raise InputError(
        f"{file}: the base of this adapter, {name!r}, is not a folder here.",
        hint="Download it, and give its folder: `--base FOLDER`.",
    )


def _low_rank(
    file: Path, raw: Mapping[str, Any], module: str, pair: Mapping[str, TensorSlot], embedding: bool
) -> LowRank:
    if pair.keys() != {"A", "B"}:
        raise refused(file.with_name(WEIGHTS_FILE), f"{module!r} has only one of its two matrices")
    rank = _setting(file, raw, "r", "rank_pattern", module)
    alpha = _setting(file, raw, "lora_alpha", "alpha_pattern", module)
    found = pair["A"].shape[0] if pair["A"].shape else 0
    if found != rank or rank < 1:
        raise refused(file, f"{module!r} has rank {found}, but the settings say {rank:g}")
    scale = alpha / math.sqrt(rank) if raw.get("use_rslora") else alpha / rank
    return LowRank(pair["A"], pair["B"], scale, embedding)


def _setting(file: Path, raw: Mapping[str, Any], key: str, patterns_key: str, module: str) -> float:
    """The number for `module`: that of the first pattern that it ends in, or the one for all."""
    patterns = raw.get(patterns_key) or {}
    if not isinstance(patterns, dict):
        raise refused(file, f"{patterns_key} is not an object")
    value = raw.get(key, 8)  # PEFT's default for both
    for pattern, special in patterns.items():
        words = pattern.removeprefix("^")
        if not re.fullmatch(r"[\w.]+", words):
            raise refused(file, f"{patterns_key} has {pattern!r}; only names of layers can be merged")
        if module == words or (words == pattern and module.endswith(f".{words}")):
            value = special
            break
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise refused(file, f"{key} is {value!r}, not a number")
    return float(value)
