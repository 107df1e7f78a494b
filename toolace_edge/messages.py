"""The plain data that travels down the pipeline: tools, messages, calls, answers. Imports no more of ours than errors.

Dicts live at the edge only: `conversation_of` makes messages of OpenAI's form, in programs and in data files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from toolace_edge.errors import InputError

Role = Literal["system", "user", "assistant", "tool"]
Stop = Literal["unchanged", "confident", "max_rounds", "context"]
RunStop = Literal["answered", "no_call", "max_steps", "repeated", "denied", "cancelled"]
Outcome = Literal["done", "unknown", "invalid", "denied", "timeout", "failed", "cancelled"]
StepKind = Literal["forced", "free", "draft", "closing"]

ROLES: tuple[Role, ...] = get_args(Role)


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
    """One turn. An assistant turn holds `calls` or `content`; a tool turn holds a result in `content`.

    InputError where the role is none or the content is no text.
    """

    role: Role
    content: str = ""
    calls: tuple[ToolCall, ...] = ()
    call_id: str | None = None

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise InputError(f"{self.role!r:.40} is not a message's role.", hint=f"Roles are {', '.join(ROLES)}.")
        if not isinstance(self.content, str):
            raise InputError(f"A message's content is text, not {type(self.content).__name__}.", hint=_AS_TEXT)

    @classmethod
    def of(cls, turn: Message | Mapping[str, Any], where: str = "message") -> Message:
        """A message as it is, or made of a dict in OpenAI's form; `where` names it in errors. Raises InputError.

        `content` is text, null, or a list of parts of text; `tool_calls` have their arguments as an object or as its
        JSON; a result says in `tool_call_id` whose it is. The role `developer` is `system`; what else a dict says
        (`name`, `refusal`) has no place in a prompt.
        """
        if isinstance(turn, Message):
            return turn
        if not isinstance(turn, Mapping):
            raise InputError(f"{where}: a message is a Message or a dict, not {type(turn).__name__}.", hint=_FORM)
        role = "system" if turn.get("role") == "developer" else turn.get("role")
        if role not in ROLES:
            said = "" if role is None else f", not {role!r:.40}"
            raise InputError(f"{where}: a message needs a `role` of {', '.join(ROLES)}{said}.", hint=_FORM)
        for key in ("function_call", "calls"):
            if turn.get(key):
                raise InputError(f"{where}.{key}: is not read, and calls would be lost.", hint="Give `tool_calls`.")
        calls = _calls(turn.get("tool_calls"), f"{where}.tool_calls")
        if calls and role != "assistant":
            raise InputError(f"{where}.tool_calls: only an assistant calls.")
        content = _content(turn.get("content"), f"{where}.content")
        return cls(role, content, calls, _identifier(turn.get("tool_call_id"), f"{where}.tool_call_id"))


def conversation_of(messages: str | Iterable[Message | Mapping[str, Any]]) -> tuple[Message, ...]:
    """A request, or a list of `Message`s and dicts in OpenAI's form, as messages. Raises InputError with the place."""
    if isinstance(messages, str):
        return (Message("user", messages),)
    if isinstance(messages, Message | Mapping | bytes) or not isinstance(messages, Iterable):
        raise InputError(f"A conversation is text or a list of messages, not {type(messages).__name__}.", hint=_FORM)
    return _in_order([Message.of(one, f"messages[{i}]") for i, one in enumerate(messages)])


def _in_order(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The same messages, with results in the order of the calls whose they are: prompts have no ids.

    InputError where a result is of none of the calls before it.
    """
    ordered: list[Message] = []
    places: dict[str | None, int] = {}  # of the last calls, by their ids
    results: list[Message] = []
    for i, message in enumerate(messages):
        if message.role != "tool":
            ordered += _sorted(results, places)
            results = []
            ordered.append(message)
            places = {call.id: n for n, call in enumerate(message.calls) if call.id is not None}
            continue
        if message.call_id is not None and places and message.call_id not in places:
            raise InputError(
                f"messages[{i}].tool_call_id: {message.call_id!r:.60} is the id of none of the calls before it.",
                hint=f"These are {', '.join(map(str, places))}.",
            )
        results.append(message)
    return (*ordered, *_sorted(results, places))


def _sorted(results: Sequence[Message], places: Mapping[str | None, int]) -> list[Message]:
    if any(result.call_id not in places for result in results):
        return [*results]  # where one has no id, they stand as they are given
    return sorted(results, key=lambda result: places[result.call_id])


_FORM = 'A conversation is a text, or a list such as [{"role": "user", "content": "..."}].'
_AS_TEXT = "Write it as text; json.dumps does for data."


def _content(value: Any, where: str) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if not isinstance(value, list):
        raise InputError(f"{where}: must be text, not {type(value).__name__}.", hint=_AS_TEXT)
    for i, part in enumerate(value):
        if not isinstance(part, Mapping) or not isinstance(part.get("text"), str):
            raise InputError(f"{where}[{i}]: only parts of text can be read.", hint='{"type": "text", "text": "..."}')
    return "\n".join(part["text"] for part in value)


def _calls(listed: Any, where: str) -> tuple[ToolCall, ...]:
    if not isinstance(listed, Sequence | None) or isinstance(listed, str):
        raise InputError(f"{where}: must be a list.")
    return tuple(_call(call, f"{where}[{i}]") for i, call in enumerate(listed or ()))


def _call(call: Any, where: str) -> ToolCall:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise InputError(f"{where}: a call needs `function` with a `name`.")
    arguments = _arguments(function.get("arguments"), f"{where}.function.arguments")
    return ToolCall(function["name"], arguments, _identifier(call.get("id"), f"{where}.id"))


def _arguments(given: Any, where: str) -> dict[str, Any]:
    """An object, or its JSON, as OpenAI writes it; the caller's own is copied."""
    try:
        text = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False, allow_nan=False)
        arguments = json.loads(text or "{}", parse_constant=_refuse_constant)
    except RecursionError:
        raise InputError(f"{where}: is nested too deeply.") from None
    except (ValueError, TypeError) as error:
        raise InputError(f"{where}: not JSON: {error}.") from None
    if arguments is not None and not isinstance(arguments, dict):
        raise InputError(f"{where}: must be an object.")
    if not is_text(json.dumps(arguments, ensure_ascii=False)):
        raise InputError(f"{where}: holds half of a surrogate pair, which is not text.")
    return arguments or {}


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"it holds {name}")


def _identifier(value: Any, where: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InputError(f"{where}: must be text, not {type(value).__name__}.")
    return value


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
    """A version of the answer: the first, or the best of the one before it and of its nearest others.

    `confidence` is calibrated, None where nobody did. `log_probability` and `log_minimum` are what it is made of: the
    natural logarithms of the product and of the least of the free choices' probabilities, None without any. `usage` is
    of all that was written and read in the round, `steps` of the answer alone. `cut` where it ended at a limit, of the
    tokens or of a value's length (Limits): what the model would have written on is not there.
    """

    calls: tuple[ToolCall, ...]
    text: str
    confidence: float | None
    usage: Usage
    steps: tuple[Step, ...] = ()
    log_probability: float | None = None
    log_minimum: float | None = None
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Which tools the model was shown, where that was not all of them: the best for the request (retrieval.py).

    `tools` are names and scores in the order in which the model read them, of `total` tools; `top_k` is how many there
    may be. `needed_tokens` is what all of them and the conversation would have taken of the context of `n_ctx` tokens;
    None where `top_k` was asked for, whatever they take. `tools_tokens` is how many tokens of tools the model chooses
    well from, where all would have fitted but were more.
    """

    tools: tuple[tuple[str, float], ...]
    total: int
    top_k: int
    needed_tokens: int | None
    n_ctx: int
    tools_tokens: int | None = None

    def __str__(self) -> str:
        """A sentence for people: how many, and why not all."""
        if self.tools_tokens is not None:
            why = f"this model chooses best from tools of up to {self.tools_tokens} tokens, and all take more"
        elif self.needed_tokens is not None:
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

    @property
    def cut(self) -> bool:
        """Whether it ended at a limit, so that something may be missing from it."""
        return self.rounds[-1].cut


@dataclass(frozen=True, slots=True)
class RunStep:
    """One answer and, in the order of its calls, what they returned."""

    answer: Answer
    results: tuple[ToolResult, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """A request, worked on until `stop`:

    `answered` the last answer calls nothing; `no_call` so does the first one, and it says nothing either;
    `max_steps` there may have been more; `repeated` three answers in a row made the same call, with the same result;
    `denied` no call of the last step was allowed; `cancelled`.
    """

    steps: tuple[RunStep, ...]
    stop: RunStop

    @property
    def text(self) -> str:
        """What the model said last; empty where it called, and said nothing before."""
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
