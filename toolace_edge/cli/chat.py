"""`toolace-edge chat`: requests one after the other, at a prompt or from a pipe, with tools that run."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
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
from toolace_edge.cli.output import echo, echo_styled
from toolace_edge.errors import BudgetError, Cancelled, InputError, ToolaceEdgeError
from toolace_edge.messages import Message, Tool, ToolCall, is_text

if TYPE_CHECKING:
    from toolace_edge.agent import Agent
    from toolace_edge.cli.chat_view import View
    from toolace_edge.cli.line_input import Terminal
    from toolace_edge.policy import Policy

_NO_MORE_ROOM = "/undo forgets the last turn, /reset all of them; a shorter request or fewer tools help too."
_PRESSES = 3  # of Ctrl-C during one answer: whoever presses so often wants to leave


@click.command(short_help="Talk at a prompt: calls run, results are read.")
@click.option("--tools", type=click.Path(path_type=Path), metavar="FILE", help="JSON tools; their calls do not run.")
@source_options
@click.option("--skip-unsupported", is_flag=True, help="Leave out tools that cannot be held.")
@click.option("--accept-changes", is_flag=True, help="Trust what MCP tools say now.")
@policy_options
@click.option("--max-steps", type=click.IntRange(1, 100), default=1, metavar="N", help="Answers. [default: 1]")
@model_options
@click.option("--system", default="", metavar="TEXT", help="What the model is told before everything else.")
@retrieval_options
@prompt_cache_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a turn.")
@click.option("--trace", is_flag=True, help="Show what each answer costs on stderr.")
@sampling_options
@pass_app
def chat(
    app: App,
    /,
    tools: Path | None,
    skip_unsupported: bool,
    accept_changes: bool,
    max_steps: int,
    model: str | None,
    format_name: str | None,
    rounds: int,
    threads: int | None,
    system: str,
    top_tools: int | None,
    prompt_cache: Path | None,
    as_json: bool,
    trace: bool,
    max_tokens: int,
    **options: Any,
) -> None:
    """Turn requests into calls, run them and show the results, until Ctrl-D.

    Without a terminal each line of standard input is a request.

    \b
    Example:
      toolace-edge chat --mcp mcp.json --allow 'time.*' --max-steps 5
    """
    from toolace_edge.agent import Agent

    if sys.stdin is None or sys.stdout is None:
        raise click.UsageError("Standard input or output is closed, so there is nobody to talk to.")
    from_sources = {name: options.pop(name) for name in sources.NAMES}
    runs = tools is None
    if not runs and are_policies_given(options):
        raise click.UsageError("--allow, --ask, --deny and --yes are for tools that run; --tools only describes.")
    with sources.opened_tools(
        tools, from_sources, skip_unsupported=skip_unsupported, accept_changes=accept_changes
    ) as (functions, toolset):
        names = [tool.name for tool in toolset]
        rules = policies_from(options, names, otherwise="ask" if sources.are_given(from_sources) else "allow")
        at_terminal = sys.stdin.isatty()
        if runs:
            check_somebody_can_be_asked(rules, names, terminal=at_terminal)
        settings: dict[str, Any] = {
            "rounds": rounds, "sampling": sampling_from(options), "max_new_tokens": max_tokens, "top_k": top_tools,
            "prompt_cache": prompt_cache,
        }  # fmt: skip
        with app.open_model(model, format_name=format_name, threads=threads) as opened:
            asking = _Asking()
            agent = Agent(
                opened, functions if runs else toolset,
                system=system, policy=rules, approve=asking, max_steps=max_steps, **settings,
            )  # fmt: skip
            view = _view(at_terminal=at_terminal, as_json=as_json, trace=trace)
            talk = Chat(agent, view, asking, rules if runs else None)
            if at_terminal:
                _greet(opened.name, toolset, runs)
            well = talk.at_terminal(as_json) if at_terminal else talk.from_pipe()
    click.get_current_context().exit(0 if well else 1)


class Chat:
    """One conversation. `rules` is None where nothing runs."""

    def __init__(self, agent: Agent, view: View, asking: _Asking, rules: Mapping[str, Policy] | None) -> None:
        from toolace_edge.cli.chat_commands import Commands

        self._agent = agent
        self._view = view
        self._asking = asking
        self._runs = rules is not None
        self._commands = Commands(agent, view, rules)

    def at_terminal(self, as_json: bool) -> bool:
        """Until Ctrl-D, /quit, or Ctrl-C twice, which exits with 130."""
        from toolace_edge.cli.line_input import Terminal
        from toolace_edge.paths import state_dir

        aside = as_json or not sys.stdout.isatty()
        terminal = Terminal(state_dir() / "chat_history", self._commands.complete, aside=aside)
        self._asking.begin(terminal, self._view, self._agent)
        interrupted = False
        while not self._commands.left:
            try:
                line = terminal.read()
            except KeyboardInterrupt:
                echo("", err=True)
                if interrupted:
                    click.get_current_context().exit(130)
                echo_styled(("Ctrl-C again, or Ctrl-D, leaves.", {"dim": True}), err=True)
                interrupted = True
                continue
            except InputError as error:
                self._view.error(error)
                continue
            interrupted = False
            if line is None:
                break
            with self._asking.cancelled_by_ctrl_c():
                self._turn(line)
        return True

    def from_pipe(self) -> bool:
        """Every line; whether all went well."""
        from toolace_edge.cli.line_input import piped_lines

        well = True
        for number, line in enumerate(piped_lines(sys.stdin.buffer), 1):
            if isinstance(line, InputError):
                self._view.error(line, where=f"line {number}: ")
                well = False
            else:
                well = self._turn(line, f"line {number}: ") and well
            if self._commands.left:
                break
        return well

    def _turn(self, line: str, where: str = "") -> bool:
        """One request or command, and whether it went well. What fails is a sentence, and the chat goes on."""
        text = line.strip()
        try:
            if not text:
                return True
            if text.startswith("/") and not text.startswith("//"):
                self._commands.run(text)
                self._view.gap()
                return True
            return self._request(text.removeprefix("/"))
        except BudgetError as error:
            self._view.error(error, where=where, hint=_NO_MORE_ROOM if len(self._agent.messages) > 1 else "")
        except ToolaceEdgeError as error:
            self._view.error(error, where=where)
        return False

    def _request(self, text: str) -> bool:
        from toolace_edge.cli.acting import WHY_STOPPED, run_apart

        if not is_text(text):
            raise InputError("The request is not UTF-8.", hint="Type or pipe it in UTF-8.")
        if not self._runs:
            return self._only_show(text)
        run = run_apart(self._agent, text, self._view.follow, self._view.aside)
        said = WHY_STOPPED.get(run.stop, "") if self._agent.max_steps > 1 else ""
        self._view.run(run, "Cancelled." if run.stop == "cancelled" else said)
        return run.stop != "cancelled" and not any(result.error for result in run.results)

    def _only_show(self, text: str) -> bool:
        """An answer whose calls somebody else runs; the conversation has them without results."""
        messages = self._agent.messages
        try:
            answer = self._agent.complete([*messages, Message("user", text)], on_event=self._view.follow)
        except Cancelled:
            self._view.cancelled()
            return False
        messages += [Message("user", text), Message("assistant", answer.text, answer.calls)]
        self._view.answer(answer)
        return True


class _Asking:
    """Who is asked about a call, and what Ctrl-C does while a request is worked on."""

    def __init__(self) -> None:
        self._always: set[str] = set()
        self._now = False
        self._presses = 0

    def begin(self, terminal: Terminal, view: View, agent: Agent) -> None:
        self._terminal, self._view, self._agent = terminal, view, agent
        self._stdout = sys.stdout

    def __call__(self, call: ToolCall) -> bool:
        """Policy's `approve`: shows the exact call and asks."""
        if call.name in self._always:
            return True
        self._now = True
        try:
            with redirect_stdout(self._stdout):  # tools have another
                self._view.asked(call)
                said = self._terminal.ask(f"Run it? [y: yes, a: yes, always {call.name}, Enter: no]").strip().lower()
        except KeyboardInterrupt:
            echo("", err=True)
            self._agent.cancel()
            return False
        finally:
            self._now = False
        if said in ("a", "always"):
            self._always.add(call.name)
        return said in ("y", "yes", "a", "always")

    @contextmanager
    def cancelled_by_ctrl_c(self) -> Iterator[None]:
        """Within it, Ctrl-C cancels what the agent does; the conversation stays usable."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._presses = 0
        before = signal.signal(signal.SIGINT, self._pressed)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _pressed(self, *_: object) -> None:
        self._presses += 1
        self._agent.cancel()
        if self._now or self._presses >= _PRESSES:
            raise KeyboardInterrupt


def _view(*, at_terminal: bool, as_json: bool, trace: bool) -> View:
    from toolace_edge.cli.chat_view import View
    from toolace_edge.cli.live import Live, can_move_cursor

    coloured = click.get_current_context().color is not False
    pretty = at_terminal and not as_json and sys.stdout.isatty()
    view = View(Live(at_terminal and can_move_cursor(), dim=coloured), pretty=pretty, as_json=as_json)
    view.trace = "on" if trace else "off"
    return view


def _greet(model: str, tools: tuple[Tool, ...], runs: bool) -> None:
    """What there is, and how to find out more."""
    names = ", ".join(tool.name for tool in tools[:8]) + (", ..." if len(tools) > 8 else "")
    echo(f"{model} with {len(tools)} tool{'s' * (len(tools) != 1)}: {names}.", err=True)
    if not runs:
        echo("A file only describes tools: calls are shown, and nothing runs.", err=True)
    echo_styled(("/help lists the commands, Ctrl-D leaves.", {"dim": True}), err=True)
    echo("", err=True)
