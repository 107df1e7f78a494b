"""ToolACE-R's model-aware iterative training (arXiv 2504.01400): rounds of sampling, selecting, training.

    round r:  sample k answers a line with the model that there is     round-r/samples.jsonl
              choose lines that it can learn from, and its drafts      round-r/ids.txt, drafts.jsonl, selection.json
              measure it on the dev data                               round-r/dev.json
              stop where the selection has stopped growing, else
              train on them                                            round-r/training/, trained.json

The next round asks the new model, so its sampling is the re-scoring of the old selection. Each step's file is written
when the step is done, and a step whose file is there is not done again: a run that was killed goes on where it was.

The paper says that training is repeated on samples chosen by the current model, with the difficulty by pass@k, until
the number of chosen samples no longer grows. What it leaves open is decided so, each a number of the recipe:

  k, temperature        answers a line: the first is greedy, as inference is; the others are drawn
  solved, hopeless      shares of the selection that may be lines all or none of whose samples are right (selection.py)
  cumulative            a line stays chosen once it was: the selection can only grow as the model gets better, and what
                        was learned is not forgotten; the paper's first version adds samples "progressively". Without
                        it each round's selection stands alone, and shrinks as lines are solved
  growth                the selection has stopped growing where it gained no more than this share of the last one
  most                  trainings at most
  start                 each training starts from the last model, or from the base again with the larger selection
  selection = "random"  as many lines as the model would have chosen by now, drawn blindly, those that were drawn before
                        among them: what the method is measured against
  refinement, unchanged train on drafts too, and the share of them that are right already (refinement.py)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from toolace_edge.errors import DataError, InputError

from .check import checked
from .learner import Asked, Learner, Lessons, examples_of
from .recipes import Rounds, RoundsRecipe
from .refinement import pairs, write_drafts
from .rounds_report import write_report
from .run_files import begin_run, check_same_run, digest, digests, read_json, replace_text
from .sampling import Record, read_records, sample
from .selection import at_random, read_ids, select, write_ids

Stop = Literal["no growth", "nothing to learn", "most rounds"]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Loop:
    """The rounds in the folder `out`. `say` is told what is being done."""

    rounds: Rounds
    learner: Learner
    base: Path
    data: Path
    dev: Path | None
    out: Path
    say: Say

    def run(self) -> dict[str, Any]:
        """All rounds; what result.json holds."""
        before: list[str] = []
        by_model: list[str] = []
        checkpoint = self.base
        entries: list[dict[str, Any]] = []
        while True:
            place = self.out / f"round-{len(entries)}"
            place.mkdir(exist_ok=True)
            records = self.ask(checkpoint, place)
            facts = self.select(records, before, place, by_model)
            by_model = facts.pop("by_model")
            chosen = read_ids(place / "ids.txt")
            stop = self._stop(len(before), len(chosen), len(entries))
            entries.append(self._entry(place, len(entries), checkpoint, facts, stop))
            if stop is not None:
                return self._finish(entries)
            self.say(f"round {len(entries) - 1}: {len(chosen)} lines chosen ({facts['new']} new)")
            start = checkpoint if self.rounds.start == "last" else self.base
            checkpoint = self.train(start, place)
            entries[-1]["losses"] = _losses(place / "training" / "log.jsonl")
            write_report(entries, self.out)
            before = chosen

    def ask(self, checkpoint: Path, place: Path) -> list[Record]:
        """Samples and dev figures, both with the same open model, which is not opened where both are there."""
        done = place / "sampled.json"
        wants_dev = self.dev is not None and not (place / "dev.json").exists()
        if wants_dev or not done.exists():
            with self.learner.opened(checkpoint, place) as asked:
                if not done.exists():
                    self._sample(asked, place)
                    replace_text(done, "{}\n")
                if wants_dev:
                    self.measure(asked, place)
        return list(read_records(place / "samples.jsonl"))

    def _sample(self, asked: Asked, place: Path) -> None:
        self.say(f"{place.name}: {self.rounds.k} answers a line")
        about = {"model": place.name, "data": self.data.name, "temperature": self.rounds.temperature,
                 "seed": self.rounds.seed}  # fmt: skip
        examples, done = examples_of(self.data, self.rounds.limit), 0

        def count(_: Record) -> None:
            nonlocal done
            done += 1
            if done % 100 == 0:
                self.say(f"{place.name}: {done} lines answered since the start of this process")

        sample(asked.answerer, examples, self.rounds.k, place / "samples.jsonl", about, count)

    def measure(self, asked: Asked, place: Path) -> None:
        assert self.dev is not None
        self.say(f"{place.name}: dev")
        figures = asked.measure(examples_of(self.dev, self.rounds.dev_limit))
        replace_text(place / "dev.json", json.dumps(figures) + "\n")

    def select(
        self, records: Sequence[Record], before: Sequence[str], place: Path, by_model: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Writes ids.txt, drafts.jsonl and, last, selection.json.

        `before` are the lines that were learned already, `by_model` those that the models until now chose, which are
        the same but where lines are drawn at random.
        """
        done, rounds = place / "selection.json", self.rounds
        if done.exists():
            return read_json(done)
        selection = select(records, solved=rounds.solved, hopeless=rounds.hopeless, seed=rounds.seed)
        wanted = {*selection.chosen, *(by_model if rounds.cumulative else ())}
        by_model = [record.id for record in records if record.id in wanted]
        if rounds.selection == "random":
            keep = before if rounds.cumulative else ()
            wanted = set(at_random(records, len(wanted), seed=rounds.seed, keep=keep))
        chosen = [record.id for record in records if record.id in wanted]
        write_ids(chosen, place / "ids.txt")
        drafts = pairs((r for r in records if r.id in wanted), unchanged=rounds.unchanged, seed=rounds.seed)
        write_drafts(drafts if rounds.refinement else [], place / "drafts.jsonl")
        facts = {
            "lines": len(records), "chosen": len(chosen), "new": len(wanted.difference(before)),
            "in_between": selection.in_between, "histogram": selection.histogram,
            "pass_rate": round(sum(record.pass_rate for record in records) / max(len(records), 1), 6),
            "drafts": len(drafts) if rounds.refinement else 0,
            "right_drafts": sum(pair.right for pair in drafts) if rounds.refinement else 0,
            "by_model": by_model,
        }  # fmt: skip
        replace_text(done, json.dumps(facts) + "\n")
        return read_json(done)

    def _stop(self, before: int, chosen: int, number: int) -> Stop | None:
        if not chosen:
            return "nothing to learn"
        if number and chosen - before <= self.rounds.growth * before:
            return "no growth"
        return "most rounds" if number >= self.rounds.most else None

    def train(self, start: Path, place: Path) -> Path:
        """The new checkpoint's folder."""
        done = place / "trained.json"
        if not done.exists():
            drafts = place / "drafts.jsonl" if self.rounds.refinement else None
            made = self.learner.train(start, Lessons(self.data, place / "ids.txt", drafts, self.dev), place)
            replace_text(done, json.dumps({"checkpoint": str(made.relative_to(self.out))}) + "\n")
        return self.out / str(read_json(done)["checkpoint"])

    def _entry(
        self, place: Path, number: int, checkpoint: Path, facts: dict[str, Any], stop: Stop | None
    ) -> dict[str, Any]:
        dev = None if self.dev is None else read_json(place / "dev.json")
        inside = self.out in checkpoint.parents
        name = str(checkpoint.relative_to(self.out) if inside else checkpoint)
        return {"round": number, "checkpoint": name, **facts, "dev": dev, "losses": [], "stop": stop}

    def _finish(self, entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The best round by dev, the later of equals; the last one without dev data."""
        write_report(entries, self.out)
        best = max(entries, key=lambda one: (one["dev"]["accuracy"] if one["dev"] else 0, one["round"]))
        last = entries[-1]
        result = {
            "stop": last["stop"], "trainings": last["round"], "best": best["round"], "checkpoint": best["checkpoint"],
            "accuracy": best["dev"]["accuracy"] if best["dev"] else None,
        }  # fmt: skip
        replace_text(self.out / "result.json", json.dumps(result) + "\n")
        return result


def _losses(log: Path) -> list[tuple[int, float]]:
    """(step, loss) as either trainer logs them."""
    if not log.exists():
        return []
    entries = map(json.loads, log.read_text("utf-8").splitlines())
    return [(entry["step"], entry["loss"]) for entry in entries if "loss" in entry and "step" in entry]


def run_rounds(
    recipe: RoundsRecipe, learner: Learner, *, base: Path, data: Path, dev: Path | None, out: Path, say: Say
) -> dict[str, Any]:
    """All rounds in the folder `out`, or the rest of them. Data and recipe must be those that it was begun with."""
    begin(recipe, base=base, data=data, dev=dev, out=out)
    return Loop(recipe.rounds, learner, base, data, dev, out.absolute(), say).run()


def begin(recipe: RoundsRecipe, *, base: Path, data: Path, dev: Path | None, out: Path) -> None:
    """Writes down what the run in `out` is. InputError where another was begun there, DataError for a bad line."""
    facts = {
        "recipe": asdict(recipe), "base": digests(base), "data": digest(data),
        "dev": None if dev is None else digest(dev),
    }  # fmt: skip
    check_same_run(out, facts)
    if not (out / "run.json").exists():
        _check_lines(data)
        begin_run(out, facts)


def _check_lines(data: Path) -> None:
    """Hours of sampling are not to end at a line that cannot be learned, nor at an id that means two lines."""
    seen: dict[str, int] = {}
    for example in checked(data):
        if "\n" in example.id or example.id != example.id.strip():
            raise DataError(str(data), example.line, f"the id {example.id!r} has spaces at its ends, or line breaks.")
        if example.id in seen:
            first = f"the id {example.id!r} is that of line {seen[example.id]} already"
            raise DataError(str(data), example.line, f"{first}, and lines are chosen by their ids.")
        seen[example.id] = example.line
    if not seen:
        raise InputError(f"{data} holds no lines.")
