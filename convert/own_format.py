"""How a checkpoint writes calls: what `--format` says, or our own format where its tokenizer has our control tokens."""

from __future__ import annotations

import json
from pathlib import Path

from toolace_edge.errors import InputError
from toolace_edge.formats import ASK
from toolace_edge.formats.compact import CALL, END, TOOL

from .checkpoint import read_checkpoint


def format_of(source: Path, base: Path | None, wanted: str | None) -> str:
    """The format's name. InputError where nobody says: a wrong one would be asked in words that it never learned."""
    if wanted is not None:
        return wanted
    added = json.loads(read_checkpoint(source, base).tokenizer_json).get("added_tokens", ())
    if {CALL, END, TOOL} <= {token.get("content") for token in added}:
        return "compact"
    raise InputError(f"{source} does not say how its model writes calls.", hint=ASK)
