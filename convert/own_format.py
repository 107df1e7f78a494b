"""How a model writes calls: what `--format` says or its file, or our own format where it has our control tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Set
from pathlib import Path

from toolace_edge.engines.gguf_header import read_header
from toolace_edge.errors import InputError
from toolace_edge.formats import ASK, get
from toolace_edge.formats.compact import CALL, END, TOOL
from toolace_edge.messages import Message, Tool, ToolCall
from toolace_edge.model_facts import read_model_facts

from .checkpoint import read_checkpoint

_CONTROL = re.compile(r"<\|[^<>|\s]+\|>")


def format_of(source: Path, base: Path | None, wanted: str | None) -> str:
    """The format's name; "" where a .gguf file says none, and nobody else does, as it can be quantized all the same.

    InputError where nobody says it of a checkpoint, or a control token of it is missing: a wrong one would be asked in
    words that the model never learned.
    """
    if source.is_file():
        return _format_of_file(source, wanted)
    raw = json.loads(read_checkpoint(source, base).tokenizer_json)
    added = {token.get("content") for token in raw.get("added_tokens", ())}
    if wanted is not None:
        _check_tokens(source, wanted, added | raw["model"]["vocab"].keys())
        return wanted
    if {CALL, END, TOOL} <= added:
        return "compact"
    raise InputError(f"{source} does not say how its model writes calls.", hint=ASK)


def _format_of_file(source: Path, wanted: str | None) -> str:
    """It keeps what it says."""
    said = read_model_facts(source, "gguf").format
    if wanted is None:
        return said or ""
    if said is not None and said != wanted:
        raise InputError(f"{source} says that its model writes calls as {said}.", hint="Leave --format away.")
    tokens = read_header(source).metadata.get("tokenizer.ggml.tokens")
    _check_tokens(source, wanted, set(tokens) if isinstance(tokens, tuple) else set())
    return wanted


def _check_tokens(source: Path, name: str, tokens: Set[object]) -> None:
    """InputError where a prompt in this format has a control token that is none of `tokens`."""
    fmt = get(name)
    asked = fmt.render([Tool("f")], [Message("user", "")])
    pieces = (*asked.prefix, *asked.rest, *fmt.render_answer([ToolCall("f", {})], ""))
    used = "".join(piece.text for piece in pieces if piece.special)
    missing = sorted(set(_CONTROL.findall(used)) - tokens)
    if missing:
        raise InputError(
            f"{source} has no token {missing[0]}, so its model does not write calls as {name}.",
            hint="Name the format that it was trained on: toolace, hermes or compact.",
        )
