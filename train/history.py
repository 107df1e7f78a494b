"""What was said and called before: a conversation goes on, and its last call is not the next one's answer.

Found lines mostly hold one request, or dialogues in which the same call grows. A model that saw only these repeats its
last call whatever is asked next, and calls again although the result has come.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from toolace_edge.messages import Message, ToolCall

_RESULTS = (
    "ok", "done", "Done.", "true", "success", '{"status": "ok"}', '{"success": true}', "null", "", "42", "0",
    "not found", "error: timeout", '{"error": "not available"}', "[]", "{}",
)  # fmt: skip


def exchange(rng: random.Random, request: str, calls: Sequence[ToolCall], lexicon: Sequence[str]) -> list[Message]:
    """A request with its calls and what came of them; the assistant's closing turn is there or not."""
    messages = [Message("user", request), Message("assistant", "", tuple(calls))]
    if not calls:
        return messages
    messages += [Message("tool", _result(rng, call, lexicon)) for call in calls]
    if rng.random() < 0.4:
        messages.append(Message("assistant", ""))
    return messages


def _result(rng: random.Random, call: ToolCall, lexicon: Sequence[str]) -> str:
    """A word that says that it worked or did not, a few words, numbers, or the arguments told back."""
    form = rng.random()
    if form < 0.35:
        return rng.choice(_RESULTS)
    if form < 0.6:
        return " ".join(rng.choice(lexicon) for _ in range(rng.randint(1, 8)))
    if form < 0.8:
        return f"{rng.choice(lexicon)}: {rng.choice((rng.randint(0, 100), round(rng.uniform(0, 1000), 2)))}"
    said = [f"{name} {value}" for name, value in call.arguments.items() if isinstance(value, (str, int, float))]
    return " ".join([call.name, *said])[:120]
