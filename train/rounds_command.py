"""What `train rounds` does with its flags."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import click

from .learner import RecipeLearner
from .recipes import find_recipe, read_rounds
from .toolace_r import run_rounds


def run(recipe: str, base: Path, data: Path, dev: Path | None, out: Path) -> None:
    """Progress on stderr, the result on stdout."""
    numbers = read_rounds(find_recipe(recipe))
    learner = RecipeLearner(numbers)
    learner.check_lines(data)
    say = partial(click.echo, err=True)
    click.echo(json.dumps(run_rounds(numbers, learner, base=base, data=data, dev=dev, out=out, say=say)))
