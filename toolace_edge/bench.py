"""What a call costs, beside a plain loop over the same engine.

Each request runs three times with an empty cache: one round (speed, passes, forced share), several rounds (what a
refinement that changes nothing costs), and the raw loop: the same prompt and the same answer, one forward pass a token.
Counts are exact; times are of this machine, now.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any, cast

from toolace_edge.errors import BudgetError, SchemaError
from toolace_edge.examples import Example
from toolace_edge.messages import Message, Round, Usage
from toolace_edge.registry import Model

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from toolace_edge.engines.base import Engine

_REQUESTS = (
    "set a timer for 10 minutes",
    "what is 17 times 23?",
    "convert 5 miles to kilometers",
    "what's the weather in Oslo?",
    "add a note: buy milk and bread",
    "set a timer for 20 minutes called pasta and tell me the weather in Rome",
)


class _TimedEngine:
    """An engine, with the seconds of each of its forward passes in `passes_s`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.passes_s: list[float] = []

    def forward(self, ids: Sequence[int], n_logits: int = 1) -> NDArray[np.float32]:
        start = time.perf_counter()
        logits = self._engine.forward(ids, n_logits)
        self.passes_s.append(time.perf_counter() - start)
        return logits

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


@dataclass(frozen=True, slots=True)
class Cost:
    """One request: its first round, the raw loop over the same tokens, and an unchanged round's share of the first.

    `unchanged_share` is None where the second round changed the call or there was none.
    """

    usage: Usage
    forward_s: float
    raw_prefill_s: float
    raw_decode_s: float
    unchanged_share: float | None


def builtin_requests() -> list[Example]:
    """Requests for the built-in tools. Nobody says what is right: this measures cost."""
    from toolace_edge.builtin import BUILTIN_TOOLS
    from toolace_edge.tools import load_tools

    tools = load_tools(list(BUILTIN_TOOLS))
    return [Example(words, "builtin", (Message("user", words),), tools, ()) for words in _REQUESTS]


def bench(model: Model, examples: Sequence[Example], *, rounds: int = 1) -> dict[str, Any]:
    """Run every example that the model can take and report: the object that `bench --json` prints."""
    costs = list(_costs(model, examples, max(rounds, 1)))
    usage = sum((cost.usage for cost in costs), Usage())
    unchanged = [cost.unchanged_share for cost in costs if cost.unchanged_share is not None]
    return {
        "model": model.name,
        "requests": len(costs),
        "skipped": len(examples) - len(costs),
        "prefill_tokens_per_s": _per(usage.prompt_tokens - usage.cached_tokens, usage.prefill_s),
        "decode_tokens_per_s": _per(usage.call_tokens, usage.decode_s),
        "forward_passes_per_request": _per(usage.forward_passes, len(costs)),
        "tokens_per_request": _per(usage.call_tokens, len(costs)),
        "forced_share": _per(usage.forced_tokens, usage.call_tokens),
        "forward_time_share": _per(sum(cost.forward_s for cost in costs), usage.prefill_s + usage.decode_s),
        "milliseconds_per_request": _per(1000 * (usage.prefill_s + usage.decode_s), len(costs)),
        "unchanged_round_share": round(median(unchanged), 3) if unchanged else None,
        "unchanged_rounds": len(unchanged),
        "raw_prefill_tokens_per_s": _per(usage.prompt_tokens, sum(cost.raw_prefill_s for cost in costs)),
        "raw_decode_tokens_per_s": _per(usage.call_tokens, sum(cost.raw_decode_s for cost in costs)),
        "raw_milliseconds_per_request": _per(
            1000 * sum(cost.raw_prefill_s + cost.raw_decode_s for cost in costs), len(costs)
        ),
        "peak_memory_mb": peak_memory_mb(),
    }


def _costs(model: Model, examples: Sequence[Example], rounds: int) -> Iterator[Cost]:
    for example in examples:
        if example.refused:
            continue
        try:
            yield _cost(model, example, rounds)
        except (SchemaError, BudgetError):
            continue


def _cost(model: Model, example: Example, rounds: int) -> Cost:
    engine = _TimedEngine(model.engine)
    timed = replace(model, engine=cast("Engine", engine))
    engine.rewind(0)
    answer = timed.session(example.tools, rounds=0, top_k=0).complete(example.messages)
    forward_s = sum(engine.passes_s)
    prompt = list(engine.tokens)[: answer.usage.prompt_tokens]
    raw_prefill_s, raw_decode_s = _raw_loop(engine, prompt, [step.token for step in answer.rounds[0].steps])
    engine.rewind(0)
    engine.passes_s.clear()
    refined = timed.session(example.tools, rounds=rounds, top_k=0, calibration=None).complete(example.messages)
    share = _unchanged_share(refined.rounds, engine.passes_s)
    return Cost(answer.usage, forward_s, raw_prefill_s, raw_decode_s, share)


def _raw_loop(engine: _TimedEngine, prompt: Sequence[int], written: Sequence[int]) -> tuple[float, float]:
    """Seconds for the prompt in one call and for the answer in one call a token. Its last token needs no pass."""
    engine.rewind(0)
    engine.passes_s.clear()
    engine.forward(prompt)
    for token in written[:-1]:
        engine.forward([token])
    return engine.passes_s[0], sum(engine.passes_s[1:])


def _unchanged_share(rounds: Sequence[Round], passes_s: Sequence[float]) -> float | None:
    """Forward time of the second round over the first's, where the second changed nothing."""
    if len(rounds) < 2 or rounds[1].calls != rounds[0].calls:
        return None
    first, second = (one.usage.forward_passes for one in rounds[:2])
    return sum(passes_s[first : first + second]) / sum(passes_s[:first])


def _per(amount: float, whole: float) -> float:
    return round(amount / whole, 3) if whole else 0.0


def peak_memory_mb() -> float | None:
    """The most memory this process ever held, in MB of 10^6 bytes; None where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e6, 1)


def table(report: Mapping[str, Any]) -> str:
    """The report for people."""
    skipped = f" ({report['skipped']} skipped: they do not fit)" if report["skipped"] else ""
    unchanged, memory = report["unchanged_round_share"], report["peak_memory_mb"]
    rows: list[tuple[str, float, float]] = [
        ("prefill, tokens/s", report["prefill_tokens_per_s"], report["raw_prefill_tokens_per_s"]),
        ("decode, tokens/s", report["decode_tokens_per_s"], report["raw_decode_tokens_per_s"]),
        ("forward passes a request", report["forward_passes_per_request"], report["tokens_per_request"]),
        ("milliseconds a request", report["milliseconds_per_request"], report["raw_milliseconds_per_request"]),
    ]
    lines = [f"{report['model']}, {report['requests']} requests{skipped}"]
    lines += [f"{'':26}{'toolace-edge':>14}{'raw loop':>14}"]
    lines += [f"{name:26}{ours:14,.1f}{raw:14,.1f}" for name, ours, raw in rows]
    lines += [f"{'time in forward passes':26}{report['forward_time_share']:14.1%}"]
    lines += [f"{'forced tokens':26}{report['forced_share']:14.1%}"]
    lines += [
        f"{'unchanged round':26}" + (f"{'none was':>14}" if unchanged is None else f"{unchanged:14.1%} of the first")
    ]
    lines += [f"{'peak memory':26}" + (f"{'unknown':>14}" if memory is None else f"{memory:11,.0f} MB")]
    return "\n".join(lines)
