"""What the rounds of ToolACE-R ask of a model: its answers, its figures on the dev data, and to be trained.

The heavy work is done by other programs of ours, each in a process of its own that gives its memory back: `convert`
makes of a checkpoint what our runtime samples, `train tune` or `train model` trains, behind `accelerate launch` where
the recipe says so. With an endpoint a server answers instead, and the recipe's `deploy` gives it the checkpoint.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from toolace_edge.errors import EngineError
from toolace_edge.evaluate import Outcome, evaluate
from toolace_edge.examples import Example, read_examples
from toolace_edge.matching import calls_match
from toolace_edge.registry import Model, open_model

from .endpoint import EndpointAnswerer, api_key
from .examples import read_examples as read_for_nano
from .recipes import Endpoint, Nano, RoundsRecipe, as_toml
from .run_files import replace_text
from .sampling import Answerer, LocalAnswerer


class Asked(Protocol):
    """A model that is there to be asked."""

    @property
    def answerer(self) -> Answerer: ...

    def measure(self, examples: Iterator[Example]) -> dict[str, Any]:
        """Its figures: at least `n` and `accuracy`."""


@dataclass(frozen=True, slots=True)
class Lessons:
    """Files: which lines of `data` are learned in a round, and the drafts that go with them.

    `dev` is held out: our own trainer makes up lines for tools that it knows, and those of `dev` are none of them.
    """

    data: Path
    ids: Path
    drafts: Path | None
    dev: Path | None = None


class Learner(Protocol):
    """A model and what trains it. `place` is the folder of a round, to keep things in."""

    def opened(self, checkpoint: Path, place: Path) -> AbstractContextManager[Asked]:
        """The model of `checkpoint`, to be asked."""

    def train(self, checkpoint: Path, lessons: Lessons, place: Path) -> Path:
        """From `checkpoint` to another, whose folder is returned. Asked again after a kill, it goes on."""


@dataclass(frozen=True, slots=True)
class LocalModel:
    """Our runtime."""

    model: Model
    answerer: Answerer
    rounds: int

    def measure(self, examples: Iterator[Example]) -> dict[str, Any]:
        """As `eval`, and how many first answers refinement broke and mended."""
        changed = {"broke": 0, "mended": 0}

        def count(outcome: Outcome) -> None:
            changed["broke"] += outcome.right_first and not outcome.right
            changed["mended"] += outcome.right and not outcome.right_first

        figures = evaluate(self.model, examples, rounds=self.rounds, top_k=0, on_outcome=count)
        return {**{key: value for key, value in figures.items() if key != "seconds"}, **changed}


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A server, asked for greedy first answers: it knows no refinement."""

    answerer: Answerer

    def measure(self, examples: Iterator[Example]) -> dict[str, Any]:
        n = right = 0
        for example in examples:
            n += 1
            (calls,) = self.answerer.answers(example, 1) if example.refused is None else (None,)
            right += calls is not None and calls_match(calls, example.gold, example.accept)
        return {"n": n, "accuracy": round(right / n, 6) if n else 0.0}


@dataclass(frozen=True, slots=True)
class RecipeLearner:
    """What a recipe says."""

    recipe: RoundsRecipe

    @contextmanager
    def opened(self, checkpoint: Path, place: Path) -> Iterator[Asked]:
        rounds = self.recipe.rounds
        if self.recipe.endpoint is not None:
            yield ServedModel(_served(self.recipe.endpoint, checkpoint, rounds.temperature, rounds.seed))
            return
        with open_model(self._converted(checkpoint, place)) as model:
            yield LocalModel(model, LocalAnswerer(model, rounds.temperature, rounds.seed), rounds.dev_rounds)

    def _converted(self, checkpoint: Path, place: Path) -> Path:
        runtime = self.recipe.runtime
        out = place / ("model.gguf" if runtime.engine == "gguf" else "model")
        if not out.exists():
            precision = "--kind" if runtime.engine == "gguf" else "--precision"
            command = [sys.executable, "-m", "toolace_edge", "convert", runtime.engine, str(checkpoint), str(out)]
            command += [precision, runtime.precision, "--format", self.recipe.rendering.format, "--no-verify"]
            _run(command, f"{checkpoint} could not be converted")
        return out

    def train(self, checkpoint: Path, lessons: Lessons, place: Path) -> Path:
        out = place / "training"
        command = [*(self.recipe.launch.command or [sys.executable]), "-m", "toolace_edge.train"]
        if self.recipe.nano is not None:
            command += ["model", *_nano_flags(self.recipe.nano)]
            command += [] if lessons.dev is None else ["--dev", str(lessons.dev)]
        else:
            sections = {"rendering": self.recipe.rendering, "training": self.recipe.training, "lora": self.recipe.lora}
            replace_text(place / "tune.toml", as_toml(sections))
            command += ["tune", str(place / "tune.toml")]
        command += ["--base", str(checkpoint), "--data", str(lessons.data), "--only", str(lessons.ids)]
        command += [] if lessons.drafts is None else ["--drafts", str(lessons.drafts)]
        _run([*command, "--out", str(out)], f"The training in {out} failed")
        return out / ("model" if self.recipe.nano is None else "hf")

    def check_lines(self, data: Path) -> None:
        """DataError for a line that the trainer of our own models could not read; it is stricter than the runtime."""
        for _ in read_for_nano(data) if self.recipe.nano is not None else ():
            pass


def _nano_flags(nano: Nano) -> Sequence[str]:
    flags = {
        "--steps": nano.steps, "--q4-from": nano.q4_from, "--threads": nano.threads, "--eval-every": nano.eval_every,
        "--seed": nano.seed,
    }  # fmt: skip
    return [part for flag, value in flags.items() for part in (flag, str(value))]


def _served(endpoint: Endpoint, checkpoint: Path, temperature: float, seed: int) -> Answerer:
    deploy = [part.replace("{checkpoint}", str(checkpoint)) for part in endpoint.deploy]
    _run(deploy, f"{endpoint.deploy[0]}, which the recipe deploys with, failed")
    return EndpointAnswerer(endpoint.url, endpoint.model, api_key(), temperature, seed, endpoint.in_flight)


def _run(command: Sequence[str], failed: str) -> None:
    """A program that says what it does on stderr. EngineError, begun with `failed`, where it does not end well.

    It holds one end of a pipe and ends with this process, however that ends (__main__.py).
    """
    environment = {**os.environ, "TOOLACE_EDGE_WITH_PARENT": "1"}
    try:
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment
        ) as process:  # stdin stays open until it ends
            try:
                code = process.wait()
            except BaseException:
                process.kill()
                raise
    except OSError as error:
        raise EngineError(f"{failed}: {command[0]} cannot be run ({error.strerror}).") from error
    if code:
        raise EngineError(f"{failed} (exit code {code}).", hint="What it said stands above.")


def examples_of(data: Path, limit: int) -> Iterator[Example]:
    """The first `limit` lines; 0 takes all."""
    return islice(read_examples(data), limit or None)
