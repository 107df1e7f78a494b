"""A conversation that acts: the model calls, this program executes, the model reads what came of it, and so on.

    with Agent(tools=[set_timer]) as agent:
        print(agent.run("set a timer for 10 minutes").results)

A result goes back to the model as a turn of the conversation, and is data there: nothing in it is read as a control
token or executed. Only what the grammar let the model write is a call.
"""

from __future__ import annotations

import inspect
import json
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from toolace_edge import registry
from toolace_edge.conversation_file import read_conversation, write_conversation
from toolace_edge.errors import Cancelled, InputError
from toolace_edge.events import CallFinished, Event, Failed, Finished, ResultReady
from toolace_edge.execute import MAX_RESULT, TIMEOUT_S, Executor
from toolace_edge.extraction import target_of
from toolace_edge.formats.base import AnyToolChoice, Limits, ToolChoice
from toolace_edge.messages import Answer, Message, Run, RunStep, RunStop, Tool, ToolCall, ToolResult
from toolace_edge.narrate import watch_for
from toolace_edge.policy import Approve, Policy
from toolace_edge.registry import Model
from toolace_edge.session import Session, Watch
from toolace_edge.sources.base import SourceTool
from toolace_edge.tools import Source, entries_of, load_tools

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_STEPS = 8
SAME_IN_A_ROW = 3  # answers with the same call and result: who has learned nothing from two will not from a third

OnEvent = Callable[[Event], None]


class Agent:
    """A model, tools that run, and the conversation so far (`messages`, which may be read and changed between runs).

    `model` is a name, a path, or an open `Model`, which several agents may share; what the agent opened itself it
    closes. `tools` are functions and what `open_sources` gives; of a file, a dict or a `Tool` the model
    may make calls, which nobody runs: `complete` gives them to you, `run` has them fail as `unknown`.
    `policy`, `approve`, `timeout_s` and `max_result` are the Executor's. Without `policy` and `approve`, functions run
    and the tools of servers and documents do not: there is nobody to ask. A result is cut at 8,000 characters, or
    where it takes a quarter of the context. `tool_choice` is for requests that come without one; a tool's name, or
    "required", narrows only the first answer to a request. `options` are Session's.
    """

    def __init__(
        self,
        model: Model | str | Path | None = None,
        tools: Source = (),
        *,
        system: str = "",
        policy: Policy | Mapping[str, Policy] | None = None,
        approve: Approve | None = None,
        max_steps: int = MAX_STEPS,
        timeout_s: float | Mapping[str, float] = TIMEOUT_S,
        max_result: int | None = None,
        on_event: OnEvent | None = None,
        tool_choice: AnyToolChoice = "auto",
        **options: Any,
    ) -> None:
        _check_options(options)
        listed = entries_of(tools)
        self.tools: tuple[Tool, ...] = load_tools(listed)
        functions = [one for one in listed if callable(one)]
        self.max_steps = _steps(max_steps)
        self.on_event = on_event
        self._only_described = sorted({one.name for one in self.tools} - {one.name for one in load_tools(functions)})
        self._start = [Message("system", system)] if system else []
        self.messages: list[Message] = list(self._start)
        self._choice = ToolChoice.of(tool_choice)
        self._options = options
        self._busy = threading.Lock()
        self._epoch = object()  # another one after each `cancel`
        self._opened = not isinstance(model, Model)
        self._model = model if isinstance(model, Model) else registry.open_model(model)
        try:
            self._executor = Executor(
                functions,
                approve=approve,
                policy=policy if policy is not None else _cautious(functions, approve),
                timeout_s=timeout_s,
                max_result=self._readable if max_result is None else max_result,
            )
            self._session: Session = self._model.session(self.tools, tool_choice=self._choice, **options)
        except BaseException:
            self.close()
            raise

    def run(
        self,
        request: str,
        *,
        max_steps: int | None = None,
        on_event: OnEvent | None = None,
        tool_choice: AnyToolChoice | None = None,
    ) -> Run:
        """Work on a request until it is answered or `Run.stop` says otherwise; at most `max_steps` answers.

        `tool_choice`, where given, is for this request. `on_event` sees everything that happens (events.py), in this
        thread. An error is raised once `Failed` has told it, and the conversation then holds what was done before.
        InputError where a run is going on already.
        """
        tell = on_event or self.on_event
        limit = self.max_steps if max_steps is None else _steps(max_steps)
        choice = self._choice if tool_choice is None else ToolChoice.of(tool_choice)
        choice.select(self.tools)
        if self._only_described and not self._executor.tools:
            raise InputError(
                f"No function is given for {', '.join(self._only_described)}, so it cannot run.",
                hint="Give functions as tools, or use complete() and run the calls yourself.",
            )
        if not self._busy.acquire(blocking=False):
            raise InputError(
                "This conversation is going on already.", hint="Wait, or use another Agent; they may share a Model."
            )
        try:
            run = self._run(request, limit, choice, tell, self._cancelled_from_now())
        except BaseException as error:
            if tell is not None:
                tell(Failed(error))
            raise
        finally:
            self._busy.release()
        if tell is not None:
            tell(Finished(run))
        return run

    def stream(
        self,
        request: str,
        *,
        max_steps: int | None = None,
        tool_choice: AnyToolChoice | None = None,
    ) -> Iterator[Event]:
        """`run` as an iterator of events, the last of which is `Finished`; errors are raised.

        The work is done in a thread of its own, in which `approve` is called too. Leaving the loop cancels it.
        """
        events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        raised: list[BaseException] = []

        def work() -> None:
            try:
                self.run(request, max_steps=max_steps, on_event=events.put, tool_choice=tool_choice)
            except BaseException as error:
                raised.append(error)
            finally:
                events.put(None)

        worker = threading.Thread(target=work, daemon=True, name="toolace-edge run")
        worker.start()
        try:
            while (event := events.get()) is not None:
                yield event
            if raised:
                raise raised[0]
        finally:
            if worker.is_alive():
                self.cancel()
                worker.join(1.0)  # longer only where `approve` waits for somebody

    def complete(
        self,
        messages: str | Sequence[Message | Mapping[str, Any]],
        *,
        on_event: OnEvent | None = None,
        tool_choice: AnyToolChoice | None = None,
    ) -> Answer:
        """One answer, which the caller executes; the conversation stays as it is. As Session's, events included."""
        watch = self._watch(0, on_event, self._cancelled_from_now())
        return self._session.complete(messages, tool_choice=tool_choice, watch=watch)

    def extract(self, text: str, model: Any) -> Any:
        """What `text` says, as one value of `model`: a pydantic model, a dataclass, another annotation, a JSON schema.

        One forced call of one made tool; the value always obeys the schema. A schema gives plain JSON values. What
        `model_validate` raises beyond the schema passes.
        """
        target = target_of(model)
        limits = replace(self._options.get("limits") or Limits(), max_calls=1)
        options = {**self._options, "tool_choice": "required", "limits": limits, "prompt_cache": None}
        session = self._model.session((target.tool,), **options)
        answer = session.complete(text, watch=Watch(cancelled=self._cancelled_from_now()))
        return target.build(answer.calls[0].arguments)

    def cancel(self) -> None:
        """Stop whatever this agent does now, from any thread; a tool that runs is left behind."""
        self._epoch = object()

    def reset(self) -> None:
        """Begin a new conversation."""
        self.messages = list(self._start)

    def save(self, path: str | Path) -> None:
        """Write the conversation to a JSON file, whole or not at all. InputError where it cannot be written.

        Only another saved conversation is overwritten, and no folder is made.
        """
        write_conversation(Path(path), self.messages)

    def load(self, path: str | Path) -> None:
        """Go on with a conversation that `save` wrote. InputError, with everything as before, where it is damaged."""
        self.messages = list(read_conversation(Path(path)))

    def close(self) -> None:
        """Stop, and free the model's memory if the agent opened it. Idempotent."""
        self.cancel()
        if self._opened:
            self._model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _readable(self, content: str) -> int:
        """How many characters of a result the model may read."""
        engine = self._model.engine
        room, size = engine.n_ctx // 4, min(len(content), MAX_RESULT)
        while (tokens := len(engine.encode(content[:size].encode("utf-8", "replace").decode()))) > room:
            size = size * room // tokens
        return size

    def _cancelled_from_now(self) -> Callable[[], bool]:
        epoch = self._epoch
        return lambda: self._epoch is not epoch

    def _watch(self, step: int, tell: OnEvent | None, cancelled: Callable[[], bool]) -> Watch:
        if tell is None:
            return Watch(cancelled=cancelled)
        return watch_for(step, tell, cancelled, self._model.format, self._model.engine)

    def _run(
        self, request: str, limit: int, choice: ToolChoice, tell: OnEvent | None, cancelled: Callable[[], bool]
    ) -> Run:
        self.messages.append(Message("user", request))
        asked = len(self.messages)
        steps: list[RunStep] = []
        try:
            stop = self._work(limit, choice, steps, tell, cancelled)
        except Cancelled:
            stop = "cancelled"
        finally:
            if len(self.messages) == asked:  # nothing came of it: as if it had not been asked
                self.messages.pop()
        return Run(tuple(steps), stop)

    def _work(
        self,
        limit: int,
        choice: ToolChoice,
        steps: list[RunStep],
        tell: OnEvent | None,
        cancelled: Callable[[], bool],
    ) -> RunStop:
        """Call, execute, observe, next; `steps` grows."""
        for number in range(limit):
            if number and not choice.allows_text:
                choice = ToolChoice()  # what had to be called was
            watch = self._watch(number, tell, cancelled)
            answer = self._session.complete(self.messages, tool_choice=choice, watch=watch)
            if not answer.calls:
                self.messages.append(Message("assistant", answer.text))
                steps.append(RunStep(answer))
                return "answered" if number or answer.text.strip() else "no_call"
            steps.append(RunStep(answer, self._execute(number, answer, tell, cancelled)))
            if cancelled():
                return "cancelled"
            if all(result.outcome == "denied" for result in steps[-1].results):
                return "denied"
            if _repeats(steps):
                return "repeated"
        return "max_steps"

    def _execute(
        self, number: int, answer: Answer, tell: OnEvent | None, cancelled: Callable[[], bool]
    ) -> tuple[ToolResult, ...]:
        """Run the calls in order. The conversation gets all of them, with a result each, whatever happens.

        Calls of an answer that was cut off are not made: half a letter is not what somebody wanted to send.
        """
        calls = answer.calls
        results: list[ToolResult] = []
        try:
            for index, call in enumerate(calls):
                if tell is not None:
                    tell(CallFinished(number, index, call))
            for index, call in enumerate(calls):
                results.append(_not_made(call) if answer.cut else self._executor.run(call, cancelled=cancelled))
                if tell is not None:
                    tell(ResultReady(number, index, results[-1]))
        finally:
            self.messages.append(Message("assistant", answer.text, tuple(calls)))
            said = [result.content for result in results]
            said += ["Error: the program stopped before this ran."] * (len(calls) - len(results))
            self.messages += [Message("tool", text, call_id=call.id) for call, text in zip(calls, said, strict=True)]
        return tuple(results)


def _not_made(call: ToolCall) -> ToolResult:
    why = "the answer ended at a limit, so that its values may be cut off. Write shorter values."
    return ToolResult(call.name, f"Error: {call.name} was not called: {why}", call.id, error=True, outcome="invalid")


def _repeats(steps: Sequence[RunStep]) -> bool:
    """Whether the last answers made one call only, the same each time, with the same result."""
    made = {
        (call.name, json.dumps(dict(call.arguments), sort_keys=True), result.content)
        for step in steps[-SAME_IN_A_ROW:]
        for call, result in zip(step.answer.calls, step.results, strict=True)
    }
    return len(steps) >= SAME_IN_A_ROW and len(made) == 1


def _cautious(functions: Sequence[Any], approve: Approve | None) -> Policy | Mapping[str, Policy]:
    """Where nothing is said: ask whoever can be asked; else the program's own functions run, and nothing foreign."""
    if approve is not None:
        return "ask"
    foreign: dict[str, Policy] = {one.tool.name: "ask" for one in functions if isinstance(one, SourceTool)}
    return {**foreign, "*": "allow"}


def _check_options(options: Mapping[str, Any]) -> None:
    """TypeError for a name that neither Agent nor Session knows, as Python itself would raise it for Agent."""
    own = inspect.signature(Agent).parameters.keys() - {"options"}
    handed_on = inspect.signature(Session).parameters.keys() - {"engine", "fmt", "tools"}
    for name in options:
        if name not in handed_on:
            near = get_close_matches(name, sorted(own | handed_on), 1)
            meant = f". Did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"Agent() got an unexpected keyword argument {name!r}{meant}")


def _steps(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"max_steps is {value!r}, not a whole number from 1 on.")
    return value
