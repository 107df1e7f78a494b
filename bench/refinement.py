"""What refinement is worth, from stored predictions: a table in Markdown.

    toolace-edge eval --data dev.jsonl.gz --rounds 5 --out dev5.jsonl
    python bench/refinement.py --data dev.jsonl.gz dev5.jsonl

One row for the first answer, one for each fixed number of rounds (a line that stopped earlier keeps its last answer),
one for the adaptive loop. `mended` were wrong at first and are right then, `broken` the other way round; `rounds` is
how many were written after the first on average. Below, the same by source for the adaptive loop.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from toolace_edge.evaluate import wilson
from toolace_edge.examples import Example, read_examples
from toolace_edge.matching import calls_match
from toolace_edge.messages import ToolCall

Verdicts = list[bool]  # of one line, whether each round is right; the first answer's first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the lines that were answered")
    parser.add_argument("predictions", type=Path, help="what `toolace-edge eval --out` wrote for them")
    options = parser.parse_args()
    examples = {example.id: example for example in read_examples(options.data)}
    by_source: dict[str, list[Verdicts]] = defaultdict(list)
    for line in options.predictions.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        example = examples[record["id"]]
        by_source[example.group].append(verdicts(example, record["rounds"]))
    print(table([one for lines in by_source.values() for one in lines]))
    print("\n" + sources(by_source))


def verdicts(example: Example, rounds: Sequence[dict[str, object]]) -> Verdicts:
    """A refused line has no rounds and is wrong."""
    return [calls_match(_calls(one["calls"]), example.gold, example.accept) for one in rounds] or [False]


def _calls(found: object) -> tuple[ToolCall, ...]:
    assert isinstance(found, list)
    return tuple(ToolCall(call["name"], call["arguments"]) for call in found)


def table(lines: Sequence[Verdicts]) -> str:
    most = max(len(line) for line in lines) - 1
    rows = ["| answer | right | share | 95 % interval | mended | broken | rounds |", "|---|---|---|---|---|---|---|"]
    for count in range(most + 1):
        name = "first" if count == 0 else f"after {count} round{'s' * (count > 1)}"
        rows.append(_row(name, lines, [min(count, len(line) - 1) for line in lines]))
    rows.append(_row("adaptive", lines, [len(line) - 1 for line in lines]))
    return "\n".join(rows)


def _row(name: str, lines: Sequence[Verdicts], stops: Sequence[int]) -> str:
    ends = [line[stop] for line, stop in zip(lines, stops, strict=True)]
    right, n = sum(ends), len(lines)
    mended = sum(end and not line[0] for end, line in zip(ends, lines, strict=True))
    broken = sum(line[0] and not end for end, line in zip(ends, lines, strict=True))
    low, high = wilson(right / n, n)
    return (
        f"| {name} | {right}/{n} | {right / n:.1%} | {low:.1%} .. {high:.1%} | {mended} | {broken} | "
        f"{sum(stops) / n:.2f} |"
    )


def sources(by_source: dict[str, list[Verdicts]]) -> str:
    rows = ["| source | n | first | adaptive | mended | broken |", "|---|---|---|---|---|---|"]
    for source, lines in sorted(by_source.items()):
        first, last = sum(line[0] for line in lines), sum(line[-1] for line in lines)
        mended = sum(line[-1] and not line[0] for line in lines)
        rows.append(f"| {source} | {len(lines)} | {first} | {last} | {mended} | {first - last + mended} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
