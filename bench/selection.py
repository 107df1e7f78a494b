"""Lines that the model itself chose beside as many drawn blindly: is ToolACE-R's selection worth its sampling?

    python bench/selection.py RECIPE.toml --base runs/base --data lines.jsonl --dev dev.jsonl --work WORK --seeds 1 2 3

The recipe is one of `train rounds`. The base answers each line of the data k times, once; then for each seed it is
trained twice from where it was, on the selection and on as many lines drawn at random, and measured on the dev data.
The seed draws the lines and their order. A table on stdout; killed and started again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from toolace_edge.evaluate import wilson
from toolace_edge.train.check import checked
from toolace_edge.train.learner import Learner, Lessons, RecipeLearner, examples_of
from toolace_edge.train.recipes import RoundsRecipe, find_recipe, read_rounds
from toolace_edge.train.refinement import pairs, write_drafts
from toolace_edge.train.run_files import read_json, replace_text
from toolace_edge.train.sampling import Record, read_records, sample
from toolace_edge.train.selection import at_random, select, write_ids

Figures = dict[str, Any]
ARMS = ("model", "random")


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
        records, before = self._ask()
        found: dict[str, list[Figures]] = {arm: [] for arm in ARMS}
        for seed in seeds:
            for arm in ARMS:
                found[arm].append(self._train(self.work / f"{arm}-{seed}", self._lines(records, arm, seed), seed))
                print(f"{arm}, seed {seed}: {found[arm][-1]}", file=sys.stderr)
        return before, found

    def _ask(self) -> tuple[list[Record], Figures]:
        place, rounds = self.work / "base", self.recipe.rounds
        place.mkdir(parents=True, exist_ok=True)
        for _ in checked(self.data):  # half an hour of sampling is not to end at a line that cannot be learned
            pass
        if not (place / "dev.json").exists():
            about = {"data": self.data.name, "temperature": rounds.temperature, "seed": rounds.seed}
            with self.learner(self.recipe).opened(self.base, place) as model:
                lines = examples_of(self.data, rounds.limit)
                sample(model.answerer, lines, rounds.k, place / "samples.jsonl", about)
                _keep(place, model.measure(examples_of(self.dev, rounds.dev_limit)))
        return list(read_records(place / "samples.jsonl")), read_json(place / "dev.json")

    def _lines(self, records: Sequence[Record], arm: str, seed: int) -> list[Record]:
        rounds = self.recipe.rounds
        chosen = select(records, solved=rounds.solved, hopeless=rounds.hopeless, seed=seed).chosen
        wanted = set(chosen if arm == "model" else at_random(records, len(chosen), seed=seed))
        return [record for record in records if record.id in wanted]

    def _train(self, place: Path, lines: Sequence[Record], seed: int) -> Figures:
        place.mkdir(parents=True, exist_ok=True)
        if not (place / "dev.json").exists():
            rounds, drafts = self.recipe.rounds, place / "drafts.jsonl"
            write_ids([record.id for record in lines], place / "ids.txt")
            write_drafts(pairs(lines, unchanged=rounds.unchanged, seed=seed) if rounds.refinement else [], drafts)
            lessons = Lessons(self.data, place / "ids.txt", drafts if rounds.refinement else None)
            learner = self.learner(_seeded(self.recipe, seed))
            with learner.opened(learner.train(self.base, lessons, place), place) as model:
                _keep(place, {"lines": len(lines), **model.measure(examples_of(self.dev, rounds.dev_limit))})
        return read_json(place / "dev.json")


def _seeded(recipe: RoundsRecipe, seed: int) -> RoundsRecipe:
    nano = None if recipe.nano is None else replace(recipe.nano, seed=seed)
    return replace(recipe, training=replace(recipe.training, seed=seed), nano=nano)


def _keep(place: Path, figures: Figures) -> None:
    replace_text(place / "dev.json", json.dumps(figures) + "\n")


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
