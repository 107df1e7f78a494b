"""What `run`, `chat` and `tools` do with --functions, --plugin, --openapi and --mcp: open, report, refuse, ask."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolace_edge.cli.output import echo, plain
from toolace_edge.errors import SchemaError, ToolError

if TYPE_CHECKING:
    from toolace_edge.messages import Tool, ToolCall
    from toolace_edge.sources import Sources

Functions = tuple[Callable[..., Any], ...]

NAMED = ("functions", "plugins", "openapi", "mcp")  # the flags of `source_options` that name a source
NAMES = (*NAMED, "base_url", "only")  # all of them


def are_given(options: Mapping[str, Any]) -> bool:
    """Whether the flags of `source_options` name a source."""
    return any(options[name] for name in NAMED)


@contextmanager
def opened(options: Mapping[str, Any], *, accept_changes: bool = False) -> Iterator[Sources]:
    """The sources that the flags name; MCP servers are ended with the block, on SIGTERM and SIGHUP too."""
    from toolace_edge.sources import open_sources

    if not are_given(options) and (options["base_url"] or options["only"]):
        raise click.UsageError("--base-url and --only say more about --openapi or --mcp: give one of these.")
    with _ended_by_signals(), open_sources(**options, accept_changes=accept_changes) as sources:
        yield sources


@contextmanager
def opened_tools(
    file: Path | None, options: Mapping[str, Any], *, skip_unsupported: bool, accept_changes: bool
) -> Iterator[tuple[Functions, tuple[Tool, ...]]]:
    """What may run, and everything that the model is told of: also what `file` describes; else the built-in tools."""
    from toolace_edge.builtin import BUILTIN_TOOLS
    from toolace_edge.tools import load_tools

    given = are_given(options)
    with opened(options, accept_changes=accept_changes) as sources:
        functions: Functions = () if file is not None or given else BUILTIN_TOOLS
        if given:
            functions = usable(sources, skip_unsupported=skip_unsupported)
        yield functions, load_tools([*(load_tools(file) if file is not None else ()), *functions])


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """What a terminal's window sends as it closes (SIGHUP) ends the program as SIGTERM does; nohup stays nohup."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    heard = [number for number in numbers if before[number] != signal.SIG_IGN]
    for number in heard:
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])


def usable(sources: Sources, *, skip_unsupported: bool) -> Functions:
    """What a run may use. ToolError for a changed definition, and for what is unsupported unless that is skipped."""
    if changed := sources.changed:
        listed = ", ".join(f"{name} ({text or 'no description'})" for name, text in list(changed.items())[:3])
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise ToolError(
            f"MCP tools are not as they were accepted, so nothing is run: {listed}{more}.",
            hint="If you trust what they say now, accept them with --accept-changes.",
        )
    kept, unwritable = split_by_grammar(sources.functions)
    problems = (*sources.problems, *unwritable)
    if problems and not skip_unsupported:
        raise ToolError(
            f"{len(problems)} of {len(kept) + len(problems)} tools cannot be used. The first: {problems[0]}",
            hint="--skip-unsupported leaves them out, --only picks others; `toolace-edge tools check` lists them all.",
        )
    for problem in problems:
        echo(f"Left out: {problem}", err=True)
    return kept


def split_by_grammar(functions: Functions) -> tuple[Functions, tuple[SchemaError, ...]]:
    """The functions that a grammar can hold, and the problems of the others."""
    from toolace_edge.functions import from_function
    from toolace_edge.grammar import check_tool

    kept, problems = [], []
    for one in functions:
        described = from_function(one)
        try:
            check_tool(described, path=f"{described.name}.parameters")
            kept.append(one)
        except SchemaError as error:
            problems.append(error)
    return tuple(kept), tuple(problems)


def ask(call: ToolCall) -> bool:
    """Show the exact call and ask the person at the terminal. The end of input is a no."""
    click.echo(plain(f"Run {call}? [y/N]: "), err=True, nl=False)
    try:
        return input().strip().lower() in ("y", "yes")
    except EOFError:
        click.echo(err=True)
        return False
