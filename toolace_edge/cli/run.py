"""`toolace-edge run`: one request to tool calls."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolace_edge.cli import App, pass_app, sources
from toolace_edge.cli.options import (
    are_policies_given,
    check_somebody_can_be_asked,
    model_options,
    policies_from,
    policy_options,
    prompt_cache_option,
    retrieval_options,
    sampling_from,
    sampling_options,
    source_options,
)
from toolace_edge.cli.output import answer_json, echo, print_answer, print_cut, print_retrieval, print_trace, to_json
from toolace_edge.errors import BudgetError, InputError
from toolace_edge.messages import is_text

if TYPE_CHECKING:
    from toolace_edge.formats.base import ToolChoice
    from toolace_edge.messages import Tool

_STDIN_BYTES = 16 * 1024 * 1024
_SAY_WHAT = 'Say what you want: toolace-edge run "set a timer for 10 minutes".'


@click.command(short_help="Turn a request into tool calls.")
@click.argument("request", required=False)
@click.option("--tools", type=click.Path(path_type=Path), metavar="FILE", help="JSON tools; default: a built-in set.")
@source_options
@click.option("--skip-unsupported", is_flag=True, help="Leave out tools that cannot be held.")
@click.option("--accept-changes", is_flag=True, help="Trust what MCP tools say now.")
@model_options
@retrieval_options
@prompt_cache_option
@click.option("--tool-choice", default="auto", metavar="CHOICE", help="auto, none, required, or a tool's name.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: answer, rounds, cost.")
@click.option("--trace", is_flag=True, help="Show every round token by token on stderr.")
@click.option("--execute", is_flag=True, help="Run the calls and print the results.")
@policy_options
@click.option("--max-steps", type=click.IntRange(1, 100), metavar="N", help="With --execute: answers. [default: 1]")
@sampling_options
@pass_app
def run(
    app: App,
    /,
    request: str | None,
    tools: Path | None,
    skip_unsupported: bool,
    accept_changes: bool,
    model: str | None,
    format_name: str | None,
    rounds: int,
    threads: int | None,
    top_tools: int | None,
    prompt_cache: Path | None,
    tool_choice: str,
    as_json: bool,
    trace: bool,
    execute: bool,
    max_steps: int | None,
    max_tokens: int,
    **options: Any,
) -> None:
    """Turn REQUEST (or standard input) into tool calls, or into none.

    \b
    Example:
      toolace-edge run "set a timer for 10 minutes"
      echo "weather in Oslo?" | toolace-edge run --tools my_tools.json --json
    """
    from toolace_edge.cli.acting import act

    from_sources = {name: options.pop(name) for name in sources.NAMES}
    _check_execute(execute, tools, max_steps, are_policies_given(options))
    words = _request(request)
    with sources.opened_tools(
        tools, from_sources, skip_unsupported=skip_unsupported, accept_changes=accept_changes
    ) as (functions, toolset):
        names = [one.name for one in toolset]
        rules = policies_from(options, names, otherwise="ask" if sources.are_given(from_sources) else "allow")
        if execute:
            at_terminal = request not in (None, "-") and sys.stdin is not None and sys.stdin.isatty()
            check_somebody_can_be_asked(rules, names, terminal=at_terminal)
        choice, chosen_sampling = _choice(tool_choice, toolset), sampling_from(options)
        with app.open_model(model, format_name=format_name, threads=threads) as opened:
            settings = {
                "rounds": rounds, "tool_choice": choice, "sampling": chosen_sampling, "max_new_tokens": max_tokens,
                "top_k": top_tools, "prompt_cache": prompt_cache,
            }  # fmt: skip
            if execute:
                steps = max_steps or 1
                well = act(opened, functions, words, settings, rules, max_steps=steps, trace=trace, as_json=as_json)
                click.get_current_context().exit(0 if well else 1)
            answer = opened.session(toolset, **settings).complete(words)
    print_retrieval(answer)
    print_cut(answer)
    if trace:
        print_trace(answer)
    if as_json:
        echo(to_json(answer_json(answer)))
    else:
        print_answer(answer)


def _check_execute(execute: bool, tools: Path | None, max_steps: int | None, with_policies: bool) -> None:
    if not execute:
        if max_steps is not None:
            raise click.UsageError("--max-steps is for --execute: without it nothing runs, and there is one answer.")
        if with_policies:
            raise click.UsageError("--allow, --ask, --deny and --yes are for --execute: without it nothing runs.")
    elif tools:
        raise click.UsageError("--execute runs calls, and a file only describes tools: leave out --tools.")


def _choice(text: str, tools: Sequence[Tool]) -> ToolChoice:
    """A mode by its name; any other word is a tool's, which must be there."""
    from toolace_edge.formats.base import ToolChoice

    choice = ToolChoice.of(text)
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
