"""Where tools come from besides a JSON file: Python files, installed packages, OpenAPI documents, MCP servers.

with open_sources(openapi=["petstore.yaml"], mcp=["mcp.json"]) as sources, Agent(tools=sources.functions) as agent:
    agent.run("is the red cat still for sale?")
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolace_edge.errors import InputError, ToolError
from toolace_edge.functions import from_function
from toolace_edge.sources.base import CALL_TIMEOUT_S

if TYPE_CHECKING:
    from toolace_edge.sources.mcp import McpSource

__all__ = ["Sources", "open_sources"]

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Sources:
    """`functions`: what can be called, each a tool to `load_tools` and to the Executor; `problems`: why others cannot.

    `mcp` are the running servers of each configuration; `changed` are their tools whose definition is not the accepted
    one, with the description that they have now.
    """

    functions: tuple[Callable[..., Any], ...]
    problems: tuple[ToolError, ...] = ()
    mcp: tuple[McpSource, ...] = ()

    @property
    def changed(self) -> dict[str, str]:
        return {name: text for source in self.mcp for name, text in source.changed_descriptions().items()}


@contextmanager
def open_sources(
    *,
    functions: Sequence[PathLike] = (),
    plugins: Sequence[str] = (),
    openapi: Sequence[PathLike] = (),
    mcp: Sequence[PathLike] = (),
    base_url: str | None = None,
    only: Sequence[str] = (),
    accept_changes: bool = False,
    timeout_s: float = CALL_TIMEOUT_S,
) -> Iterator[Sources]:
    """Everything from these files, in this order; MCP servers run until the block ends. Raises ToolaceEdgeError.

    `base_url` is for one document. `only` picks among the tools of documents and servers; a pattern that fits nothing
    is a mistake. `accept_changes` accepts what MCP servers changed since they were used last. A call of a document or a
    server ends after `timeout_s`; an Agent's own limit, which counts too, is a little longer by default.
    """
    if base_url is not None and len(openapi) != 1:
        raise InputError("A base URL is for one OpenAPI document.", hint="Give one --openapi with it.")
    found: list[tuple[str, Sequence[Callable[..., Any]]]] = []
    problems: list[ToolError] = []
    for file in functions:
        from toolace_edge.sources.python_file import load_functions

        found.append((str(file), load_functions(Path(file))))
    for name in plugins:
        from toolace_edge.sources.entry_points import load_plugin

        found.append((f"the plugin {name}", load_plugin(name)))
    if openapi:
        found += _documents([Path(file) for file in openapi], base_url, only, timeout_s, problems)
    with ExitStack() as stack:
        sources = []
        for file in mcp:
            source = stack.enter_context(_servers(Path(file), only, timeout_s))
            if accept_changes:
                source.accept_changes()
            problems += source.problems
            found.append((str(file), source.functions))
            sources.append(source)
        every = _distinct(found)
        if only and not every and not problems and not any(source.changed for source in sources):
            raise InputError(f"No tool fits --only {' '.join(only)}.", hint="`tools check` lists their names.")
        yield Sources(every, tuple(problems), tuple(sources))


def _documents(
    files: Sequence[Path], base_url: str | None, only: Sequence[str], timeout_s: float, problems: list[ToolError]
) -> list[tuple[str, Sequence[Callable[..., Any]]]]:
    from toolace_edge.sources.openapi import load_openapi

    found: list[tuple[str, Sequence[Callable[..., Any]]]] = []
    hosts: dict[str, tuple[Path, frozenset[str]]] = {}
    for file in files:
        loaded = load_openapi(file, base_url=base_url, only=only, timeout_s=timeout_s)
        for variable, where in loaded.credential_hosts.items():
            other, known = hosts.setdefault(variable, (file, where))
            if known != where:
                raise InputError(
                    f"{other} and {file} would send {variable} to different hosts.", hint="Use them one at a time."
                )
        problems += loaded.problems
        found.append((str(file), loaded.functions))
    return found


def _servers(file: Path, only: Sequence[str], timeout_s: float) -> McpSource:
    from toolace_edge.paths import data_dir
    from toolace_edge.sources.mcp import McpSource
    from toolace_edge.sources.mcp_config import read_servers
    from toolace_edge.sources.pins import Pins

    pins = Pins(data_dir() / "mcp_pins.json")
    return McpSource(read_servers(file), pins=pins, only=only, call_timeout_s=timeout_s)


def _distinct(found: Sequence[tuple[str, Sequence[Callable[..., Any]]]]) -> tuple[Callable[..., Any], ...]:
    """All of them; ToolError names both places of a name that comes twice."""
    places: dict[str, str] = {}
    every = []
    for place, functions in found:
        for one in functions:
            name = from_function(one).name
            if name in places:
                raise ToolError(
                    f"{places[name]} and {place} both have a tool {name}.", hint="Rename one, or use --only."
                )
            places[name] = place
            every.append(one)
    return tuple(every)
