"""ToolACE-R's refinement data: the model's own call, and what it should have been.

The paper pairs the first answer with gold and keeps the pairs where they agree, as these teach the loop to stop. A
pair is (request, draft); the gold answer is the line's own.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .sampling import Calls, Record, calls_as_json


@dataclass(frozen=True, slots=True)
class Pair:
    """A draft of the line `id`, and whether it is right already."""

    id: str
    request: str
    draft: Calls
    right: bool


def pairs(records: Iterable[Record], *, unchanged: float = 0.5, seed: int = 0) -> list[Pair]:
    """One draft a line, the greedy one where it can be read; `unchanged` is the share of right ones at most."""
    wrong: list[Pair] = []
    right: list[Pair] = []
    for record in records:
        first = next((sample for sample in record.samples if sample.calls is not None), None)
        if first is not None and first.calls is not None:
            (right if first.right else wrong).append(Pair(record.id, record.request, first.calls, first.right))
    if not 0 <= unchanged <= 1:
        raise ValueError(f"unchanged is {unchanged}, which is no share")
    room = len(right) if unchanged == 1 else round(len(wrong) * unchanged / (1 - unchanged))
    kept = right if room >= len(right) else random.Random(seed).sample(right, room)
    return sorted([*wrong, *kept], key=lambda pair: pair.id)


def write_drafts(pairs_: Sequence[Pair], out: Path) -> None:
    """The file that `--drafts` of `train model` and `train tune` reads."""
    partial = out.with_suffix(".part")
    with partial.open("w", encoding="utf-8") as file:
        for pair in pairs_:
            calls = calls_as_json(pair.draft)
            record = {"id": pair.id, "request": pair.request, "calls": calls, "right": pair.right}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    partial.rename(out)
