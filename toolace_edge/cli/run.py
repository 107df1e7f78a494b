"""`toolace-edge run`: one request to tool calls."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolace_edge.cli import App, pass_app
from toolace_edge.cli.options import model_options, sampling_from, sampling_options
from toolace_edge.cli.output import answer_json, echo, print_answer, print_trace, to_json
from toolace_edge.errors import BudgetError, InputError
from toolace_edge.messages import is_text

if TYPE_CHECKING:
    from toolace_edge.formats.base import ToolChoice
    from toolace_edge.messages import Answer, Tool

_STDIN_BYTES = 16 * 1024 * 1024
_SAY_WHAT = 'Say what you want: toolace-edge run "set a timer for 10 minutes".'


@click.command(short_help="Turn a request into tool calls.")
@click.argument("request", required=False)
@click.option("--tools", type=click.Path(path_type=Path), metavar="FILE", help="JSON tools; default: a built-in set.")
@model_options
@click.option("--tool-choice", default="auto", metavar="CHOICE", help="auto, none, required, or a tool's name.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: the answer, its rounds, what it cost.")
@click.option("--trace", is_flag=True, help="Show every round token by token on stderr.")
@click.option("--execute", is_flag=True, help="Run the calls and print the results (built-in tools only).")
@sampling_options
@pass_app
def run(
    app: App,
    /,
    request: str | None,
    tools: Path | None,
    model: str | None,
    format_name: str | None,
    rounds: int,
    threads: int | None,
    tool_choice: str,
    as_json: bool,
    trace: bool,
    execute: bool,
    max_tokens: int,
    **sampling: Any,
) -> None:
    """Turn REQUEST (or standard input) into tool calls, or into none where no tool fits.

    \b
    Example:
      toolace-edge run "set a timer for 10 minutes"
      echo "weather in Oslo?" | toolace-edge run --tools my_tools.json --json
    """
    from toolace_edge.builtin import BUILTIN_TOOLS
    from toolace_edge.tools import load_tools

    if execute and (tools or as_json):
        raise click.UsageError("--execute runs the built-in tools and prints for people: leave out --tools and --json.")
    words = _request(request)
    toolset = load_tools(tools if tools is not None else BUILTIN_TOOLS)
    choice, chosen_sampling = _choice(tool_choice, toolset), sampling_from(sampling)
    with app.open_model(model, format_name=format_name, threads=threads) as opened:
        session = opened.session(
            toolset,
            rounds=rounds,
            tool_choice=choice,
            sampling=chosen_sampling,
            max_new_tokens=max_tokens,
        )
        answer = session.complete(words)
    if trace:
        print_trace(answer)
    if as_json:
        echo(to_json(answer_json(answer)))
    else:
        print_answer(answer)
    if execute and not _execute(answer):
        click.get_current_context().exit(1)


def _choice(text: str, tools: Sequence[Tool]) -> ToolChoice:
    """A mode by its name; any other word is a tool's, which must be there."""
    from toolace_edge.formats.base import ToolChoice

    choice = ToolChoice.of(text if text in ("auto", "none", "required") else ("named", text))
    choice.select(tools)
    return choice


def _request(argument: str | None) -> str:
    """The argument; without one, or with `-`, standard input."""
    if argument is not None and argument != "-":
        words = argument
    elif sys.stdin is None or (argument is None and sys.stdin.isatty()):
        raise click.UsageError(_SAY_WHAT)
    else:
        words = _read_stdin()
    if not words.strip():
        raise InputError("The request is empty.", hint=_SAY_WHAT)
    if not is_text(words):  # an argument's undecodable bytes are surrogates to Python
        raise InputError("The request is not UTF-8.", hint="Type or pipe it in UTF-8.")
    return words


def _read_stdin() -> str:
    data = sys.stdin.buffer.read(_STDIN_BYTES + 1)
    if len(data) > _STDIN_BYTES:
        raise BudgetError(f"Standard input holds more than {_STDIN_BYTES:,} bytes; no model's context is that long.")
    try:
        return data.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InputError(f"Standard input is not UTF-8 at byte {error.start}.", hint="Pipe text in UTF-8.") from error


def _execute(answer: Answer) -> bool:
    """Run the calls, print what each gave, and say whether all went well."""
    from toolace_edge.builtin import BUILTIN_TOOLS
    from toolace_edge.execute import Executor

    results = Executor(BUILTIN_TOOLS).run_all(answer.calls)
    for result in results:
        echo(result.content, err=result.error)
    return not any(result.error for result in results)
