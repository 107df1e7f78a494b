"""`toolace-edge tools`: what a tools file says, as the model reads it, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolace_edge.cli import sources
from toolace_edge.cli.options import source_options
from toolace_edge.cli.output import echo, to_json
from toolace_edge.errors import SchemaError, ToolError

if TYPE_CHECKING:
    from toolace_edge.messages import Tool


@click.group(short_help="Look at a tools file, or check it.")
def tools() -> None:
    """Look at a file of tools, or find everything that is wrong with it.

    A file holds the OpenAI `tools` list, a bare list of functions, or BFCL's dialect.

    \b
    Example:
      toolace-edge tools show my_tools.json
      toolace-edge tools check my_tools.json
    """


_file = click.argument("file", required=False, type=click.Path(path_type=Path))


@tools.command()
@_file
@source_options
@click.option("--json", "as_json", is_flag=True, help="Print the normalised JSON Schemas instead.")
def show(file: Path | None, as_json: bool, **options: Any) -> None:
    """Print the tools of FILE, or of other sources, as the bundled model reads them.

    \b
    Example:
      toolace-edge tools show my_tools.json
      toolace-edge tools show my_tools.json --json
    """
    from toolace_edge.formats.compact import render_tool
    from toolace_edge.tools import load_tools

    _need_something(file, options)
    with sources.opened(options) as opened:
        loaded = load_tools([*(load_tools(file) if file else ()), *opened.functions])
    if as_json:
        rows = [{"name": one.name, "description": one.description, "parameters": one.parameters} for one in loaded]
        echo(to_json(rows, indent=2))
    else:
        echo("\n\n".join(map(render_tool, loaded)))


@tools.command()
@_file
@source_options
@click.pass_context
def check(ctx: click.Context, /, file: Path | None, **options: Any) -> None:
    """Find everything in FILE, or in other sources, that cannot be used.

    Each problem comes with its place. Exits with 2 where there is one.

    \b
    Example:
      toolace-edge tools check my_tools.json
      toolace-edge tools check --openapi petstore.yaml
    """
    from toolace_edge.tools import check_tools, load_tools

    _need_something(file, options)
    good, found = check_tools(file) if file else ((), ())
    if found and not isinstance(found[0], SchemaError):  # the file as a whole
        raise found[0]
    with sources.opened(options) as opened:
        good = load_tools([*good, *opened.functions])
        changed = [
            SchemaError(name, f"is not as it was accepted; it now says: {text!r}", hint="`run --accept-changes`")
            for name, text in opened.changed.items()
        ]
    unusable = [*found, *opened.problems, *changed]
    problems = [*unusable, *_problems_of_grammars(good)]
    for problem in problems:
        echo(str(problem), err=True)
        if problem.hint != ToolError.hint:  # which sends people to this very command
            echo(f"  Hint: {problem.hint}", err=True)
    name = ", ".join(str(one) for one in (file, *(x for key in sources.NAMED for x in options[key])) if one)
    if problems:
        echo(f"{name}: {len(problems)} of {len(good) + len(unusable)} tools cannot be used.", err=True)
        ctx.exit(2)
    echo(f"{name}: {len(good)} tool{'s' * (len(good) != 1)}, nothing to complain about.")


def _need_something(file: Path | None, options: Mapping[str, Any]) -> None:
    if file is None and not sources.are_given(options):
        raise click.UsageError("Give a FILE, or one of --functions, --plugin, --openapi and --mcp.")


def _problems_of_grammars(tools: Sequence[Tool]) -> Iterator[SchemaError]:
    """What reads well and still no grammar can hold, such as a pattern that is too large."""
    from toolace_edge.grammar import check_tool

    for tool in tools:
        try:
            check_tool(tool, path=f"{tool.name}.parameters")
        except SchemaError as error:
            yield error
