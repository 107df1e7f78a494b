"""`toolace-edge models` and `toolace-edge doctor`: what is here, and whether it works."""

from __future__ import annotations

from dataclasses import asdict

import click

from toolace_edge.cli import App, pass_app
from toolace_edge.cli.output import echo, echo_styled, to_json

_MARKS = {True: ("ok  ", "green"), False: ("FAIL", "red"), None: ("    ", None)}


@click.command(short_help="List the models that are installed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def models(as_json: bool) -> None:
    """List the bundled models. A path to a model folder or a .gguf file is as good as a name.

    \b
    Example:
      toolace-edge models
      toolace-edge run "set a timer" --model path/to/model.gguf
    """
    from toolace_edge import registry

    entries = list(registry.bundled().values())
    if as_json:
        rows = [
            {"name": one.name, "kind": one.kind, "size_bytes": one.size_bytes, "path": str(one.path)} for one in entries
        ]
        echo(to_json({"default": registry.DEFAULT, "models": rows}))
        return
    for one in entries:
        default = "  (default)" if one.name == registry.DEFAULT else ""
        echo(f"{one.name:16} {one.kind:5} {one.size_bytes / 1e6:7.1f} MB  {one.path}{default}")
    if not entries:
        echo("No model came with this installation.")


@click.command(short_help="Check the processor, the engines and the model.")
@click.option("--model", envvar="TOOLACE_EDGE_MODEL", metavar="NAME", help="A model's name or path. [default: nano]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
@pass_app
def doctor(app: App, ctx: click.Context, model: str | None, as_json: bool) -> None:
    """Say what this machine supports, check the model's files, and make one call for real.

    Exits with 1 where something fails.

    \b
    Example:
      toolace-edge doctor
      toolace-edge doctor --model nano-gguf --json
    """
    from toolace_edge.doctor import examine

    checks = []
    for check in examine(model, app.open_model):
        checks.append(check)
        mark, colour = _MARKS[check.ok]
        if not as_json:
            echo_styled((mark, {"fg": colour}), (f" {check.name}: {check.detail}", {}))
    ok = all(check.ok is not False for check in checks)
    if as_json:
        echo(to_json({"ok": ok, "checks": [asdict(check) for check in checks]}))
    ctx.exit(0 if ok else 1)
