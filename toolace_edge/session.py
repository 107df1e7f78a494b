"""A session: tools and a model, asked as often as you like. Composes everything above it, top to bottom.

    messages --prompts--> token ids --decode under the grammar, refine--> tokens --format--> Answer

Every request may be a conversation of its own. What its prompt begins with and the engine still has in its cache (the
tools, at least) is not read again. Of more tools than the context holds, each request is given those that suit it
(selection.py), and the answer says which.

Sessions may share an engine, and threads a session: each `complete` waits for its turn at the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from toolace_edge.confidence import Calibration
from toolace_edge.decode import Decoded
from toolace_edge.engines.base import Engine
from toolace_edge.errors import InputError, SchemaError
from toolace_edge.formats.base import AnyToolChoice, Format, Limits, ToolChoice
from toolace_edge.grammar import check_tool, compile_grammar
from toolace_edge.messages import Answer, Message, Round, Step, Tool, ToolCall, Usage, conversation_of
from toolace_edge.prompt_cache import PromptCache
from toolace_edge.prompts import check_conversation, encode_pieces
from toolace_edge.refine import Pen, refine
from toolace_edge.sampling import GREEDY, Sampling
from toolace_edge.selection import Selection
from toolace_edge.tools import Source, tools_of
from toolace_edge.validate import fills

if TYPE_CHECKING:
    from llguidance import LLMatcher

OnStep = Callable[[int, Step], None]

T = TypeVar("T")

_CHOICES_AT_HAND = 4  # grammars, each of one tool_choice


@dataclass(frozen=True, slots=True)
class Watch:
    """What a host may follow while an answer is made; all of it is called in the thread that asked, none may ask again.

    `on_prefill(read, total)` sees how many of the prompt's tokens are in the cache, after each chunk. Tokens that the
    grammar forces may be told before the prompt is read. `cancelled` is asked as often, and between tokens.
    """

    on_prefill: Callable[[int, int], None] | None = None
    on_step: OnStep | None = None
    on_round: Callable[[int, Round], None] | None = None
    cancelled: Callable[[], bool] | None = None


class Session:
    """Turns requests into calls of `tools`: `Tool`s, or whatever `load_tools` takes.

    `rounds` is how often an answer is refined at most: 0 takes the first one. `max_new_tokens` bounds each round; an
    answer always ends within it, or BudgetError says that none can. `calibration` comes with the model: without one,
    confidences are None and the gate that saves rounds is off. `top_k` limits how many tools the model is shown: those
    that suit the request best (selection.py; by default only where they are too many for it; 0 never). `prompt_cache`
    is a file that keeps what the engine has read of the tools, for the next start (prompt_cache.py). SchemaError where
    a tool's schema cannot be held.
    """

    def __init__(
        self,
        engine: Engine,
        fmt: Format,
        tools: Source = (),
        *,
        rounds: int = 1,
        tool_choice: AnyToolChoice = "auto",
        sampling: Sampling = GREEDY,
        max_new_tokens: int = 512,
        limits: Limits | None = None,
        calibration: Calibration | Mapping[str, Any] | None = None,
        top_k: int | None = None,
        prompt_cache: str | Path | None = None,
    ) -> None:
        if not hasattr(engine, "forward"):
            raise InputError(
                f"Session is made of an engine and a format, not {type(engine).__name__}.",
                hint="load(model, tools) makes one of a name, a path or an open Model.",
            )
        self.engine = engine
        self.tools = tools_of(tools)
        self._format = fmt
        self._rounds = _whole("rounds", rounds, 0)
        self._max_new_tokens = _whole("max_new_tokens", max_new_tokens, 1)
        self._sampling = _of_type("sampling", sampling, Sampling)
        self._calibration = Calibration.of(calibration)
        self._choice = ToolChoice.of(tool_choice)
        self._limits = Limits() if limits is None else _of_type("limits", limits, Limits)
        self._selection = Selection(
            engine,
            fmt,
            self.tools,
            n_ctx=engine.n_ctx,
            top_k=None if top_k is None else _whole("top_k", top_k, 0),
            usual=None if self._calibration is None else self._calibration.top_k,
            most=None if self._calibration is None else self._calibration.tools_tokens,
        )
        if prompt_cache is not None and not isinstance(prompt_cache, str | PathLike):
            raise InputError(f"prompt_cache is a path, not {type(prompt_cache).__name__}.")
        self._prompt_cache = None if prompt_cache is None else PromptCache(prompt_cache)
        self._compiled: dict[ToolChoice, tuple[Sequence[Tool], LLMatcher]] = {}
        self._check()
        self._turn = encode_pieces(engine, fmt.refine_turn())
        self._epoch = object()  # another one after each `cancel`

    def complete(
        self,
        messages: str | Sequence[Message | Mapping[str, Any]],
        *,
        tool_choice: AnyToolChoice | None = None,
        on_step: OnStep | None = None,
        watch: Watch | None = None,
    ) -> Answer:
        """Answer a request, or the end of a conversation. `tool_choice`, where given, is for this answer alone.

        `on_step(round, step)` sees every token as it is decided, `watch` more than that. BudgetError where it does not
        fit; Cancelled after `cancel`, and then the next request is served as if nothing had been.
        """
        messages = _conversation(messages)
        choice = self._choice if tool_choice is None else ToolChoice.of(tool_choice)
        choice.select(self.tools)
        if watch is not None and on_step is not None:
            raise InputError("on_step stands beside watch.", hint="Put it into the Watch.")
        watch = watch or Watch(on_step=on_step)
        epoch = self._epoch

        def cancelled() -> bool:
            stopped = self._epoch is not epoch or self.engine.turns.is_leaving
            return stopped or (watch.cancelled is not None and watch.cancelled())

        with self.engine.turns.turn(cancelled):
            try:
                return self._complete(messages, choice, replace(watch, cancelled=cancelled))
            finally:
                self.engine.cancelled = None

    def cancel(self) -> None:
        """Stop every `complete` that runs or waits now, from any thread: within a chunk of the prompt or a token."""
        self._epoch = object()

    def _check(self) -> None:
        """Refuse now what no request could be answered with."""
        self._choice.select(self.tools)
        if self._selection.may_show_all:
            self._compile(self.tools, self._choice)
        else:  # to compile a thousand takes seconds; what only that would show is seen once a tool is chosen
            self._format.lark(self.tools, self._choice, self._limits)

    def _compile(self, tools: Sequence[Tool], choice: ToolChoice) -> LLMatcher:
        """The grammar of answers with `tools`; a choice's last one is at hand, and compile_grammar keeps others."""
        compiled = self._compiled.get(choice)
        if compiled is None or compiled[0] != tools:
            try:
                matcher = compile_grammar(tools, self._format, choice, self._limits, self.engine.tokenizer)
            except SchemaError:
                for tool in tools:  # by its place among all
                    check_tool(tool, self._limits, f"tools[{self.tools.index(tool)}].parameters")
                raise
            if len(self._compiled) >= _CHOICES_AT_HAND:
                self._compiled.clear()
            self._compiled[choice] = compiled = tools, matcher
        return compiled[1]

    def _complete(self, messages: Sequence[Message], choice: ToolChoice, watch: Watch) -> Answer:
        named = [tool.name for _, tool in choice.select(self.tools)] if choice.mode == "named" else ()
        selected = self._selection.choose(messages, always=named)
        prompt, tools = selected.prompt, selected.tools
        watch = _with_prefill(watch, self.engine, len(prompt.ids))
        self.engine.cancelled = watch.cancelled
        request = next((message.content for message in reversed(messages) if message.role == "user"), "")
        # A prompt that is too long anyway is refused below; a megabyte need not be tokenized twice for that.
        fits = len(prompt.ids) < self.engine.n_ctx
        copy_from = self.engine.encode(request) if fits else []
        read_before = Usage()
        if self._prompt_cache is not None and fits and selected.retrieval is None:  # else the tools change every time
            read_before = self._prompt_cache.ready(self.engine, prompt.ids[: prompt.prefix_length])
        matcher = self._compile(tools, choice)
        pen = Pen(self.engine, matcher, prompt.ids, self._turn, copy_from, self._sampling, self._max_new_tokens)
        first = pen.write(on_step=None if watch.on_step is None else partial(watch.on_step, 0))
        first = replace(first, usage=first.usage + read_before)
        self._tell(tools, watch, 0, first)
        refined = refine(
            first,
            pen,
            rounds=self._rounds if self._sampling.temperature == 0.0 else 0,  # what is drawn by lot is not weighed
            calibration=self._calibration,
            on_round=partial(self._tell, tools, watch),
        )
        rounds = tuple(self._round(tools, decoded) for decoded in refined.rounds)
        last = rounds[-1]
        usage = sum((each.usage for each in rounds), Usage())
        return Answer(last.calls, last.text, refined.stop, last.confidence, rounds, usage, selected.retrieval)

    def _tell(self, tools: Sequence[Tool], watch: Watch, number: int, decoded: Decoded) -> None:
        """A round is done. Only the first one's tokens were told as they came: the others are weighed as wholes."""
        if watch.on_step is not None and number:
            for step in decoded.steps:
                watch.on_step(number, step)
        if watch.on_round is not None:
            watch.on_round(number, self._round(tools, decoded))

    def _round(self, tools: Sequence[Tool], decoded: Decoded) -> Round:
        calls, text = self._format.parse(tools, decoded.text)
        evidence = decoded.confidence
        cut = any(step.kind == "closing" for step in decoded.steps) or self._is_full(tools, calls, text)
        return Round(
            calls,
            text,
            None if evidence is None or self._calibration is None else self._calibration(evidence),
            decoded.usage,
            decoded.steps,
            None if evidence is None else evidence.log_product,
            None if evidence is None else evidence.log_minimum,
            cut,
        )

    def _is_full(self, tools: Sequence[Tool], calls: Sequence[ToolCall], text: str) -> bool:
        """Whether a value or the text is as long as `limits` let it be."""
        schemas = {tool.name: tool.parameters for tool in tools}
        most = self._limits
        return len(text) >= most.max_text > 0 or any(
            fills(schemas.get(call.name), call.arguments, characters=most.max_string, items=most.max_items)
            for call in calls
        )


def _with_prefill(watch: Watch, engine: Engine, total: int) -> Watch:
    """The same watch, whose `on_prefill` is called whenever one of the others is and the engine has read more."""
    tell, on_step, cancelled = watch.on_prefill, watch.on_step, watch.cancelled
    if tell is None:
        return watch
    told = -1

    def report() -> None:
        nonlocal told
        read = min(len(engine.tokens), total)
        if told < total and read != told:
            told = read
            tell(read, total)

    def step(number: int, one: Step) -> None:
        report()
        if on_step is not None:
            on_step(number, one)

    def asked() -> bool:
        report()
        return cancelled is not None and cancelled()

    return replace(watch, on_step=step, cancelled=asked)


def _of_type(name: str, value: Any, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise InputError(f"{name} is a {kind.__name__}, not {type(value).__name__}.")
    return value


def _whole(name: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value!r}, not a whole number from {least} on.")
    return value


def _conversation(messages: str | Iterable[Message | Mapping[str, Any]]) -> tuple[Message, ...]:
    """A request as the conversation that it is; refused where there is nothing to answer."""
    conversation = conversation_of(messages)
    check_conversation(conversation)
    return conversation
