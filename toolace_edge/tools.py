"""Where tools come from: a JSON file or parsed JSON in any usual form, Python functions, or all of them in one list.

A function can be called; a definition is only told to the model, until `tool(function, definition=...)` joins the two.
Accepted forms, alone, in a list, or in a list under `tools`, `functions` or `function` (as BFCL's lines have it):

    {"type": "function", "function": {"name", "description", "parameters"}}     OpenAI
    {"name", "description", "parameters"}                                       a bare function, BFCL, OpenAI responses
    {"name", "description", "input_schema"}                                     Anthropic
    {"name", "description", "inputSchema"}                                      MCP

Errors name the place: `tools[2].function.parameters.properties.unit.enum: is empty, so no value fits`.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import Any, TypeVar, cast, overload

from toolace_edge.errors import SchemaError, ToolError
from toolace_edge.functions import check_takes, from_function
from toolace_edge.json_file import read_json
from toolace_edge.messages import Tool, is_text
from toolace_edge.schema import normalise_parameters

__all__ = ["check_tools", "entries_of", "from_function", "load_tools", "tool", "tools_of"]

MAX_FILE_BYTES = 8 * 2**20
MAX_TOOLS = 1000
MAX_DESCRIPTION = 8192  # characters

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SCHEMA_KEYS = ("parameters", "input_schema", "inputSchema")
_FORM = 'A tool is {"name": ..., "description": ..., "parameters": {...}}.'
_LIST_KEYS = ("tools", "functions", "function")
# What a definition may say that has nothing to do with its calls.
_NOTES = frozenset((
    "type", "strict", "title", "annotations", "outputSchema", "response", "returns", "cache_control", "_meta",
    "icons", "execution", "examples", "input_examples",
))  # fmt: skip

F = TypeVar("F", bound=Callable[..., Any])
Definition = Mapping[str, Any] | Tool
# The path of a JSON file, a definition, a function, or a list of such.
Source = str | os.PathLike[str] | Definition | Callable[..., Any] | Iterable[Any]


@overload
def tool(function: F, *, definition: Definition | None = None) -> F: ...
@overload
def tool(*, definition: Definition) -> Callable[[F], F]: ...
def tool(function: F | None = None, *, definition: Definition | None = None) -> F | Callable[[F], F]:
    """Make a function a tool. Not needed for a list of tools; it checks early, and marks the tools of a Python file.

    `function.tool` describes it, the function itself stays as it is. With a `definition`, in any of the forms above,
    that is what the model reads, and a new function is given back, which takes the same arguments; they come as its
    annotations name them, or as plain JSON values without. ToolError where the two do not fit.
    """
    if function is None:
        return partial(tool, definition=definition)
    if definition is None:
        function.tool = from_function(function)  # type: ignore[attr-defined]
        return function
    described = _read_tool(definition, "definition")
    check_takes(function, described)

    @wraps(function)
    def call(**arguments: Any) -> Any:
        return function(**arguments)

    call.tool = described  # type: ignore[attr-defined]
    return cast(F, call)


def load_tools(source: Source) -> tuple[Tool, ...]:
    """The tools of a file (a path), or of parsed JSON, `Tool`s and Python functions. Raises the first ToolError.

    A file without any tool is a mistake and refused; an empty list is a run that can only answer without a call.
    """
    tools, problems = check_tools(source)
    if problems:
        raise problems[0]
    return tools


def tools_of(source: Source) -> tuple[Tool, ...]:
    """`load_tools`, but `Tool`s, where there is nothing else, are taken as they are: normalised already, or as made."""
    entries = entries_of(source)
    return tuple(entries) if all(isinstance(one, Tool) for one in entries) else load_tools(entries)


def check_tools(source: Source) -> tuple[tuple[Tool, ...], tuple[ToolError, ...]]:
    """The tools that can be used, and what is wrong with each other one."""
    try:
        entries = _read_file(source) if isinstance(source, str | os.PathLike) else entries_of(source)
    except ToolError as error:
        return (), (error,)
    return _check(entries, "tools")


def entries_of(source: Source) -> list[Any]:
    """One list of functions, definitions and `Tool`s: files are read, and what stands alone is a list. ToolError."""
    if isinstance(source, str | os.PathLike):
        return list(load_tools(source))
    entries: list[Any] = []
    for one in _listed(source, "tools"):
        if not isinstance(one, str | os.PathLike):
            entries.append(one)
            continue
        tools, problems = _check(_read_file(one), f"{one}: tools")
        if problems:
            raise problems[0]
        entries += tools
    return entries


def _read_file(path: str | os.PathLike[str]) -> Sequence[Any]:
    if isinstance(path, str) and path.lstrip()[:1] in ("[", "{"):
        raise ToolError("tools: a text is the path of a file, and this is JSON.", hint="json.loads makes tools of it.")
    entries = _listed(read_json(Path(path), MAX_FILE_BYTES, "a JSON file of tools"), str(path))
    if not entries:
        raise ToolError(f"{path} holds no tools.", hint="A tools file is a JSON list of tools.")
    return entries


def _check(entries: Sequence[Any], where: str) -> tuple[tuple[Tool, ...], tuple[ToolError, ...]]:
    tools: dict[str, Tool] = {}
    problems = []
    for i, entry in enumerate(entries):
        read = _attempt(entry, f"{where}[{i}]", tools)
        if isinstance(read, ToolError):
            problems.append(read)
        else:
            tools[read.name] = read
    return tuple(tools.values()), tuple(problems)


def _attempt(entry: Any, path: str, known: Mapping[str, Tool]) -> Tool | ToolError:
    try:
        found = _read_tool(entry, path)
    except ToolError as error:
        return error
    if found.name in known:
        return SchemaError(f"{path}.name", f"{found.name!r} is the name of an earlier tool", hint="Rename one of them.")
    return found


def _listed(data: Any, where: str) -> Sequence[Any]:
    if isinstance(data, Mapping):
        lists = [data[key] for key in _LIST_KEYS if isinstance(data.get(key), list)]
        data = lists[0] if lists else [data]
    elif isinstance(data, Tool) or callable(data):
        data = [data]
    elif not isinstance(data, Iterable) or isinstance(data, str | bytes):
        raise ToolError(
            f"{where}: a list of tools is wanted, not {type(data).__name__}.",
            hint=_FORM,
        )
    entries = list(data)
    if len(entries) > MAX_TOOLS:
        raise ToolError(
            f"{where}: {len(entries)} tools; {MAX_TOOLS} are the limit.", hint="Give the tools that matter."
        )
    return entries


def _read_tool(entry: Any, path: str) -> Tool:
    if isinstance(entry, Tool):
        entry = {"name": entry.name, "description": entry.description, "parameters": entry.parameters}
    elif callable(entry):
        return from_function(entry)
    if not isinstance(entry, Mapping):
        raise SchemaError(path, f"a tool is a function or an object, not {type(entry).__name__}", hint=_FORM)
    if isinstance(entry.get("function"), Mapping):
        entry, path = entry["function"], f"{path}.function"
    elif entry.get("type", "function") not in ("function", "custom", "tool"):
        raise SchemaError(f"{path}.type", f"{entry['type']!r} cannot be used; only functions can")
    _refuse_unknown(entry, path)
    return Tool(_read_name(entry, path), _read_description(entry, path), _read_parameters(entry, path))


def _refuse_unknown(entry: Mapping[str, Any], path: str) -> None:
    known = ("name", "description", "required", *_SCHEMA_KEYS)
    for key in entry:
        if key not in known and key not in _NOTES and not str(key).startswith("x-"):
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"Did you mean `{near[0]}`?" if near else "A tool has name, description and parameters."
            raise SchemaError(f"{path}.{key}", "is not a part of a tool", hint=hint)


def _read_name(entry: Mapping[str, Any], path: str) -> str:
    name = entry.get("name")
    if name is None:
        raise SchemaError(path, "has no name", hint=_FORM)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SchemaError(
            f"{path}.name",
            f"{name!r:.80} is not a name",
            hint="1 to 64 letters, digits and the characters _ . - make one.",
        )
    return name


def _read_description(entry: Mapping[str, Any], path: str) -> str:
    text = entry.get("description") or ""
    if not isinstance(text, str):
        raise SchemaError(f"{path}.description", "must be text")
    if not is_text(text):
        raise SchemaError(f"{path}.description", "holds half of a surrogate pair, which is not text")
    if len(text) > MAX_DESCRIPTION:
        raise SchemaError(f"{path}.description", f"is {len(text)} characters long; {MAX_DESCRIPTION} are the limit")
    return text


def _read_parameters(entry: Mapping[str, Any], path: str) -> dict[str, Any]:
    given = [key for key in _SCHEMA_KEYS if entry.get(key) is not None]
    if len(given) > 1:
        raise SchemaError(f"{path}.{given[1]}", f"stands beside {given[0]}; give one of them")
    key = given[0] if given else "parameters"
    schema = entry.get(key)
    if entry.get("required") is not None:  # misplaced, yet plain enough to be meant
        if isinstance(schema, Mapping) and "required" in schema:
            raise SchemaError(f"{path}.required", f"belongs into {key}, which has one")
        if schema is None or isinstance(schema, Mapping):
            schema = {**(schema or {}), "required": entry["required"]}
    return normalise_parameters(schema, f"{path}.{key}")
