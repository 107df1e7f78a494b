"""The plain data that travels down the pipeline: tools, messages, calls, answers. Imports nothing of ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
Stop = Literal["unchanged", "confident", "cycle", "max_rounds", "context"]
StepKind = Literal["forced", "free", "draft", "closing"]


def is_text(text: str) -> bool:
    """Whether UTF-8 can hold it: a lone half of a surrogate pair, which JSON may spell, is nothing a model can read."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call.

    `parameters` is a normalised JSON Schema of type object (see schema.py): `properties` in the order
    in which the model writes them, `required` always present.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}, "required": []})


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call: a tool's name and its arguments as plain JSON values."""

    name: str
    arguments: Mapping[str, Any]
    id: str | None = None

    def __str__(self) -> str:
        """`set_timer(minutes=10)`: for people, the values as JSON."""
        values = (f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in self.arguments.items())
        return f"{self.name}({', '.join(values)})"


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a call returned: text that the model can read. `error` marks a failure, never hidden from either side."""

    name: str
    content: str
    call_id: str | None = None
    error: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. An assistant turn holds `calls` or `content`; a tool turn holds a result in `content`."""

    role: Role
    content: str = ""
    calls: tuple[ToolCall, ...] = ()
    call_id: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer cost. Counts are tokens; times are seconds of wall clock.

    `call_tokens` = `forced_tokens` + `free_tokens`: tokens whose text the grammar left no choice about, and real
    choices. `drafted_tokens` were proposed and `accepted_tokens` of them were right, each forced or free as well.
    `prefill_s` is the first forward pass, which reads the prompt; `decode_s` the rest.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    call_tokens: int = 0
    forced_tokens: int = 0
    free_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    forward_passes: int = 0
    prefill_s: float = 0.0
    decode_s: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Step:
    """One token of an answer, for `--trace`: `kind` tells who chose it, `probability` is None where nobody had to.

    `forced` the grammar, `free` the model, `draft` the model as a draft had guessed, `closing` the token budget.
    """

    token: int
    text: str
    kind: StepKind
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """One pass over the answer: the first, or a rewriting of the one before it.

    `confidence` is calibrated, None where nobody did. `log_probability` and `log_minimum` are what it is made of: the
    natural logarithms of the product and of the least of the free choices' probabilities, None without any.
    """

    calls: tuple[ToolCall, ...]
    text: str
    confidence: float | None
    usage: Usage
    steps: tuple[Step, ...] = ()
    log_probability: float | None = None
    log_minimum: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The last round's calls or text, why refinement stopped, and every round."""

    calls: tuple[ToolCall, ...]
    text: str
    stop: Stop
    confidence: float | None
    rounds: tuple[Round, ...]
    usage: Usage
