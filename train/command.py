"""`toolace-edge train`: the flags of nano.py's training, without torch until it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from toolace_edge.errors import MissingDependency

_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(short_help="Train a small model from scratch.")
@click.option("--data", type=_file, required=True, metavar="FILE", help="Examples to learn from, .jsonl or .jsonl.gz.")
@click.option("--dev", type=_file, metavar="FILE", help="Examples to watch the training with.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FOLDER", help="A run; it is resumed.")
@click.option("--steps", default=6000, show_default=True, help="Updates of the weights, in all.")
@click.option("--drafts", type=_file, metavar="FILE", help="The model's own drafts, to learn refinement from.")
@click.option("--layers", default=8, show_default=True, help="Depth of the model.")
@click.option("--width", default=256, show_default=True, help="A multiple of 128.")
@click.option("--seed", default=1, show_default=True, help="Of weights, made-up lines and order.")
@click.option("--threads", default=2, show_default=True, help="CPU threads.")
@click.option("--eval-every", default=500, show_default=True, help="Steps from one look at --dev to the next.")
def train(**options: Any) -> None:
    """Train the small bundled model from scratch on this CPU, or resume the run in FOLDER.

    \b
    Example:
      toolace-edge train --data train.jsonl.gz --dev dev.jsonl.gz --out runs/nano
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingDependency("torch", "train") from error
    from .nano import train_model

    if options["width"] % 128:
        raise click.BadParameter("must be a multiple of 128.", param_hint="--width")
    train_model(**options)
