"""A session: tools and a model, asked as often as you like. Composes everything above it, top to bottom.

    messages --prompts--> token ids --decode under the grammar, refine--> tokens --format--> Answer

Every request may be a conversation of its own. What its prompt begins with and the engine still has in its cache (the
tools, at least) is not read again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from toolace_edge.confidence import Calibration
from toolace_edge.decode import Decoded, decode
from toolace_edge.engines.base import Engine
from toolace_edge.errors import InputError
from toolace_edge.formats.base import Format, Limits, ToolChoice
from toolace_edge.grammar import compile_grammar
from toolace_edge.messages import Answer, Message, Round, Step, Tool, Usage
from toolace_edge.prompts import build_prompt, check_conversation, encode_pieces
from toolace_edge.refine import refine
from toolace_edge.sampling import GREEDY, Sampling

OnStep = Callable[[int, Step], None]


class Session:
    """Turns requests into calls of `tools`. Several sessions may share an engine, but only one may run at a time.

    `rounds` is how often an answer is refined at most: 0 takes the first one. `max_new_tokens` bounds each round; an
    answer always ends within it, or BudgetError says that none can. `calibration` comes with the model: without one,
    confidences are None and the gate that saves rounds is off. SchemaError where a tool's schema cannot be held.
    """

    def __init__(
        self,
        engine: Engine,
        fmt: Format,
        tools: Sequence[Tool] = (),
        *,
        rounds: int = 3,
        tool_choice: ToolChoice | str | tuple[str, str] = "auto",
        sampling: Sampling = GREEDY,
        max_new_tokens: int = 512,
        limits: Limits | None = None,
        calibration: Calibration | Mapping[str, Any] | None = None,
    ) -> None:
        self.engine = engine
        self.tools = tuple(tools)
        self._format = fmt
        self._rounds = _whole("rounds", rounds, 0)
        self._max_new_tokens = _whole("max_new_tokens", max_new_tokens, 1)
        self._sampling = sampling
        self._calibration = Calibration.of(calibration)
        self._matcher = compile_grammar(self.tools, fmt, tool_choice, limits or Limits(), engine.tokenizer)
        self._turn = encode_pieces(engine, fmt.refine_turn())
        self._cancel = threading.Event()

    def complete(self, messages: str | Sequence[Message], *, on_step: OnStep | None = None) -> Answer:
        """Answer a request, or the end of a conversation.

        `on_step(round, step)` sees every token as it is decided. BudgetError where it does not fit; Cancelled after
        `cancel`, and then the next request is served as if nothing had been.
        """
        messages = _conversation(messages)
        self._cancel.clear()
        self.engine.cancelled = self._cancel.is_set
        try:
            return self._complete(messages, on_step)
        finally:
            self.engine.cancelled = None

    def cancel(self) -> None:
        """Stop the `complete` that runs now, from another thread; within one chunk of the prompt or one token."""
        self._cancel.set()

    def _complete(self, messages: Sequence[Message], on_step: OnStep | None) -> Answer:
        prompt = build_prompt(self.engine, self._format, self.tools, messages)
        request = next((message.content for message in reversed(messages) if message.role == "user"), "")
        # A prompt that is too long anyway is refused below; a megabyte need not be tokenized twice for that.
        copy_from = self.engine.encode(request) if len(prompt.ids) < self.engine.n_ctx else []
        refined = refine(
            partial(self._write, copy_from, on_step),
            prompt=prompt.ids,
            turn=self._turn,
            n_ctx=self.engine.n_ctx,
            rounds=self._rounds,
            calibration=self._calibration,
        )
        rounds = tuple(self._round(decoded) for decoded in refined.rounds)
        last = rounds[-1]
        usage = sum((each.usage for each in rounds), Usage())
        return Answer(last.calls, last.text, refined.stop, last.confidence, rounds, usage)

    def _write(
        self, copy_from: list[int], on_step: OnStep | None, number: int, prompt: Sequence[int], draft: Sequence[int]
    ) -> Decoded:
        return decode(
            self.engine,
            self._matcher,
            prompt=prompt,
            draft=draft,
            copy_from=copy_from,
            sampling=self._sampling,
            max_new_tokens=self._max_new_tokens,
            on_step=None if on_step is None else partial(on_step, number),
        )

    def _round(self, decoded: Decoded) -> Round:
        calls, text = self._format.parse(self.tools, decoded.text)
        evidence = decoded.confidence
        return Round(
            calls,
            text,
            None if evidence is None or self._calibration is None else self._calibration(evidence),
            decoded.usage,
            decoded.steps,
            None if evidence is None else evidence.log_product,
            None if evidence is None else evidence.log_minimum,
        )


def _whole(name: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value!r}, not a whole number from {least} on.")
    return value


def _conversation(messages: str | Sequence[Message]) -> tuple[Message, ...]:
    """A request as the conversation that it is; refused where there is nothing to answer."""
    conversation = (Message("user", messages),) if isinstance(messages, str) else tuple(messages)
    check_conversation(conversation)
    return conversation
