"""`toolace-edge doctor`: whether what is here works."""

from __future__ import annotations

from dataclasses import asdict

import click

from toolace_edge.cli import App, pass_app
from toolace_edge.cli.options import which_model
from toolace_edge.cli.output import echo, echo_styled, to_json

_MARKS = {True: ("ok  ", "green"), False: ("FAIL", "red"), None: ("    ", None)}


@click.command(short_help="Check the processor, the engines and the model.")
@which_model
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
@pass_app
def doctor(app: App, ctx: click.Context, model: str | None, format_name: str | None, as_json: bool) -> None:
    """Say what this machine supports, check the model's files, and make one call for real.

    Exits with 1 where something fails.

    \b
    Example:
      toolace-edge doctor
      toolace-edge doctor --model nano-gguf --json
    """
    from toolace_edge.doctor import examine

    checks = []
    for check in examine(model, app.open_model, format_name):
        checks.append(check)
        mark, colour = _MARKS[check.ok]
        if not as_json:
            echo_styled((mark, {"fg": colour}), (f" {check.name}: {check.detail}", {}))
    ok = all(check.ok is not False for check in checks)
    if as_json:
        echo(to_json({"ok": ok, "checks": [asdict(check) for check in checks]}))
    ctx.exit(0 if ok else 1)
