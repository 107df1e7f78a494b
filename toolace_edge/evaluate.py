"""How often is a model right? Examples in; accuracy, schema validity and cost out, by source."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from toolace_edge.errors import BudgetError, SchemaError
from toolace_edge.examples import Example
from toolace_edge.matching import calls_match
from toolace_edge.messages import Answer, Tool, ToolCall
from toolace_edge.registry import Model
from toolace_edge.schema import check


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the model made of an example. `valid_calls` of `answer.calls` obey their tool's schema."""

    example: Example
    answer: Answer | None
    right: bool
    right_first: bool
    valid_calls: int
    refused: str | None = None


def judge(example: Example, answer: Answer) -> Outcome:
    """Compare an answer with the gold calls, and its calls with their schemas."""
    return Outcome(
        example,
        answer,
        right=calls_match(answer.calls, example.gold, example.accept),
        right_first=calls_match(answer.rounds[0].calls, example.gold, example.accept),
        valid_calls=sum(_is_valid(call, example.tools) for call in answer.calls),
    )


def _is_valid(call: ToolCall, tools: Sequence[Tool]) -> bool:
    return any(tool.name == call.name and not check(tool.parameters, dict(call.arguments)) for tool in tools)


def answer_example(model: Model, example: Example, **options: Any) -> Outcome:
    """Run one example. Tools or a prompt that the model cannot take make it wrong, not the evaluation impossible."""
    if example.refused is None:
        try:
            return judge(example, model.session(example.tools, **options).complete(example.messages))
        except (SchemaError, BudgetError) as error:
            refused = str(error)
    else:
        refused = example.refused
    return Outcome(example, None, right=False, right_first=False, valid_calls=0, refused=refused)


def evaluate(
    model: Model,
    examples: Iterable[Example],
    *,
    on_outcome: Callable[[Outcome], None] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Run every example and report: the object that `eval --json` prints. `options` are Session's, e.g. `rounds`."""
    start = time.monotonic()
    outcomes = []
    for example in examples:
        outcomes.append(answer_example(model, example, **options))
        if on_outcome:
            on_outcome(outcomes[-1])
    return {**summarise(outcomes), "seconds": round(time.monotonic() - start, 2)}


def summarise(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Shares over all outcomes. `schema_valid` is over calls (1.0 where none was made), means over answered lines.

    `retrieval` is there where lines were offered only some of their tools.
    """
    answers = [outcome.answer for outcome in outcomes if outcome.answer]
    calls = sum(len(answer.calls) for answer in answers)
    total, right = Counter[str](), Counter[str]()
    for outcome in outcomes:
        total[outcome.example.group] += 1
        right[outcome.example.group] += outcome.right
    return {
        "n": len(outcomes),
        "accuracy": _share(right.total(), len(outcomes)),
        "schema_valid": _share(sum(outcome.valid_calls for outcome in outcomes), calls) if calls else 1.0,
        "by": {name: {"n": n, "accuracy": _share(right[name], n)} for name, n in sorted(total.items())},
        "rounds_mean": _share(sum(len(answer.rounds) for answer in answers), len(answers)),
        "accuracy_first_round": _share(sum(outcome.right_first for outcome in outcomes), len(outcomes)),
        "forward_passes_mean": _share(sum(answer.usage.forward_passes for answer in answers), len(answers)),
        **_retrieval(outcomes),
    }


def _retrieval(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """How often only some of the tools were offered, and how often every tool of the gold calls was among them."""
    shown = [
        ({name for name, _ in outcome.answer.retrieval.tools}, {call.name for call in outcome.example.gold})
        for outcome in outcomes
        if outcome.answer and outcome.answer.retrieval
    ]
    facts = {
        "n": len(shown),
        "tools_mean": _share(sum(len(offered) for offered, _ in shown), len(shown)),
        "kept": _share(sum(gold <= offered for offered, gold in shown), len(shown)),
    }
    return {"retrieval": facts} if shown else {}


def _share(part: float, whole: int) -> float:
    return round(part / whole, 6) if whole else 0.0


def wilson(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % confidence interval of a share of `n` tries (Wilson's score interval)."""
    if not n:
        return 0.0, 1.0
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
