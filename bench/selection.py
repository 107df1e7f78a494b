"""Lines that the model itself chose beside as many drawn blindly: is ToolACE-R's selection worth its sampling?

    python bench/selection.py RECIPE.toml --base runs/base --data lines.jsonl --dev dev.jsonl --work WORK --seeds 1 2 3

The recipe is one of `train rounds`. The base answers each line of the data k times, once; then for each seed it is
trained twice from where it was, on the selection and on as many lines drawn at random, and measured on the dev data.
The seed draws the lines and their order. A table on stdout; killed and started again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from toolace_edge.evaluate import wilson
from toolace_edge.train.learner import Learner, RecipeLearner
from toolace_edge.train.recipes import RoundsRecipe, find_recipe, read_rounds
from toolace_edge.train.run_files import read_json
from toolace_edge.train.sampling import Record
from toolace_edge.train.toolace_r import Loop, begin

Figures = dict[str, Any]
Arm = Literal["model", "random"]
ARMS: tuple[Arm, Arm] = ("model", "random")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="as of `train rounds`: a name or a .toml file")
    for name in ("base", "data", "dev", "work"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=(1, 2, 3))
    options = parser.parse_args()
    recipe = read_rounds(find_recipe(options.recipe))
    trial = Trial(recipe, options.base, options.data, options.dev, options.work.absolute())
    before, figures = trial.run(options.seeds)
    print(table(before, figures))


@dataclass(frozen=True, slots=True)
class Trial:
    """Everything that was done is kept in the folder `work`, one folder a training."""

    recipe: RoundsRecipe
    base: Path
    data: Path
    dev: Path
    work: Path
    learner: Callable[[RoundsRecipe], Learner] = RecipeLearner

    def run(self, seeds: Sequence[int]) -> tuple[Figures, dict[str, list[Figures]]]:
        """The base's figures on the dev data, and each arm's by seed."""
        begin(self.recipe, base=self.base, data=self.data, dev=self.dev, out=self.work)
        place = self._place("base")
        records = self._loop(self.recipe).ask(self.base, place)
        found: dict[str, list[Figures]] = {arm: [] for arm in ARMS}
        for seed in seeds:
            for arm in ARMS:
                found[arm].append(self._train(records, arm, seed))
                print(f"{arm}, seed {seed}: {found[arm][-1]}", file=sys.stderr)
        return read_json(place / "dev.json"), found

    def _train(self, records: Sequence[Record], arm: Arm, seed: int) -> Figures:
        loop, place = self._loop(_seeded(self.recipe, arm, seed)), self._place(f"{arm}-{seed}")
        chosen = loop.select(records, (), place)["chosen"]
        checkpoint = loop.train(self.base, place)
        if not (place / "dev.json").exists():
            with loop.learner.opened(checkpoint, place) as asked:
                loop.measure(asked, place)
        return {"lines": chosen, **read_json(place / "dev.json")}

    def _loop(self, recipe: RoundsRecipe) -> Loop:
        say = partial(print, file=sys.stderr)
        return Loop(recipe.rounds, self.learner(recipe), self.base, self.data, self.dev, self.work, say)

    def _place(self, name: str) -> Path:
        place = self.work / name
        place.mkdir(exist_ok=True)
        return place


def _seeded(recipe: RoundsRecipe, arm: Arm, seed: int) -> RoundsRecipe:
    nano = None if recipe.nano is None else replace(recipe.nano, seed=seed)
    rounds, training = replace(recipe.rounds, selection=arm, seed=seed), replace(recipe.training, seed=seed)
    return replace(recipe, rounds=rounds, training=training, nano=nano)


def table(before: Figures, found: Mapping[str, Sequence[Figures]]) -> str:
    """The share that is right by seed, its mean, and how far apart the arms are."""
    low, high = wilson(before["accuracy"], before["n"])
    text = [f"{before['n']} dev lines; before: {before['accuracy']:.1%} ({low:.1%} .. {high:.1%})\n"]
    text += ["| lines chosen by | how many | right, by seed | mean |", "|---|---|---|---|"]
    shares = {arm: [one["accuracy"] for one in figures] for arm, figures in found.items()}
    for arm, values in shares.items():
        each = ", ".join(f"{value:.1%}" for value in values)
        text.append(f"| {arm} | {found[arm][0]['lines']} | {each} | {statistics.mean(values):.1%} |")
    apart = [100 * (ours - blind) for ours, blind in zip(*(shares[arm] for arm in ARMS), strict=True)]
    spread = f", standard deviation {statistics.stdev(apart):.1f}" if len(apart) > 1 else ""
    return "\n".join([*text, f"\nmodel less random: {statistics.mean(apart):+.1f} points{spread}"])


if __name__ == "__main__":
    main()
