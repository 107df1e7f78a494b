"""Which lines are worth learning from, for the model that there is now: ToolACE-R's model-aware selection.

The paper (arXiv 2504.01400) takes what is neither too easy nor too hard for the current model and says neither how many
answers it samples nor where it draws the lines. Here: a line that some samples got right and some wrong is taken; of
those that all got right a share stays, so that what is known is not forgotten and "nothing to change" is learned; of
those that none got right a share too, since with few samples "never" often means "seldom". Both shares are numbers of
the recipe.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .run_files import replace_text, text_lines
from .sampling import Record


@dataclass(frozen=True, slots=True)
class Selection:
    """`chosen` ids in the order of the data; `histogram[i]` lines of which i samples were right."""

    chosen: tuple[str, ...]
    histogram: tuple[int, ...]

    @property
    def in_between(self) -> int:
        """Lines that some samples got right and some wrong."""
        return sum(self.histogram[1:-1])


def select(records: Sequence[Record], *, solved: float = 0.2, hopeless: float = 0.1, seed: int = 0) -> Selection:
    """`solved`, `hopeless`: how much of the selection may be such lines at most (0 to 1, together below 1).

    Records must all have as many samples.
    """
    if not 0 <= solved + hopeless < 1:
        raise ValueError(f"solved {solved} and hopeless {hopeless} leave no room for what lies between")
    k = len(records[0].samples) if records else 1
    histogram = [0] * (k + 1)
    by_kind: dict[str, list[str]] = {"solved": [], "between": [], "hopeless": []}
    for record in records:
        right = sum(sample.right for sample in record.samples)
        histogram[right] += 1
        by_kind["solved" if right == k else "between" if right else "hopeless"].append(record.id)
    rng = random.Random(seed)
    chosen = set(by_kind["between"])
    whole = len(chosen) / (1 - solved - hopeless)
    for kind, share in (("solved", solved), ("hopeless", hopeless)):
        chosen.update(rng.sample(by_kind[kind], min(len(by_kind[kind]), round(whole * share))))
    return Selection(tuple(record.id for record in records if record.id in chosen), tuple(histogram))


def at_random(records: Sequence[Record], count: int, *, seed: int, keep: Sequence[str] = ()) -> tuple[str, ...]:
    """As many lines, `keep` among them, whatever the model thinks of them: what the selection is measured against."""
    kept = set(keep)
    others = [record.id for record in records if record.id not in kept]
    kept.update(random.Random(seed).sample(others, min(max(count - len(kept), 0), len(others))))
    return tuple(record.id for record in records if record.id in kept)


def write_ids(ids: Sequence[str], out: Path) -> None:
    """The file that `--only` of `train model` and `train tune` reads: a line an id."""
    replace_text(out, "".join(f"{name}\n" for name in ids))


def read_ids(path: Path) -> list[str]:
    """The ids of such a file. InputError where it is no text."""
    return [name for name in text_lines(path) if name]
