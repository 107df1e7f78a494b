"""The functions of a Python file as tools: those decorated with `@tool`, or else every public one with annotations.

The file is run, as `python FILE` would run it, because the user named it. What it prints while it loads goes to
standard error. Errors say the file and the line.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from toolace_edge.errors import ToolError
from toolace_edge.functions import from_function
from toolace_edge.messages import Tool

Function = Callable[..., Any]


def load_functions(path: Path) -> tuple[Function, ...]:
    """The tools of a file, in its order. Raises ToolError."""
    return functions_of(_run(path), str(path))


def functions_of(module: ModuleType, name: str) -> tuple[Function, ...]:
    """The tools that a module defines itself; `name` is for errors. Raises ToolError."""
    own = [one for one in vars(module).values() if getattr(one, "__module__", None) == module.__name__]
    found = [one for one in own if callable(one) and isinstance(getattr(one, "tool", None), Tool)]
    if not found:
        found = [one for one in own if _is_public(one)]
    if not found:
        raise ToolError(f"{name} defines no tools.", hint="Decorate functions with @tool, or annotate their arguments.")
    for one in found:
        try:
            from_function(one)
        except ToolError as error:
            raise ToolError(f"{name}, line {_line_of(one)}: {error}", hint=error.hint) from None
    return tuple(dict.fromkeys(found))


def _is_public(value: object) -> bool:
    return inspect.isfunction(value) and not value.__name__.startswith("_") and bool(value.__annotations__)


def _line_of(function: Function) -> int:
    return int(getattr(getattr(inspect.unwrap(function), "__code__", None), "co_firstlineno", 0))


def _run(path: Path) -> ModuleType:
    if not path.is_file():
        raise ToolError(f"{path} is not a file.", hint="Give the path of a Python file.")
    path = path.resolve()
    name = f"toolace_edge_functions_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ToolError(f"{path} is not a Python file.", hint="Its name must end in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and annotations look themselves up there
    sys.path.append(str(path.parent))  # last: a file beside it never stands for a module of Python's
    writes_nothing, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # no __pycache__ beside a user's file
    try:
        with contextlib.redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the file may raise anything, SystemExit too
        del sys.modules[name]
        raise _as_tool_error(error, path) from error
    finally:
        sys.path.remove(str(path.parent))
        sys.dont_write_bytecode = writes_nothing
    return module


def _as_tool_error(error: BaseException, path: Path) -> ToolError:
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return ToolError(f"{path}, line {error.lineno}: {error.msg}.", hint="Correct the file there.")
    frames = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    place = f"{path}, line {frames[-1]}" if frames else str(path)
    if isinstance(error, ToolError):
        return ToolError(f"{place}: {error}", hint=error.hint)
    if isinstance(error, UnicodeDecodeError):
        return ToolError(f"{path} is not UTF-8 at byte {error.start}.", hint="Save it as UTF-8.")
    said = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300].removesuffix(": ")
    return ToolError(f"{place}: {said}.", hint="Correct the file there.")
