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
    from toolace_edge.events import (
        ArgumentFragment,
        CallBegun,
        CallFinished,
        Event,
        Failed,
        Finished,
        Prefill,
        ResultReady,
        RoundFinished,
        TextFragment,
        Token,
    )
    from toolace_edge.messages import Answer, Message, Retrieval, Round, Run, RunStep, Tool, ToolCall, ToolResult, Usage
    from toolace_edge.registry import Model, load, open_model
    from toolace_edge.sampling import Sampling
    from toolace_edge.session import Session
    from toolace_edge.tools import load_tools, tool

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "Answer",
    "ArgumentFragment",
    "BudgetError",
    "CallBegun",
    "CallFinished",
    "Cancelled",
    "DataError",
    "EngineError",
    "Event",
    "Failed",
    "Finished",
    "InputError",
    "Message",
    "MissingDependency",
    "Model",
    "ModelError",
    "Prefill",
    "ResultReady",
    "Retrieval",
    "Round",
    "RoundFinished",
    "Run",
    "RunStep",
    "Sampling",
    "SchemaError",
    "Session",
    "TextFragment",
    "Token",
    "Tool",
    "ToolCall",
    "ToolError",
    "ToolResult",
    "ToolaceEdgeError",
    "Usage",
    "load",
    "load_tools",
    "open_engine",
    "open_model",
    "tool",
]

# Where each name lives; a name that is not here is an error class.
_PLAIN = ("Answer", "Message", "Retrieval", "Round", "Run", "RunStep", "Tool", "ToolCall", "ToolResult", "Usage")
_EVENTS = (
    *("ArgumentFragment", "CallBegun", "CallFinished", "Event", "Failed", "Finished", "Prefill", "ResultReady"),
    *("RoundFinished", "TextFragment", "Token"),
)
_HOME = dict.fromkeys(_PLAIN, "messages") | dict.fromkeys(_EVENTS, "events")
_HOME |= dict.fromkeys(("Model", "load", "open_model"), "registry")
_HOME |= {
    "Agent": "agent",
    "Sampling": "sampling",
    "Session": "session",
    "load_tools": "tools",
    "tool": "tools",
    "open_engine": "engines",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOME.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
