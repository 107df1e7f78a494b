"""Tool calls on a laptop's CPU: `load` a model with tools, `complete` a request, read `answer.calls`.

Importing this module loads nothing but itself; each public name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toolace_edge.agent import Agent
    from toolace_edge.engines.base import open_engine
    from toolace_edge.errors import (
        BudgetError,
        Cancelled,
        DataError,
        EngineError,
        InputError,
        MissingDependency,
        ModelError,
        SchemaError,
        ToolaceEdgeError,
        ToolError,
    )
    from toolace_edge.messages import Answer, Message, Retrieval, Round, Run, RunStep, Tool, ToolCall, ToolResult, Usage
    from toolace_edge.registry import load
    from toolace_edge.session import Session
    from toolace_edge.tools import load_tools, tool

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "Answer",
    "BudgetError",
    "Cancelled",
    "DataError",
    "EngineError",
    "InputError",
    "Message",
    "MissingDependency",
    "ModelError",
    "Retrieval",
    "Round",
    "Run",
    "RunStep",
    "SchemaError",
    "Session",
    "Tool",
    "ToolCall",
    "ToolError",
    "ToolResult",
    "ToolaceEdgeError",
    "Usage",
    "load",
    "load_tools",
    "open_engine",
    "tool",
]

# Where each name lives; a name that is not here is an error class.
_PLAIN = ("Answer", "Message", "Retrieval", "Round", "Run", "RunStep", "Tool", "ToolCall", "ToolResult", "Usage")
_HOME = dict.fromkeys(_PLAIN, "messages") | {"Agent": "agent"}
_HOME |= {"load_tools": "tools", "tool": "tools", "open_engine": "engines"}
_HOME |= {"Session": "session", "load": "registry"}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOME.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
