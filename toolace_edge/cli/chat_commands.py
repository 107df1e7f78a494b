"""What a line that starts with a slash does in a chat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from toolace_edge.cli.chat_view import View, whole_of
from toolace_edge.cli.output import echo
from toolace_edge.errors import InputError
from toolace_edge.policy import Policy, by_name

if TYPE_CHECKING:
    from toolace_edge.agent import Agent

_TRACES = ("on", "off", "tokens")
_RUNS: Mapping[Policy, str] = {"allow": "runs", "ask": "runs if you agree", "deny": "never runs"}


@dataclass(frozen=True, slots=True)
class Command:
    usage: str
    about: str
    run: Callable[[str], None]


class Commands:
    """The commands of one conversation. `rules` say which tools run; None where nothing does."""

    def __init__(self, agent: Agent, view: View, rules: Mapping[str, Policy] | None) -> None:
        self.left = False  # whether /quit was said
        self._agent = agent
        self._view = view
        self._rules = rules
        self._all = {
            "help": Command("/help", "show this list", self._help),
            "tools": Command("/tools [NAME]", "list the tools, or show one", self._tools),
            "result": Command("/result", "show the last results in full", self._result),
            "trace": Command("/trace [on|off|tokens]", "show what each answer costs, or its tokens too", self._trace),
            "save": Command("/save FILE", "write the conversation to a file", self._save),
            "load": Command("/load FILE", "go on with a saved conversation", self._load),
            "undo": Command("/undo", "forget the last request and what came of it", self._undo),
            "reset": Command("/reset", "forget the conversation", self._reset),
            "quit": Command("/quit", "leave; so does Ctrl-D", self._quit),
        }

    def run(self, line: str) -> None:
        """InputError where there is no such command, or it cannot do what it is told."""
        name, _, argument = line[1:].strip().partition(" ")
        command = self._all.get(name)
        if command is None:
            near = get_close_matches(name, self._all, 1, 0.5)
            raise InputError(
                f"There is no command /{name}." + (f" Did you mean /{near[0]}?" if near else ""),
                hint="/help lists the commands; // at its start sends a line that begins with a slash.",
            )
        takes = " " in command.usage
        if argument.strip() and not takes:
            raise InputError(f"/{name} takes nothing: {argument.strip()!r} is too much.", hint=f"Say {command.usage}")
        command.run(argument.strip())

    def complete(self, line: str) -> Sequence[str]:
        """The lines that this one may become."""
        name, space, argument = line.partition(" ")
        if not line.startswith("/") or line.startswith("//"):
            return ()
        if not space:
            takes = {key: " " if " " in command.usage else "" for key, command in self._all.items()}
            return [f"/{key}{after}" for key, after in takes.items() if f"/{key}".startswith(name)]
        if name == "/tools":
            found = [tool.name for tool in self._agent.tools]
        elif name == "/trace":
            found = list(_TRACES)
        elif name in ("/save", "/load"):
            found = _files(argument)
        else:
            return ()
        return [f"{name} {one}" for one in found if one.startswith(argument)]

    def _help(self, argument: str) -> None:
        width = max(len(command.usage) for command in self._all.values())
        for command in self._all.values():
            echo(f"{command.usage:{width}}  {command.about}", err=True)
        echo(
            "A line that ends with a backslash goes on in the next. // sends a line that begins with a slash.\n"
            "Ctrl-C stops an answer, or clears the line.",
            err=True,
        )

    def _tools(self, name: str) -> None:
        from toolace_edge.formats.compact import render_tool

        tools = self._agent.tools
        if not name:
            width = min(max((len(tool.name) for tool in tools), default=0), 32)
            for tool in tools:
                first = tool.description.split("\n")[0]
                echo(f"{tool.name:{width}}  {first}{self._unless_it_runs(tool.name)}", err=True)
            return
        found = next((tool for tool in tools if tool.name == name), None)
        if found is None:
            near = get_close_matches(name, [tool.name for tool in tools], 1, 0.5)
            raise InputError(
                f"There is no tool {name!r}." + (f" Did you mean {near[0]}?" if near else ""), hint="/tools lists them."
            )
        echo(render_tool(found), err=True)
        echo(f"[{self._word(name)}]", err=True)

    def _word(self, name: str) -> str:
        return "only shown, never run" if self._rules is None else _RUNS[by_name(self._rules, name, "ask")]

    def _unless_it_runs(self, name: str) -> str:
        word = self._word(name)
        return "" if self._rules is None or word == _RUNS["allow"] else f" [{word}]"

    def _result(self, argument: str) -> None:
        if not self._view.results:
            raise InputError("The last answer called nothing, so there is no result.", hint="Ask for something first.")
        for result in self._view.results:
            echo(whole_of(result))

    def _trace(self, argument: str) -> None:
        if argument and argument not in _TRACES:
            raise InputError(f"{argument!r} is no kind of trace.", hint="Say /trace on, /trace off or /trace tokens.")
        self._view.trace = argument or ("on" if self._view.trace == "off" else "off")
        echo(f"Trace: {self._view.trace}.", err=True)

    def _save(self, argument: str) -> None:
        path = _path(argument, "/save")
        self._agent.save(path)
        echo(f"Saved {_messages(self._agent)} to {path}.", err=True)

    def _load(self, argument: str) -> None:
        path = _path(argument, "/load")
        self._agent.load(path)
        last = next((one.content for one in reversed(self._agent.messages) if one.role == "user"), "")
        said = f", the last request: {last[:60]!r}" if last else ""
        echo(f"Loaded {_messages(self._agent)}{said}.", err=True)

    def _undo(self, argument: str) -> None:
        messages = self._agent.messages
        at = next((i for i in range(len(messages) - 1, -1, -1) if messages[i].role == "user"), None)
        if at is None:
            raise InputError("There is nothing to forget: nothing was asked yet.", hint="")
        ran = any(message.role == "tool" for message in messages[at:])
        echo(f"Forgotten: {messages[at].content!r}." + (" What its calls did stays done." if ran else ""), err=True)
        del messages[at:]

    def _reset(self, argument: str) -> None:
        self._agent.reset()
        echo("Forgotten. This is a new conversation.", err=True)

    def _quit(self, argument: str) -> None:
        self.left = True


def _path(argument: str, command: str) -> Path:
    if not argument:
        raise InputError(f"{command} needs the name of a file.", hint=f"As in: {command} talk.json")
    try:
        return Path(argument).expanduser()
    except RuntimeError as error:
        raise InputError(f"{argument}: there is no such home folder.", hint="Write the whole path.") from error


def _messages(agent: Agent) -> str:
    count = len(agent.messages)
    return f"{count} message{'s' * (count != 1)}"


def _files(begun: str) -> list[str]:
    """Files and folders whose path begins so, folders with a slash behind."""
    head, slash, _ = begun.rpartition("/")
    folder = Path(f"{head}{slash}" or ".").expanduser()
    return sorted(f"{head}{slash}{one.name}{'/' * one.is_dir()}" for one in folder.iterdir())
