"""ToolACE-R's refinement data: the model's own call, and what it should have been.

The paper pairs the first answer with gold and keeps the pairs where they agree, as these teach the loop to stop. A
pair is (request, draft); the gold answer is the line's own.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from toolace_edge.errors import InputError

from .run_files import replace_text, text_lines
from .sampling import Calls, Record, calls_as_json, calls_of


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
    records = (
        {"id": pair.id, "request": pair.request, "calls": calls_as_json(pair.draft), "right": pair.right}
        for pair in pairs_
    )
    replace_text(out, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def read_drafts(path: Path, by: Literal["id", "request"]) -> dict[str, list[Calls]]:
    """The drafts of such a file by the id or the request of their line. InputError where a line is none."""
    found: dict[str, list[Calls]] = defaultdict(list)
    for number, line in enumerate(text_lines(path), 1):
        try:
            record = json.loads(line)
            found[record[by]].append(calls_of(record["calls"]))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}, line {number}: not a draft ({type(error).__name__}: {error}).",
                hint="`toolace-edge train select` writes drafts.",
            ) from error
    return found
