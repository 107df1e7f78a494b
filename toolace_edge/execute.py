"""Runs calls: checks the arguments, asks for approval, keeps the time, and puts whatever happens into words.

The only place that calls user code. A result is always text that a model can read; `error` marks what went wrong,
which is never hidden from either side. A call of a tool that is not there, one whose arguments do not obey the schema,
and one that was not approved do not run. A coroutine function runs to its end, in an event loop of its own.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from toolace_edge.annotations import as_json
from toolace_edge.errors import CallError, ToolError
from toolace_edge.functions import from_function, to_python
from toolace_edge.messages import Outcome, Tool, ToolCall, ToolResult, is_text
from toolace_edge.policy import Approve, Policy, by_name, check_patterns, check_policy, why_denied
from toolace_edge.schema import check
from toolace_edge.sources.base import SourceTool

__all__ = ["MAX_RESULT", "TIMEOUT_S", "Approve", "Executor", "as_text"]

TIMEOUT_S = 30.0
MAX_RESULT = 8000  # characters

_POLL_S = 0.02  # how often a call that runs asks whether it was cancelled, and a coroutine whether it is waited for


class Executor:
    """Runs calls of Python functions and of what the sources give.

    `policy` says what may run (policy.py); `approve(call)` is who is asked, and says no by returning False. It gets a
    copy of the call: what runs is what was written. Without `policy` every call is asked for where there is `approve`,
    and allowed where there is not.
    `timeout_s` limits a call's wall clock, for all tools or by name: Python cannot stop a thread, so a function that
    overruns is left behind in a daemon thread while the result says so; so is one that runs when it is cancelled. A
    coroutine is cancelled where it waits. InputError where `policy` or `timeout_s` names a tool that is not there.
    `max_result` limits the characters that the model reads of a result, or says how many of a given one it may;
    `whole` keeps the others for the host.
    """

    def __init__(
        self,
        functions: Iterable[Callable[..., Any]],
        *,
        approve: Approve | None = None,
        policy: Policy | Mapping[str, Policy] | None = None,
        timeout_s: float | Mapping[str, float] = TIMEOUT_S,
        max_result: int | Callable[[str], int] = MAX_RESULT,
    ) -> None:
        self._functions: dict[str, Callable[..., Any]] = {}
        tools = []
        for function in functions:
            tools.append(from_function(function))
            if tools[-1].name in self._functions:
                raise ToolError(f"{tools[-1].name} is the name of two functions.", hint="Rename one of them.")
            self._functions[tools[-1].name] = function
        self.tools: tuple[Tool, ...] = tuple(tools)
        self.approve = approve
        self.policy = policy if policy is not None else "allow" if approve is None else "ask"
        check_policy(self.policy, list(self._functions))
        check_patterns("timeout_s", timeout_s, list(self._functions))
        self.timeout_s = timeout_s
        self.max_result = max_result

    def run_all(
        self, calls: Sequence[ToolCall], *, cancelled: Callable[[], bool] | None = None
    ) -> tuple[ToolResult, ...]:
        """One after the other, in order: a later call may lean on what an earlier one did."""
        return tuple(self.run(call, cancelled=cancelled) for call in calls)

    def run(self, call: ToolCall, *, cancelled: Callable[[], bool] | None = None) -> ToolResult:
        """Never raises for what a call or a function does; what `approve` raises passes, and KeyboardInterrupt.

        Once `cancelled` says yes, the call does not begin, or is left behind within a few hundredths of a second.
        """
        cancelled = cancelled or _never
        try:
            call = self._without_nulls(_copy(call))  # the caller's stays what the model wrote, whatever a function does
        except RecursionError:
            return _failure(call, "invalid", "the arguments are nested too deeply.")
        problem = None if cancelled() else self._why_not(call)
        if cancelled():  # before, or while somebody was asked
            problem = "cancelled", f"{call.name} was cancelled before it ran."
        if problem is not None:
            return _failure(call, *problem)
        return self._cut(self._timed(call, cancelled))

    def _without_nulls(self, call: ToolCall) -> ToolCall:
        """Callers write null for what they leave out; where an optional argument cannot be null, that is understood."""
        described = next((tool.parameters for tool in self.tools if tool.name == call.name), {})
        properties, required = described.get("properties", {}), described.get("required", ())
        arguments = {
            name: value
            for name, value in call.arguments.items()
            if value is not None or name in required or not check(properties.get(name, {}), None)
        }
        return replace(call, arguments=arguments)

    def _why_not(self, call: ToolCall) -> tuple[Outcome, str] | None:
        described = next((tool for tool in self.tools if tool.name == call.name), None)
        if described is None:
            names = ", ".join(self._functions) or "none"
            return "unknown", f"there is no tool {call.name!r}. The tools are: {names}."
        problems = check(described.parameters, dict(call.arguments))
        if problems:
            return "invalid", "the arguments are wrong. " + "; ".join(problems) + "."
        denied = why_denied(_copy(call), self.policy, self.approve)
        return None if denied is None else ("denied", denied)

    def _timed(self, call: ToolCall, cancelled: Callable[[], bool]) -> ToolResult:
        """What came of the call, uncut; the thread in which it runs is left behind where it takes too long."""
        done: list[ToolResult] = []
        limit_s = by_name(self.timeout_s, call.name, TIMEOUT_S)
        left_behind = threading.Event()
        worker = threading.Thread(
            target=lambda: done.append(self._guarded(call, left_behind)), daemon=True, name=call.name
        )
        end = time.monotonic() + limit_s
        try:
            worker.start()
        except RuntimeError as error:  # too many were left behind
            return _failure(call, "failed", f"{call.name} could not be started: {error}.", error)
        try:
            while worker.is_alive() and not cancelled() and (left := end - time.monotonic()) > 0:
                worker.join(min(left, _POLL_S))
            finished = tuple(done)  # before a coroutine is told to end: that is no result
        finally:
            left_behind.set()
        if finished:
            return finished[0]
        if cancelled():
            return _failure(call, "cancelled", f"{call.name} was cancelled while it ran.")
        return _failure(call, "timeout", f"{call.name} did not finish within {limit_s:g} s.")

    def _guarded(self, call: ToolCall, left_behind: threading.Event) -> ToolResult:
        function = self._functions[call.name]
        try:
            if isinstance(function, SourceTool):
                content = function(call.arguments)
            else:
                value = function(**to_python(function, call.arguments))
                content = as_text(_awaited(value, left_behind) if inspect.isawaitable(value) else value)
            return ToolResult(call.name, content, call.id)
        except CallError as error:
            return _failure(call, "failed", str(error), error)
        except BaseException as error:  # a tool may raise anything, SystemExit too; the model reads what
            return _failure(call, "failed", f"{type(error).__name__}: {_words(error)}", error)

    def _cut(self, result: ToolResult) -> ToolResult:
        whole = result.content
        limit = self.max_result(whole) if callable(self.max_result) else self.max_result
        shown = whole[:limit]
        if not is_text(shown):
            shown = shown.encode("utf-8", "backslashreplace").decode()
        if len(whole) <= limit:
            return replace(result, content=shown)
        note = f"[cut: {len(whole) - limit} of {len(whole)} characters are left out]"
        return replace(result, content=f"{shown}\n{note}", whole=whole)


def _never() -> bool:
    return False


def _copy(call: ToolCall) -> ToolCall:
    return replace(call, arguments={name: _copied(value) for name, value in call.arguments.items()})


def _copied(value: Any) -> Any:
    """A JSON value that shares nothing with this one."""
    if isinstance(value, Mapping):
        return {name: _copied(member) for name, member in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _awaited(value: Awaitable[Any], left_behind: threading.Event) -> Any:
    """What comes of a coroutine, run here to its end; cancelled, once, when nobody waits for it any more."""
    import asyncio

    async def whole() -> Any:
        task = asyncio.ensure_future(value)
        while not (await asyncio.wait([task], timeout=_POLL_S))[0]:
            if left_behind.is_set():
                task.cancel()
                break
        return await task

    return asyncio.run(whole())


def _failure(call: ToolCall, outcome: Outcome, words: str, error: BaseException | None = None) -> ToolResult:
    return ToolResult(call.name, f"Error: {words}", call.id, error=True, outcome=outcome, exception=error)


def _words(error: BaseException) -> str:
    """What an exception says; its own `__str__` may fail."""
    try:
        return str(error)
    except Exception:
        return "it does not say why"


def as_text(value: Any) -> str:
    """A result as a model reads it: text as it is, None as "done", everything else as JSON where it has that form."""
    if isinstance(value, str):
        return value
    if value is None:
        return "done"
    try:
        return json.dumps(value, ensure_ascii=False, default=_plain)
    except (TypeError, ValueError, RecursionError):
        return str(value)


def _plain(value: Any) -> Any:
    """What `json` cannot write: a dataclass with all its fields, what annotations.py knows, a set; else its text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    plain = as_json(value)
    return str(value) if plain is value else plain
