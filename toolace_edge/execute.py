"""Runs calls: checks the arguments, asks for approval, keeps the time, and puts whatever happens into words.

The only place that calls user code. A result is always text that a model can read; `error` marks what went wrong,
which is never hidden from either side. A call of a tool that is not there, one whose arguments do not obey the schema,
and one that was not approved do not run.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from toolace_edge.arguments import to_python
from toolace_edge.errors import CallError, ToolError
from toolace_edge.functions import from_function
from toolace_edge.messages import Tool, ToolCall, ToolResult
from toolace_edge.schema import check
from toolace_edge.sources.base import SourceTool

Approve = Callable[[ToolCall], bool]

TIMEOUT_S = 30.0
MAX_RESULT = 8000  # characters


class Executor:
    """Runs calls of Python functions and of what the sources give.

    `approve` is asked before each call and says no by returning False. `timeout_s` limits a call's wall clock: Python
    cannot stop a thread, so a function that overruns is left behind in a daemon thread while the result says so.
    `max_result` limits a result's characters; the rest is cut, and said to be cut.
    """

    def __init__(
        self,
        functions: Iterable[Callable[..., Any]],
        *,
        approve: Approve | None = None,
        timeout_s: float = TIMEOUT_S,
        max_result: int = MAX_RESULT,
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
        self.timeout_s = timeout_s
        self.max_result = max_result

    def run_all(self, calls: Sequence[ToolCall]) -> tuple[ToolResult, ...]:
        """One after the other, in order: a later call may lean on what an earlier one did."""
        return tuple(self.run(call) for call in calls)

    def run(self, call: ToolCall) -> ToolResult:
        """Never raises for what a call or a function does; KeyboardInterrupt passes."""
        call = self._without_nulls(call)
        problem = self._why_not(call)
        if problem is not None:
            return ToolResult(call.name, problem, call.id, error=True)
        content, failed = self._timed(call)
        return ToolResult(call.name, self._cut(content), call.id, error=failed)

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

    def _why_not(self, call: ToolCall) -> str | None:
        described = next((tool for tool in self.tools if tool.name == call.name), None)
        if described is None:
            names = ", ".join(self._functions) or "none"
            return f"Error: there is no tool {call.name!r}. The tools are: {names}."
        problems = check(described.parameters, dict(call.arguments))
        if problems:
            return "Error: the arguments are wrong. " + "; ".join(problems) + "."
        if self.approve is not None and not self.approve(call):
            return "Error: the user did not allow this call."
        return None

    def _timed(self, call: ToolCall) -> tuple[str, bool]:
        """What the function returned, as text, and whether it failed."""
        outcome: list[tuple[str, bool]] = []
        worker = threading.Thread(target=lambda: outcome.append(self._guarded(call)), daemon=True, name=call.name)
        worker.start()
        worker.join(self.timeout_s)
        return outcome[0] if outcome else (f"Error: {call.name} did not finish within {self.timeout_s:g} s.", True)

    def _guarded(self, call: ToolCall) -> tuple[str, bool]:
        function = self._functions[call.name]
        try:
            if isinstance(function, SourceTool):
                return function(call.arguments), False
            return as_text(function(**to_python(function, call.arguments))), False
        except CallError as error:
            return f"Error: {error}", True
        except BaseException as error:  # a tool may raise anything, SystemExit too; the model reads what
            return f"Error: {type(error).__name__}: {error}", True

    def _cut(self, content: str) -> str:
        if len(content) <= self.max_result:
            return content
        return f"{content[: self.max_result]}\n[cut: {len(content)} characters, {self.max_result} are the limit]"


def as_text(value: Any) -> str:
    """A result as a model reads it: text as it is, None as "done", everything else as JSON where it has that form."""
    if isinstance(value, str):
        return value
    if value is None:
        return "done"
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        return str(value)
