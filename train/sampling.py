"""k answers to each training line, scored against gold: the costly half of ToolACE-R, and all that its other half
needs.

    {"sampling": {"model", "data", "k", "temperature", "seed", ...}}                     first, what was asked of whom
    {"id", "request", "samples": [{"calls": [...] | null, "right": true | false}, ...]}  a line each, in the data's
    order

The first sample is the greedy answer, the one that refinement will meet; the others are drawn. `calls` is null where
there was no answer to read. A run that was killed goes on after the last whole line; one that asks something else is
refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from toolace_edge.errors import BudgetError, InputError, SchemaError
from toolace_edge.examples import Example
from toolace_edge.matching import calls_match
from toolace_edge.messages import ToolCall
from toolace_edge.registry import Model
from toolace_edge.sampling import GREEDY, Sampling

from .run_files import text_lines

Calls = tuple[ToolCall, ...]


class Answerer(Protocol):
    """Something that answers a line `k` times. `at_once`: how many lines it serves at the same time."""

    at_once: int

    def answers(self, example: Example, k: int) -> list[Calls | None]: ...


@dataclass(slots=True)
class LocalAnswerer:
    """Our own runtime, one line at a time; the prompt is read once for all samples."""

    model: Model
    temperature: float = 1.0
    seed: int = 0
    at_once: int = 1

    def answers(self, example: Example, k: int) -> list[Calls | None]:
        ways = [GREEDY, *(Sampling(self.temperature, seed=self.seed * 1000 + i) for i in range(1, k))]
        return [self._answer(example, way) for way in ways]

    def _answer(self, example: Example, way: Sampling) -> Calls | None:
        """None where the runtime refuses the line, which is not the same as calling nothing."""
        try:
            session = self.model.session(example.tools, rounds=0, top_k=0, sampling=way)
            return tuple(session.complete(list(example.messages)).calls)
        except (SchemaError, BudgetError):
            return None


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer and whether it is right."""

    calls: Calls | None
    right: bool


@dataclass(frozen=True, slots=True)
class Record:
    """The samples of one line."""

    id: str
    request: str
    samples: tuple[Sample, ...]

    @property
    def pass_rate(self) -> float:
        """The share that is right; one minus it is the line's difficulty for the model that was asked."""
        return sum(sample.right for sample in self.samples) / len(self.samples)


def sample(
    answerer: Answerer,
    examples: Iterable[Example],
    k: int,
    out: Path,
    about: Mapping[str, Any],
    on_record: Callable[[Record], None] | None = None,
) -> None:
    """Writes `out`, or goes on with it. `about` says which model, data and seed; `on_record` sees each new record."""
    header = {"sampling": {**about, "k": k}}
    out.parent.mkdir(parents=True, exist_ok=True)
    done = _whole_lines(out, header)
    with out.open("a", encoding="utf-8") as file, ThreadPoolExecutor(answerer.at_once) as pool:
        if not done:
            file.write(_begins(header).decode() + "\n")
        rest = islice((e for e in examples if e.refused is None), max(done - 1, 0), None)
        for record in _in_order(pool, answerer, rest, k):
            file.write(_as_line(record))
            file.flush()
            if on_record:
                on_record(record)


def _in_order(pool: ThreadPoolExecutor, answerer: Answerer, examples: Iterable[Example], k: int) -> Iterator[Record]:
    """As many lines in flight as the answerer takes, and a few more; records come out in the order of the lines."""
    waiting: list[Future[Record]] = []
    for example in examples:
        waiting.append(pool.submit(_record, answerer, example, k))
        if len(waiting) > 2 * answerer.at_once:
            yield waiting.pop(0).result()
    while waiting:
        yield waiting.pop(0).result()


def _record(answerer: Answerer, example: Example, k: int) -> Record:
    samples = [
        Sample(calls, calls is not None and calls_match(calls, example.gold, example.accept))
        for calls in answerer.answers(example, k)
    ]
    request = next((m.content for m in reversed(example.messages) if m.role == "user"), "")
    return Record(example.id, request, tuple(samples))


def _whole_lines(path: Path, header: Mapping[str, Any]) -> int:
    """How many lines `path` holds, once what a kill left of a last one is cut off.

    InputError, and nothing is cut, where it is another's.
    """
    if not path.exists():
        return 0
    with path.open("rb+") as file:
        lines = file.read().split(b"\n")
        if len(lines) > 1:
            _check_header(path, _header(lines[0], path), header)
        elif not _begins(header).startswith(lines[0]):
            raise _no_samples(path)
        if lines[-1]:  # no line end: it was never finished
            file.seek(-len(lines[-1]), os.SEEK_END)
            file.truncate()
    return len(lines) - 1


def _begins(header: Mapping[str, Any]) -> bytes:
    """The first line of a file."""
    return json.dumps(header, ensure_ascii=False).encode()


def _header(line: bytes | str, path: Path) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("sampling"), dict):
        raise _no_samples(path)
    return found


def _no_samples(path: Path) -> InputError:
    return InputError(
        f"{path} holds no samples.", hint="`toolace-edge train sample` makes them, in a file of their own."
    )


def _check_header(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    old, new = before["sampling"], now["sampling"]
    if changed := [name for name in {**old, **new} if old.get(name) != new.get(name)]:
        raise InputError(
            f"{path} was sampled with another {' and another '.join(changed)}, which is not what is asked now.",
            hint="Give another output file, or delete that one.",
        )


def _as_line(record: Record) -> str:
    samples = [{"calls": None if s.calls is None else calls_as_json(s.calls), "right": s.right} for s in record.samples]
    fields = {"id": record.id, "request": record.request, "samples": samples}
    return json.dumps(fields, ensure_ascii=False) + "\n"


def calls_as_json(calls: Calls) -> list[dict[str, Any]]:
    """As the files of this folder hold them."""
    return [{"name": call.name, "arguments": dict(call.arguments)} for call in calls]


def calls_of(listed: Any) -> Calls:
    """Such calls back. KeyError or TypeError where they are none."""
    calls = tuple(ToolCall(call["name"], call["arguments"]) for call in listed)
    for call in calls:
        if not isinstance(call.name, str) or not isinstance(call.arguments, dict):
            raise TypeError(f"a call has a name and an object of arguments, not {call.arguments!r:.40}")
    return calls


def read_records(path: Path) -> Iterator[Record]:
    """The records of a finished file. InputError where it is none, or holds what cannot be chosen from: an id twice, or
    lines with different numbers of answers.
    """
    lines, seen, k = text_lines(path), set[str](), 0
    _header(next(lines, ""), path)
    for number, line in enumerate(lines, 2):
        try:
            record = _record_of(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}, line {number}: not the samples of a line ({type(error).__name__}: {error}).",
                hint="A killed `toolace-edge train sample` is finished by the same command.",
            ) from error
        if record.id in seen:
            raise InputError(
                f"{path}, line {number}: the id {record.id!r} comes twice, and lines are chosen by their ids."
            )
        k = k or len(record.samples)
        if len(record.samples) != k:
            raise InputError(f"{path}, line {number}: {len(record.samples)} answers, and {k} to the lines before.")
        seen.add(record.id)
        yield record


def _record_of(fields: Any) -> Record:
    samples = tuple(Sample(None if s["calls"] is None else calls_of(s["calls"]), s["right"]) for s in fields["samples"])
    if not samples:
        raise ValueError("no answers")
    return Record(str(fields["id"]), str(fields["request"]), samples)
