"""The stream of batches that nano.py trains on: which rows, in which order, drawn in a child process.

Each step has its own seed, so a run resumed from its checkpoint sees what it would have seen.
"""

from __future__ import annotations

import multiprocessing
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, Full
from typing import Any

import click
import numpy as np
from tokenizers import Tokenizer

from toolace_edge.errors import EngineError, InputError

from .api_tools import ApiTools, read_apis
from .bank import Bank, load_families
from .examples import Example, read_examples
from .grounding import is_grounded
from .packs import Mix, Packer, Row
from .refinement import read_drafts
from .rendering import Renderer
from .selection import read_ids
from .spare import SpareArguments
from .synth import Synthesizer

# How often a source is the anchor of a row. Found function calling counts far above its size; long dialogues below.
SHARES = {
    "seal_tools": 11, "glaive": 7, "toolrl_rlla": 4, "ste_toolbench": 4, "synth_rapidapi": 9, "ha_intents": 4,
    "thingpedia": 9, "snips": 9, "hwu64": 5, "fb_multilingual_tod": 4, "slurp": 3, "ms_bf_skills": 4, "home_llm": 3,
    "star": 3, "tm4": 2, "sgd": 24, "metatool": 4, "clinc_oos": 3, "banking77": 1, "composed": 9, "composed_same": 8,
    "drafted": 45,
}  # fmt: skip
OTHER_SHARE = 9  # of a source with another name: a user's own lines, those of `train lines`
# Short rows first, few tools, names more than descriptions: copying is learned there. (until, mixes in turn)
CURRICULUM = (
    (0.30, (Mix(length=256, synth=0.55, lone_tool=0.6, distractors=1, keep_descriptions=0.4, read=0.2),)),
    (0.58, (Mix(length=384, synth=0.55, lone_tool=0.3, distractors=3, keep_descriptions=0.7, no_call=0.5, read=0.1),)),
    (1.01, (Mix(length=640, synth=0.45, lone_tool=0.2, distractors=6, keep_descriptions=0.9, no_call=0.5, refine=0.15),
            Mix(length=384, synth=0.45, lone_tool=0.3, keep_descriptions=0.9, no_call=0.5, refine=0.15))),
)  # fmt: skip
# A base knows words and copies already: long rows from the start. At the end every other row is twice as long, with
# many tools to choose from, as what retrieval offers is.
_BASE_ROW = Mix(
    length=512, synth=0.25, lone_tool=0.2, distractors=7, keep_descriptions=0.9, no_call=0.45, history=0.2, done=0.08,
    read=0.05, spare=0.65, spare_most=10,
)  # fmt: skip
_LONG_ROW = replace(_BASE_ROW, length=1024, lone_tool=0.1, distractors=12, families=4, spare=0.85, spare_most=16)
FROM_BASE = ((0.66, (_BASE_ROW,)), (1.01, (_BASE_ROW, _LONG_ROW)))


@dataclass(frozen=True, slots=True)
class Plan:
    """How many tokens a step reads, and (until, mixes in turn), `until` as a share of all steps."""

    tokens: int
    curriculum: tuple[tuple[float, tuple[Mix, ...]], ...]

    def mix_at(self, step: int, total: int) -> Mix:
        mixes = next(mixes for until, mixes in self.curriculum if step / total < until)
        return mixes[step % len(mixes)]


PLANS = {"scratch": Plan(6144, CURRICULUM), "base": Plan(4096, FROM_BASE)}


@dataclass(frozen=True, slots=True)
class Sources:
    """The files that rows are made of. Tools of `dev` are not made tools; of `data`, only the lines that `only`
    names.
    """

    data: Path
    drafts: Path | None = None
    apis: Path | None = None
    dev: Path | None = None
    only: Path | None = None


def make_packer(sources: Sources, tokenizer: Tokenizer) -> Packer:
    pools = _pools(sources)
    rng = random.Random(0)
    apis = spare = None
    seen = {tool.name for example in (read_examples(sources.dev) if sources.dev else ()) for tool in example.tools}
    if sources.apis is not None:
        schemas = read_apis(sources.apis)
        apis, spare = ApiTools(rng, schemas, seen), SpareArguments(rng, schemas)
    synth = Synthesizer(rng, *_free_text(pools), apis)
    drafts = {} if sources.drafts is None else read_drafts(sources.drafts, "request")
    # A model's own drafts are few and dear: the lines that have one come again as a source of their own.
    pools["drafted"] = [example for pool in pools.values() for example in pool if example.request in drafts]
    bank = Bank(load_families(), synth.values, seen)
    shares = {name: SHARES.get(name, OTHER_SHARE) for name in pools}
    return Packer(Renderer(tokenizer), pools, shares, synth, rng, bank, drafts, spare)


def _pools(sources: Sources) -> dict[str, list[Example]]:
    """The lines to learn by their source; what was read and left out is said. InputError where none is left."""
    pools: dict[str, list[Example]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    only = None if sources.only is None else set(read_ids(sources.only))
    for example in read_examples(sources.data):
        why = _left_out(example, only)
        if why is None:
            pools[example.source].append(example)
        else:
            left_out[why] += 1
    read = sum(map(len, pools.values())) + left_out.total()
    why_not = ", ".join(f"{count} {why}" for why, count in left_out.items())
    if not pools:
        raise InputError(f"{sources.data} holds no line to learn from: {why_not}.")
    counts = ", ".join(f"{name} {len(pool)}" for name, pool in sorted(pools.items()))
    click.echo(f"{sources.data}: {read} lines; to learn by source: {counts}; left out: {why_not or 'none'}", err=True)
    return pools


def _left_out(example: Example, only: set[str] | None) -> str | None:
    """Why a line is not learned; None where it is."""
    if only is not None and example.id not in only:
        return "not among the wanted ids"
    if len(example.request) >= 1200 or len(example.messages) >= 16:
        return "too long"
    return None if is_grounded(example) else "with texts in their calls that nobody said"


def _free_text(pools: Mapping[str, Sequence[Example]]) -> tuple[list[str], list[str], list[str]]:
    """For made tools: nouns out of parameter names, phrases out of argument values, and every word of the requests."""
    words: set[str] = set()
    phrases: set[str] = set()
    lexicon: set[str] = set()
    for pool in pools.values():
        for example in pool:
            lexicon.update(re.findall(r"[^\W\d_]{2,16}", example.request))
            for tool in example.tools:
                for name in tool.parameters.get("properties", {}):
                    words.update(w.lower() for w in re.findall(r"[A-Za-z][a-z]{2,}", name))
            for call in example.calls:
                phrases.update(v for v in call.arguments.values() if isinstance(v, str) and 0 < len(v) < 40)
    said = sorted(p for p in phrases if p.strip() == p and "\n" not in p)
    # Lines whose tools take nothing say no words of their own.
    return sorted(words) or ["name"], said or ["as it is"], sorted(lexicon) or ["it"]


@dataclass(frozen=True, slots=True)
class _Refused:
    """Why no rows can be drawn: an InputError on its way to the process that trains."""

    message: str
    hint: str


def _produce(queue: Any, sources: Sources, tokenizer: Path, seed: int, steps: range, total: int, plan: Plan) -> None:
    try:
        packer = make_packer(sources, Tokenizer.from_file(str(tokenizer)))
    except InputError as error:  # a sentence for the user, which the training says
        queue.put(_Refused(str(error), error.hint))
        return
    for step in steps:
        packer.rng.seed(f"{seed}/{step}")
        mix = plan.mix_at(step, total)
        batch = collate([packer.row(mix) for _ in range(round(plan.tokens / mix.length))])
        if not _handed_over(queue, batch):
            queue.cancel_join_thread()  # what lies in it has no reader
            return


def _handed_over(queue: Any, batch: object) -> bool:
    """False where the training was killed: nobody will take the batch, and this process must not outlive it."""
    parent = multiprocessing.parent_process()
    while parent is None or parent.is_alive():
        try:
            queue.put(batch, timeout=5)
            return True
        except Full:
            pass
    return False


def collate(rows: Sequence[Row]) -> dict[str, np.ndarray[Any, Any]]:
    fields = ("ids", "positions", "tree", "branch", "targets", "weights")
    batch = {name: np.stack([getattr(row, name) for row in rows]) for name in fields}
    batch["answers"] = np.array(sum(row.answers for row in rows))
    return batch


def batches(sources: Sources, tokenizer: Path, seed: int, steps: range, total: int, plan: Plan) -> Iterator[Any]:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue(maxsize=16)
    arguments = (queue, sources, tokenizer, seed, steps, total, plan)
    process = context.Process(target=_produce, args=arguments, daemon=True)
    process.start()
    for _ in steps:
        yield _taken(queue, process)
    process.join(timeout=10)


def _taken(queue: Any, process: Any) -> Any:
    """The next batch. InputError where none can be drawn; EngineError where the process that draws them has ended: its
    own error stands above.
    """
    while True:
        try:
            found = queue.get(timeout=5)
            if isinstance(found, _Refused):
                raise InputError(found.message, hint=found.hint or None)
            return found
        except Empty:
            if not process.is_alive():
                raise EngineError(f"The process that draws the rows ended (exit code {process.exitcode}).") from None
