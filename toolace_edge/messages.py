"""The plain data that travels down the pipeline: tools, messages, calls, answers. Imports nothing of ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
Stop = Literal["unchanged", "confident", "cycle", "max_rounds", "context"]
RunStop = Literal["answered", "no_call", "max_steps", "repeated", "denied", "cancelled"]
Outcome = Literal["done", "unknown", "invalid", "denied", "timeout", "failed", "cancelled"]
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
    """What a call returned: text that the model can read. `error` marks a failure, never hidden from either side.

    The rest is for the host. `outcome` says what became of the call, `exception` is what the tool raised, and `whole`
    the text before it was cut, None where it was not.
    """

    name: str
    content: str
    call_id: str | None = None
    error: bool = False
    outcome: Outcome = field(default="done", compare=False)
    exception: BaseException | None = field(default=None, compare=False, repr=False)
    whole: str | None = field(default=None, compare=False, repr=False)


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
class Retrieval:
    """Which tools the model was shown, where that was not all of them: the best for the request (retrieval.py).

    `tools` are names and scores in the order in which the model read them, of `total` tools; `top_k` is how many there
    may be. `needed_tokens` is what all of them and the conversation would have taken of the context of `n_ctx` tokens;
    None where `top_k` was asked for, whatever they take.
    """

    tools: tuple[tuple[str, float], ...]
    total: int
    top_k: int
    needed_tokens: int | None
    n_ctx: int

    def __str__(self) -> str:
        """A sentence for people: how many, and why not all."""
        if self.needed_tokens is not None:
            why = f"all take {self.needed_tokens} tokens, and the context holds {self.n_ctx}"
        elif len(self.tools) < self.top_k:
            why = f"top_k is {self.top_k}, but more do not fit into the context of {self.n_ctx} tokens"
        else:
            why = f"top_k is {self.top_k}"
        return f"{len(self.tools)} of {self.total} tools were offered, the best for this request: {why}."


@dataclass(frozen=True, slots=True)
class Answer:
    """The last round's calls or text, why refinement stopped, and every round.

    `retrieval` is None where the model was shown every tool.
    """

    calls: tuple[ToolCall, ...]
    text: str
    stop: Stop
    confidence: float | None
    rounds: tuple[Round, ...]
    usage: Usage
    retrieval: Retrieval | None = None


@dataclass(frozen=True, slots=True)
class RunStep:
    """One answer and, in the order of its calls, what they returned."""

    answer: Answer
    results: tuple[ToolResult, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """A request, worked on until `stop`:

    `answered` the last answer calls nothing; `no_call` so does the first one, and it says nothing either;
    `max_steps` there would have been more; `repeated` three times the same call with the same result;
    `denied` no call of the last step was allowed; `cancelled`.
    """

    steps: tuple[RunStep, ...]
    stop: RunStop

    @property
    def text(self) -> str:
        """What the model said last; empty where it ended with a call."""
        return self.steps[-1].answer.text if self.steps else ""

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """Every call, in order."""
        return tuple(call for step in self.steps for call in step.answer.calls)

    @property
    def results(self) -> tuple[ToolResult, ...]:
        """Every call's result, in the same order."""
        return tuple(result for step in self.steps for result in step.results)

    @property
    def usage(self) -> Usage:
        """What all answers cost together; the tools' own time is not in it."""
        return sum((step.answer.usage for step in self.steps), Usage())
