"""Every error that this package raises on purpose, in one tree.

    ToolaceEdgeError                exit 1, HTTP 500
    ├── InputError                  exit 2, HTTP 400   what the caller gave cannot be used
    │   ├── ToolError                                  a tool definition, a tools file
    │   │   └── SchemaError                            a JSON Schema, with the path of the keyword
    │   ├── DataError                                  a data file, with its line number
    │   └── BudgetError                                the request or its answer does not fit; names the numbers
    ├── ModelError                  exit 1, HTTP 500   a model file is missing, damaged or of another kind
    ├── FormatError                 exit 1, HTTP 500   an answer is not written in its model's format
    ├── EngineError                 exit 1, HTTP 500   the native runtime refused or failed
    │   └── MissingDependency       exit 1, HTTP 501   an optional package is not installed; names the extra
    ├── CallError                   exit 1, HTTP 502   a tool's server, not its caller, kept a call from its result
    └── Cancelled                   exit 130, HTTP 499 somebody asked for it

`str(error)` is one sentence: what happened, where, and why. `hint` says what to do about it; from Python 3.11 on, a
traceback shows it below the sentence.
"""

from __future__ import annotations

import sys
from typing import ClassVar


class ToolaceEdgeError(Exception):
    """Root of the tree. `hint`, when given, replaces the class's own."""

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    hint: str = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint
        if self.hint and sys.version_info >= (3, 11):
            self.add_note(f"Hint: {self.hint}")


class InputError(ToolaceEdgeError):
    """What the caller gave cannot be used as it is."""

    exit_code = 2
    http_status = 400


class ToolError(InputError):
    """A tool definition or a file of them is wrong."""

    hint = "See `toolace-edge tools check FILE` for every problem in the file."


class SchemaError(ToolError):
    """A JSON Schema holds something that cannot be guaranteed. `path` names the keyword: `tools[2].parameters.x`."""

    def __init__(self, path: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(f"{path}: {message}", hint=hint)
        self.path = path


class DataError(InputError):
    """A line of a data file is wrong. `line` counts from 1."""

    hint = "Correct the line or leave it out; `toolace-edge eval --help` says what a line is."

    def __init__(self, file: str, line: int, message: str, *, hint: str | None = None) -> None:
        super().__init__(f"{file}, line {line}: {message}", hint=hint)
        self.line = line


class BudgetError(InputError):
    """A prompt or an answer does not fit into the context or the token budget."""

    hint = "Give fewer tools or a shorter request, or raise the limit that the message names."


class ModelError(ToolaceEdgeError):
    """A model file is missing, damaged, or not what it claims to be."""

    hint = "`toolace-edge models` lists what is installed; `toolace-edge doctor` checks it."


class FormatError(ToolaceEdgeError):
    """An answer is not written in the format that its model is said to write."""

    hint = "Check that the model's format is the right one: compact, toolace or hermes."


class EngineError(ToolaceEdgeError):
    """The native runtime refused to load or to run."""

    hint = "`toolace-edge doctor` shows the versions and what this machine supports."


class MissingDependency(EngineError):
    """An optional package is not installed. `extra` is the name to install it by."""

    http_status = 501

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed, and this needs it.",
            hint=f"pip install 'toolace-edge[{extra}]'  (in a checkout: pip install '.[{extra}]')",
        )
        self.extra = extra


class CallError(ToolaceEdgeError):
    """A server gave no result, or an error, for a call; the message is what the model reads."""

    http_status = 502


class Cancelled(ToolaceEdgeError):
    """The work was cancelled before it was done."""

    exit_code = 130
    http_status = 499
