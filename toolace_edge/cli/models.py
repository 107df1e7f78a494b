"""`toolace-edge models`: the models that came along and those of the store; add, fetch, check and remove them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from toolace_edge.cli.model_output import everything, facts_json, print_catalogue, print_stored, row_json, size_bytes
from toolace_edge.cli.output import echo, echo_styled, to_json
from toolace_edge.errors import ModelError

_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_format = click.option(
    "--format",
    "format_name",
    type=click.Choice(["compact", "toolace", "hermes"]),
    metavar="NAME",
    help="How it writes calls, where its file does not say: compact, toolace, hermes.",
)
_name = click.option("--name", metavar="NAME", help="What to call it. [default: as its file or repository]")


@click.group(invoke_without_command=True, short_help="List, add, fetch, check and remove models.")
@_as_json
@click.pass_context
def models(ctx: click.Context, as_json: bool) -> None:
    """List the models, bundled and in the store; or add, pull, show, verify and remove one.

    A path to a model folder or a .gguf file is as good as a name. The store lies in the user's data folder;
    TOOLACE_EDGE_HOME names another.

    \b
    Example:
      toolace-edge models
      toolace-edge models pull ToolACE-8B
      toolace-edge run "set a timer" --model path/to/model.gguf
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(ls, as_json=as_json, remote=False)
    elif as_json:
        raise click.UsageError(f"Write --json after the command: toolace-edge models {ctx.invoked_subcommand} --json")


@models.command(short_help="List what is here, or what could be pulled.")
@click.option("--remote", is_flag=True, help="List the public ToolACE checkpoints instead; asks no server.")
@_as_json
def ls(as_json: bool, remote: bool) -> None:
    """List the models by name, kind and size.

    \b
    Example:
      toolace-edge models ls
      toolace-edge models ls --remote
    """
    if remote:
        return print_catalogue(as_json)
    from toolace_edge import registry

    entries, damaged = everything()
    if as_json:
        rows = [row_json(one) for one in entries]
        return echo(to_json({"default": registry.DEFAULT, "models": rows, "damaged": damaged}))
    for one in entries:
        default = "  (default)" if one.name == registry.DEFAULT else ""
        echo(f"{one.name:16} {one.kind:5} {size_bytes(one) / 1e6:7.1f} MB  {one.path}{default}")
    for problem in damaged:
        echo_styled((f"{problem['name']:16} ", {}), ("damaged", {"fg": "red"}), (f"  {problem['problem']}", {}))
    if not entries:
        echo("No model came with this installation.")
    return None


@models.command(short_help="Everything that is known of a model.")
@click.argument("model", metavar="NAME")
@_as_json
def show(model: str, as_json: bool) -> None:
    """Print what a model is: architecture, context, quantization, format, calibration, licence, source, hashes.

    \b
    Example:
      toolace-edge models show nano
      toolace-edge models show path/to/model.gguf --json
    """
    from toolace_edge import registry
    from toolace_edge.model_facts import read_model_facts

    entry = registry.find(model)
    facts = facts_json(entry, read_model_facts(entry.path, entry.kind))
    if as_json:
        return echo(to_json(facts))
    files = facts.pop("files")
    facts["size"] = f"{facts.pop('size_bytes') / 1e6:.1f} MB"
    for key in ("revision", "added", "link"):  # only where there is something to say
        if facts[key] is None:
            del facts[key]
    for key, value in facts.items():
        echo(f"{key + ':':14} {'not known' if value is None else value}")
    for file in files:
        echo(f"{'sha256:':14} {file['sha256']}  {file['path']}")
    return None


@models.command(short_help="Put a model file or folder into the store.")
@click.argument("path", type=click.Path(path_type=Path))
@_name
@click.option("--link", is_flag=True, help="Leave the files where they are and only note the place.")
@_format
@click.option("--licence", "--license", metavar="TEXT", help="Its licence, where its file does not say.")
@_as_json
def add(path: Path, name: str | None, link: bool, format_name: str | None, licence: str | None, as_json: bool) -> None:
    """Check a .gguf file or a model folder and copy it into the store.

    \b
    Example:
      toolace-edge models add ToolACE-8B-Q4_K_M.gguf --format toolace
      toolace-edge models add path/to/folder --name mine --link
    """
    from toolace_edge.registry import bundled
    from toolace_edge.store import Store

    store = Store.default()
    with _progress(path) as progress:
        manifest = store.add(
            path,
            name=name,
            link=link,
            format_name=format_name,
            licence=licence,
            reserved=bundled(),
            progress=progress,
        )
    print_stored(manifest, store.path(manifest), as_json, {"link": link})


@models.command(short_help="Fetch a model from a Hugging Face repository.")
@click.argument("repository", metavar="REPO[:FILE or KIND]")
@_name
@click.option("--revision", metavar="TEXT", help="A branch, tag or commit. [default: main]")
@click.option("--offline", is_flag=True, help="Open no connection; say what is missing. HF_HUB_OFFLINE does so too.")
@_format
@_as_json
def pull(
    repository: str, name: str | None, revision: str | None, offline: bool, format_name: str | None, as_json: bool
) -> None:
    """Fetch a model into the store: a .gguf by its kind, or a model folder. Needs the extra `hub`.

    Of a repository that only has safetensors, the checkpoint is fetched for `convert`. Pickles and Python files
    never are. What breaks off is taken up again by the same command; hashes are checked.

    \b
    Example:
      toolace-edge models pull neopolita/toolace-8b-gguf:Q4_K_M
      toolace-edge models pull Team-ACE/ToolACE-2-Llama-3.1-8B --revision main
    """
    from toolace_edge.pull import pull as pull_model
    from toolace_edge.registry import bundled
    from toolace_edge.store import Store

    store = Store.default()
    manifest, fetched = pull_model(
        repository,
        store,
        name=name,
        revision=revision,
        offline=offline,
        format_name=format_name,
        reserved=bundled(),
        say=lambda line: echo(line, err=True),
    )
    print_stored(manifest, store.path(manifest), as_json, {"fetched": fetched})


@models.command(short_help="Hash the files again.")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@_as_json
@click.pass_context
def verify(ctx: click.Context, names: tuple[str, ...], as_json: bool) -> None:
    """Hash a model's files again and compare, about 1 s a gigabyte; without a name, every model's.

    Exits with 1 where one is damaged.

    \b
    Example:
      toolace-edge models verify
      toolace-edge models verify nano nano-gguf --json
    """
    from toolace_edge import registry
    from toolace_edge.store import Store

    results = []
    for name in names or (*registry.bundled(), *Store.default().names()):
        problem = None
        try:
            entry = registry.find(name)
            registry.verify(entry)
            note = "" if entry.hashes else "  no SHA-256 on record"
        except ModelError as error:
            problem, note = str(error), f"  {error}"
        results.append({"name": name, "ok": problem is None, "problem": problem})
        if not as_json:
            mark, colour = ("ok  ", "green") if problem is None else ("FAIL", "red")
            echo_styled((mark, {"fg": colour}), (f" {name}{note}", {}))
    ok = all(result["ok"] for result in results)
    if as_json:
        echo(to_json({"ok": ok, "models": results}))
    ctx.exit(0 if ok else 1)


@models.command(short_help="Remove a model from the store.")
@click.argument("name")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@_as_json
def rm(name: str, yes: bool, as_json: bool) -> None:
    """Remove a model from the store. Files that it only links to stay.

    \b
    Example:
      toolace-edge models rm ToolACE-8B-Q4_K_M --yes
    """
    from toolace_edge.errors import InputError
    from toolace_edge.registry import bundled
    from toolace_edge.store import Store

    store = Store.default()
    if name in bundled():
        raise InputError(f"{name} came with the program and is not in the store.", hint="Uninstalling removes it.")
    if store.holds(name) and not yes:
        click.confirm(f"Remove {name} from {store.root}?", abort=True, err=True)
    store.remove(name)
    echo(to_json({"removed": name}) if as_json else f"{name} removed.")


@contextmanager
def _progress(path: Path) -> Iterator[Callable[[int], None]]:
    """A bar on stderr for what takes longer than a moment; none where stderr is no terminal."""
    import sys

    files = [path] if path.is_file() else [file for file in path.glob("*") if file.is_file()]
    total = sum(file.stat().st_size for file in files)
    if total < 100e6 or not sys.stderr.isatty():
        yield lambda count: None
        return
    with click.progressbar(length=total, label=f"Adding {path.name}", file=sys.stderr) as bar:
        yield bar.update
