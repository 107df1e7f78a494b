"""docs/cli.md: every command's own help, on one page. `python -m tests.cli_page` prints it."""

from __future__ import annotations

from collections.abc import Iterator

import click

from toolace_edge.cli import cli

WIDTH = 80


def help_texts(
    command: click.Command = cli, name: str = "toolace-edge", parent: click.Context | None = None
) -> Iterator[tuple[str, str]]:
    """(command line, its `--help` on a screen of 80 columns), parents first."""
    context = click.Context(command, parent, name, terminal_width=WIDTH, **command.context_settings)
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from help_texts(child, name, context)


def page() -> str:
    parts = ["# Commands", "Written by `make docs` from the commands' own help."]
    parts += [f"## {path}\n\n```text\n{text}\n```" for path, text in help_texts()]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    print(page(), end="")
