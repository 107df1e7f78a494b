"""What did a conversion keep? Models beside their source, on the same requests: calls, logits, size, speed, memory.

Calls count: a request agrees when the model answers it with exactly the calls of the source, greedy and without
refinement. Each model runs in a process of its own (measure.py), one after the other.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolace_edge import __version__
from toolace_edge.errors import InputError, ToolaceEdgeError
from toolace_edge.evaluate import wilson
from toolace_edge.examples import read_examples

from .compare import Comparison, compare, merged
from .measure import Measurement, Reply, measure

if TYPE_CHECKING:
    from .reference import Reference

SHIPPED = Path(__file__).with_name("requests.jsonl")
_KEPT_DIFFERENCES = 20

Stage = Callable[[str, int, int], None]  # (what is being done, done, in all)


@dataclass(frozen=True, slots=True)
class Requests:
    """Lines with tools and right calls: the first `limit` of `file`, which is the set that comes along unless given."""

    file: Path = SHIPPED
    limit: int | None = None

    def check(self) -> None:
        """DataError or InputError where the file has a line that cannot be read, or none."""
        if self.file != SHIPPED:
            for _ in read_examples(self.file, self.limit):
                pass

    @property
    def label(self) -> str:
        return "the requests that come with toolace-edge" if self.file == SHIPPED else self.file.name


@dataclass(frozen=True, slots=True)
class Difference:
    """A request that two models answer with other calls; None is a refusal."""

    id: str
    source: list[dict[str, Any]] | None
    model: list[dict[str, Any]] | None


@dataclass(frozen=True, slots=True)
class Row:
    """One model. The last five are None for the source; `logits` also where the vocabularies differ.

    `accuracy` is over all requests, `agreement` over the `compared` ones that the source can take; `interval` are its
    95 % bounds. Speeds are tokens a second, memory is MB of 10^6 bytes.
    """

    name: str
    engine: str
    size_bytes: int
    load_s: float
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    peak_memory_mb: float | None
    accuracy: float
    agreement: float | None = None
    compared: int | None = None
    interval: tuple[float, float] | None = None
    logits: Comparison | None = None
    differences: tuple[Difference, ...] | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """`models` beside their `source`, over `n` requests of `data`."""

    n: int
    data: str
    source: Row
    models: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        return {"toolace_edge": __version__, **asdict(self)}


@dataclass(frozen=True, slots=True)
class Trial:
    """How models are run over `requests`. Their logits are files in `folder`; only the source's are left there."""

    requests: Requests
    folder: Path
    format_name: str | None = None
    threads: int | None = None
    on_stage: Stage | None = None

    def of_source(self, reference: Reference) -> Measurement:
        """What every model is held to. InputError where the source can take none of the requests."""
        source = self._run(reference.path, "the source")
        if all(reply.calls is None for reply in source.replies):
            what = self.requests.file
            raise InputError(f"The source can take none of the requests of {what}.", hint="Give other data.")
        return source

    def report(self, reference: Reference, source: Measurement, models: Sequence[Path]) -> Report:
        """Each of `models` beside the `source` that was run."""
        rows: list[Row] = []
        for path in models:
            found = self._run(path, path.name)
            rows.append(_compared(source, found))
            Path(found.logits).unlink()
        return Report(len(source.replies), self.requests.label, _row(source, reference.label), tuple(rows))

    def _run(self, path: Path, label: str) -> Measurement:
        handle, logits = tempfile.mkstemp(".f32", dir=self.folder)
        os.close(handle)
        on_stage = self.on_stage
        return measure(
            path.resolve(),
            self.requests.file.resolve(),
            logits=Path(logits),
            limit=self.requests.limit,
            format_name=self.format_name,
            threads=self.threads,
            on_progress=None if on_stage is None else lambda done, total: on_stage(f"Verifying {label}", done, total),
        )


def _row(found: Measurement, name: str, **more: Any) -> Row:
    return Row(
        name=name,
        engine=found.engine,
        size_bytes=found.size_bytes,
        load_s=found.load_s,
        prefill_tokens_per_s=found.prefill_tokens_per_s,
        decode_tokens_per_s=found.decode_tokens_per_s,
        peak_memory_mb=found.peak_memory_mb,
        accuracy=sum(reply.right for reply in found.replies) / len(found.replies),
        **more,
    )


def _compared(source: Measurement, model: Measurement) -> Row:
    pairs = [(one, other) for one, other in zip(source.replies, model.replies, strict=True) if one.calls is not None]
    differences = [Difference(one.id, one.calls, other.calls) for one, other in pairs if not _same(one, other)]
    agreement = 1 - len(differences) / len(pairs)
    return _row(
        model,
        model.name,
        agreement=agreement,
        compared=len(pairs),
        interval=wilson(agreement, len(pairs)),
        logits=_compare_logits(source, model),
        differences=tuple(differences[:_KEPT_DIFFERENCES]),
    )


def _same(one: Reply, other: Reply) -> bool:
    """As JSON, so that true is not 1; the order of calls counts, that of arguments does not."""
    return json.dumps(one.calls, sort_keys=True) == json.dumps(other.calls, sort_keys=True)


def _compare_logits(source: Measurement, model: Measurement) -> Comparison | None:
    """Over the right answers that both were fed in the same tokens."""
    if source.vocab_size != model.vocab_size:
        return None
    parts = [
        compare(np.asarray(theirs), np.asarray(ours))
        for one, other, theirs, ours in zip(source.replies, model.replies, source.rows(), model.rows(), strict=True)
        if one.gold_ids and one.gold_ids == other.gold_ids
    ]
    return merged(parts) if parts else None


def check_agreement(report: Report, least: float | None) -> None:
    """ToolaceEdgeError where a model of `report` agrees with its source less often than `least`, a share."""
    for row in report.models:
        if least is not None and row.agreement is not None and row.agreement < least:
            raise ToolaceEdgeError(
                f"{row.name} answers {row.agreement:.1%} of {row.compared} requests with the calls of its source, and "
                f"{least:.1%} were asked for; it was not put in place.",
                hint="Use a kind with more bits, an importance matrix, or a lower --min-agreement.",
            )
