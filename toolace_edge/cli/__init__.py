"""The command line: names of commands, how errors reach a person, and what tests may put in a model's place.

A command is found by the string of its place, so that `--version` does not pay for `run`, and the runtime never imports
convert/ or train/. The modules named below import nothing heavy until their command runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from toolace_edge import __version__
from toolace_edge.errors import ToolaceEdgeError

if TYPE_CHECKING:
    from toolace_edge.registry import Model

_COMMANDS = {
    "run": "toolace_edge.cli.run:run",
    "chat": "toolace_edge.cli.chat:chat",
    "tools": "toolace_edge.cli.tools:tools",
    "models": "toolace_edge.cli.models:models",
    "eval": "toolace_edge.cli.measure:evaluate",
    "bench": "toolace_edge.cli.measure:bench",
    "doctor": "toolace_edge.cli.machine:doctor",
    "convert": "toolace_edge.convert.command:convert",
    "train": "toolace_edge.train.command:train",
}


def _open_model(*args: Any, **options: Any) -> Model:
    from toolace_edge.registry import open_model

    return open_model(*args, **options)


@dataclass(frozen=True, slots=True)
class App:
    """What the commands share (click's `obj`): where a model comes from."""

    open_model: Callable[..., Model] = _open_model


pass_app = click.make_pass_decorator(App, ensure=True)


class _Failure(click.ClickException):
    """A sentence and a hint on stderr, nothing else."""

    def __init__(self, message: str, hint: str, exit_code: int) -> None:
        super().__init__(message)
        self.hint = hint
        self.exit_code = exit_code  # type: ignore[misc]  # click means an instance to have its own

    def show(self, file: Any = None) -> None:
        from toolace_edge.cli.output import print_error

        print_error(self.message, self.hint, self.show_color)


@contextmanager
def _in_sentences() -> Iterator[None]:
    """Whatever a person can meet becomes a sentence and an exit code."""
    try:
        yield
    except ToolaceEdgeError as error:
        raise _Failure(str(error), error.hint, error.exit_code) from error
    except KeyboardInterrupt as error:
        raise _Failure("Cancelled.", "", 130) from error
    except BrokenPipeError:  # the reader of a pipe is gone; click ends quietly
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise _Failure(f"{where}{error.strerror or error}.", "", 1) from error


class _Commands(click.Group):
    """Loads a command when it is asked for, lists them in reading order, and turns errors into sentences."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def make_context(self, *args: Any, **options: Any) -> click.Context:  # --help and --version print in here
        with _in_sentences():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with _in_sentences():
            return super().invoke(ctx)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="toolace-edge")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Turn a request and a set of tools into correct, schema-valid tool calls: on this CPU, offline.

    \b
    Example:
      toolace-edge run "set a timer for 10 minutes"
      toolace-edge run "weather in Oslo?" --tools my_tools.json --json

    Exit codes: 0 a call, or rightly none; 1 failure; 2 bad usage or input; 130 cancelled.
    """
    if os.environ.get("NO_COLOR"):
        ctx.color = False


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of `toolace-edge`; ends the process."""
    try:
        cli.main(args=args, prog_name="toolace-edge")
    finally:
        _drop_unwritable_output()


def _drop_unwritable_output() -> None:
    """What a full disk or a closed pipe did not take is not tried again, and complained about, as Python ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
