"""What a checkpoint's folder says about the model besides its numbers: chat templates, licence, source, base models."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .checkpoint import Checkpoint
from .lora import CONFIG_FILE
from .weights import read_text

_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")  # owner/name on the Hugging Face hub
_MAX_FRONT_MATTER = 1 << 16


@dataclass(frozen=True, slots=True)
class Card:
    """`source` and `base_models` are `owner/name` on the Hugging Face hub; `chat_templates` are by name."""

    licence: str | None
    source: str | None
    base_models: tuple[str, ...]
    chat_templates: Mapping[str, str]

    def add_to(self, writer: Any) -> None:
        """`writer`: a gguf.GGUFWriter."""
        if self.licence is not None:
            writer.add_license(self.licence)
        if self.source is not None:
            writer.add_source_repo_url(_url(self.source))
        if self.base_models:
            writer.add_base_model_count(len(self.base_models))
        for i, repository in enumerate(self.base_models):
            owner, name = repository.split("/")
            writer.add_base_model_name(i, name)
            writer.add_base_model_organization(i, owner)
            writer.add_base_model_repo_url(i, _url(repository))
        others = sorted(self.chat_templates.keys() - {"default"})
        for name in others:
            writer.add_string(f"tokenizer.chat_template.{name}", self.chat_templates[name])
        if others:
            writer.add_array("tokenizer.chat_templates", others)
        if "default" in self.chat_templates:
            writer.add_string("tokenizer.chat_template", self.chat_templates["default"])


def read_card(checkpoint: Checkpoint, licence: str | None = None, source: str | None = None) -> Card:
    """What README.md and the tokenizer's files say; `licence` and `source` where the caller knows better."""
    readme = checkpoint.file("README.md")
    front = {} if readme is None else _front_matter(readme)
    stated = front.get("license")
    bases = front.get("base_model") or ()
    found = [bases] if isinstance(bases, str) else bases if isinstance(bases, list) else []
    if not found:
        found = [checkpoint.json_file(CONFIG_FILE).get("base_model_name_or_path")]
    return Card(
        licence=licence or (stated if isinstance(stated, str) else None),
        source=source or _cached_repository(checkpoint.folder),
        base_models=tuple(dict.fromkeys(b for b in found if isinstance(b, str) and _REPOSITORY.fullmatch(b))),
        chat_templates=dict(_chat_templates(checkpoint)),
    )


def _chat_templates(checkpoint: Checkpoint) -> Iterator[tuple[str, str]]:
    """tokenizer_config.json has one, or a list with names; newer checkpoints have a file of its own."""
    listed = checkpoint.json_file("tokenizer_config.json").get("chat_template")
    for entry in listed if isinstance(listed, list) else [{"name": "default", "template": listed}]:
        name, template = (entry.get(key) for key in ("name", "template")) if isinstance(entry, dict) else (None, None)
        if isinstance(name, str) and isinstance(template, str):
            yield re.sub(r"\W", "_", name, flags=re.ASCII), template
    file = checkpoint.file("chat_template.jinja")
    if file is not None:
        yield "default", read_text(file)


def _front_matter(readme: Path) -> Mapping[str, Any]:
    """The YAML between the two `---` that a model card begins with; what cannot be read is nothing."""
    import yaml  # gguf brings it

    try:
        text = readme.read_text("utf-8", "replace")[:_MAX_FRONT_MATTER]  # people write it, in whatever encoding
    except OSError:
        return {}
    parts = re.split(r"^---\s*$", text, maxsplit=2, flags=re.MULTILINE)
    if len(parts) < 3 or parts[0].strip():
        return {}
    try:
        facts = yaml.safe_load(parts[1])
    except (yaml.YAMLError, RecursionError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _cached_repository(folder: Path) -> str | None:
    """owner/name, where `folder` lies in huggingface_hub's cache: models--owner--name/snapshots/commit."""
    parts = folder.absolute().parts[-3:-1]
    match = (
        re.fullmatch(r"models--([^/]+?)--([^/]+)", parts[0]) if len(parts) == 2 and parts[1] == "snapshots" else None
    )
    repository = f"{match[1]}/{match[2]}" if match else ""
    return repository if _REPOSITORY.fullmatch(repository) else None


def _url(repository: str) -> str:
    return f"https://huggingface.co/{repository}"
