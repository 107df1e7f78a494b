"""`toolace-edge` as a program, with a scripted engine in the model's place.

    python -m tests.scripted_program '{"replies": ["<|text|>Hi.<|end|>"], "token_s": 0.01, "n_ctx": 2048}' chat --json

`"readline": false` makes it a Python without that module.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from tests.tiny import tiny_tokenizer_json
from toolace_edge.cli import App, cli
from toolace_edge.engines.scripted import Logits, ScriptedEngine
from toolace_edge.formats import get
from toolace_edge.registry import Model


def open_model(replies: list[str], token_s: float = 0.0, n_ctx: int = 2048) -> Model:
    """Plays the replies, one an answer; each pass of the engine takes `token_s` longer."""
    tokenizer = tiny_tokenizer_json()
    play = ScriptedEngine.replies(tokenizer, replies)._logits_of

    def logits_of(tokens: Sequence[int]) -> Logits:
        time.sleep(token_s)
        return play(tokens)

    return Model("scripted", ScriptedEngine(tokenizer, logits_of, n_ctx=n_ctx, chunk=64), get("compact"))


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    if not settings.pop("readline", True):
        sys.modules["readline"] = None  # type: ignore[assignment]

    def opened(*args: Any, **options: Any) -> Model:
        return open_model(**settings)

    cli.main(args=sys.argv[2:], prog_name="toolace-edge", obj=App(opened))
