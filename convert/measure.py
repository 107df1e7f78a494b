"""What one model answers and what it costs, measured in a process of its own.

For each request: the calls of one greedy round, and the logits over the right answer (teacher forcing), which go to a
file as float32 rows. The process holds one model and nothing else, so its peak memory is the model's.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toolace_edge.bench import peak_memory_mb
from toolace_edge.engines.base import common_prefix
from toolace_edge.errors import BudgetError
from toolace_edge.evaluate import Outcome, answer_example
from toolace_edge.examples import Example, read_examples
from toolace_edge.messages import Usage
from toolace_edge.prompts import build_prompt, encode_pieces
from toolace_edge.registry import Model, find, open_model

from .child import Progress, run_child, serve

if TYPE_CHECKING:
    from toolace_edge.engines.base import Engine

MAX_LOGITS_BYTES = 1 << 30  # on disk, a model; what is beyond it has calls but no logits


@dataclass(frozen=True, slots=True)
class Reply:
    """One request: the calls as JSON values (None: refused), whether they are right, and the ids with logits."""

    id: str
    calls: list[dict[str, Any]] | None
    right: bool
    gold_ids: list[int]


@dataclass(frozen=True, slots=True)
class Measurement:
    """Sizes in bytes, times in seconds, memory in MB of 10^6 bytes (None where the system does not tell).

    Prefill counts tokens that were read and not found in the cache; decode the tokens of calls, forced ones included.
    `logits` is a file of float32 rows [sum of len(gold_ids), vocab_size].
    """

    name: str
    path: str
    engine: str
    size_bytes: int
    load_s: float
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    peak_memory_mb: float | None
    vocab_size: int
    logits: str
    replies: list[Reply]

    def rows(self) -> list[NDArray[np.float32]]:
        """The logits of each reply, float32 [len(gold_ids), vocab_size], read from the file when they are touched."""
        count = sum(len(reply.gold_ids) for reply in self.replies)
        if not count:
            return [np.empty((0, self.vocab_size), np.float32) for _ in self.replies]
        whole = np.memmap(self.logits, np.float32, "r", shape=(count, self.vocab_size))
        return np.split(whole, np.cumsum([len(reply.gold_ids) for reply in self.replies])[:-1])


def measure(
    model: Path,
    data: Path,
    *,
    logits: Path,
    limit: int | None = None,
    format_name: str | None = None,
    threads: int | None = None,
    on_progress: Progress | None = None,
) -> Measurement:
    """Run `model` over the first `limit` lines of `data` in a child; the logits go to the file `logits`."""
    job = {"model": str(model), "data": str(data), "logits": str(logits), "limit": limit}
    job |= {"format": format_name, "threads": threads}
    found = run_child(__name__, job, f"{model} cannot be measured", on_progress)
    return Measurement(**{**found, "replies": [Reply(**reply) for reply in found["replies"]]})


def work(job: dict[str, Any], on_progress: Progress) -> dict[str, Any]:
    """The child."""
    examples = list(read_examples(Path(job["data"]), job["limit"]))
    entry = find(job["model"])
    start = time.perf_counter()
    replies: list[Reply] = []
    usage = Usage()
    with (
        open_model(entry.path, format_name=job["format"], threads=job["threads"]) as model,
        open(job["logits"], "wb", buffering=0) as stream,
    ):
        _ = model.engine.tokenizer  # built when it is first asked for; a part of loading
        load_s = time.perf_counter() - start
        vocab_size = model.engine.vocab_size
        for i, example in enumerate(examples):
            outcome = answer_example(model, example, rounds=0, top_k=0, calibration=None)
            usage += outcome.answer.usage if outcome.answer else Usage()
            replies.append(_reply(outcome, _write_logits(model, example, stream)))
            on_progress(i + 1, len(examples))
    return asdict(
        Measurement(
            name=entry.name,
            path=str(entry.path),
            engine="llama.cpp" if entry.kind == "gguf" else "onnxruntime",
            size_bytes=entry.size_bytes,
            load_s=round(load_s, 3),
            prefill_tokens_per_s=_rate(usage.prompt_tokens - usage.cached_tokens, usage.prefill_s),
            decode_tokens_per_s=_rate(usage.call_tokens, usage.decode_s),
            peak_memory_mb=_peak_memory_mb(),
            vocab_size=vocab_size,
            logits=job["logits"],
            replies=replies,
        )
    )


def _reply(outcome: Outcome, gold_ids: Sequence[int]) -> Reply:
    answer = outcome.answer
    calls = None if answer is None else [{"name": c.name, "arguments": dict(c.arguments)} for c in answer.calls]
    return Reply(outcome.example.id, calls, outcome.right, list(gold_ids))


def _write_logits(model: Model, example: Example, stream: FileIO) -> list[int]:
    """The ids of the right answer, whose rows are now in the file; none where they do not fit, there or on the disk."""
    engine: Engine = model.engine
    if example.refused is not None:
        return []
    prompt = build_prompt(engine, model.format, example.tools, example.messages).ids
    gold = encode_pieces(engine, model.format.render_answer(example.gold, ""))
    if stream.tell() + len(gold) * engine.vocab_size * 4 > MAX_LOGITS_BYTES:
        return []
    ids = [*prompt, *gold[:-1]]  # the row of a token gives the next one
    engine.rewind(min(common_prefix(engine.tokens, ids), len(prompt) - 1))
    try:
        rows = engine.forward(ids[len(engine.tokens) :], n_logits=len(gold))
    except BudgetError:
        return []
    return gold if _append(stream, np.ascontiguousarray(rows, np.float32).tobytes()) else []


def _append(stream: FileIO, content: bytes) -> bool:
    """All of it or nothing; a full disk costs a comparison of logits, not the one of calls."""
    start, left = stream.tell(), memoryview(content)
    try:
        while left:
            left = left[stream.write(left) :]
    except OSError:
        stream.seek(start)
        stream.truncate()
        return False
    return True


def _rate(tokens: int, seconds: float) -> float:
    return round(tokens / seconds, 1) if seconds else 0.0


def _peak_memory_mb() -> float | None:
    """Of this program alone: what `getrusage` tells on Linux includes the process that it was started from."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6, 1)
    except (OSError, StopIteration, ValueError):
        return peak_memory_mb()


if __name__ == "__main__":
    sys.exit(serve(work))
