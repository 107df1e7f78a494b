"""What `train sample` and `train select` do with their flags."""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import click

from toolace_edge.errors import InputError
from toolace_edge.examples import read_examples
from toolace_edge.registry import find, open_model

from .endpoint import EndpointAnswerer, api_key
from .refinement import pairs, write_drafts
from .run_files import digest, replace_text
from .sampling import Answerer, LocalAnswerer, read_records
from .sampling import sample as sample_lines
from .selection import at_random, write_ids
from .selection import select as select_lines


def run(
    data: Path, out: Path, model: str | None, url: str | None, in_flight: int, k: int, temperature: float,
    limit: int | None, seed: int,
) -> None:  # fmt: skip
    """Samples until the data ends; progress on stderr."""
    if url is not None and model is None:
        raise InputError("--url needs --model, the model's name on that server.")
    about = {
        "model": model or "default", "url": url, "data": data.name, "temperature": temperature, "seed": seed,
        "data_sha256": digest(data), "model_sha256": None if url else _hash_of(find(model).path),
    }  # fmt: skip
    examples = islice(read_examples(data), limit)
    with ExitStack() as stack:
        answerer: Answerer
        if url is not None:
            answerer = EndpointAnswerer(url, model or "", api_key(), temperature, seed, in_flight)
        else:
            answerer = LocalAnswerer(stack.enter_context(open_model(model)), temperature, seed)
        with click.progressbar(range(_count(data, limit)), label="lines", file=sys.stderr) as bar:
            sample_lines(answerer, examples, k, out, about, lambda _: bar.update(1))
    if isinstance(answerer, EndpointAnswerer) and answerer.refused:
        click.echo(f"{answerer.refused} answers were refused by the server, and count as wrong", err=True)


def _hash_of(model: Path) -> str:
    """SHA-256 of a model's file, or of those of all files in its folder, by name."""
    if model.is_file():
        return digest(model)
    files = sorted(file for file in model.rglob("*") if file.is_file())
    listed = "".join(f"{digest(file)} {file.relative_to(model).as_posix()}\n" for file in files)
    return hashlib.sha256(listed.encode()).hexdigest()


def _count(data: Path, limit: int | None) -> int:
    """How many lines there are to go through, for the bar; reading them is another matter."""
    with data.open("rb") as raw:
        lines = sum(1 for _ in (gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == b"\x1f\x8b" else raw))
    return lines if limit is None else min(limit, lines)


def choose(
    samples: Path, out: Path, solved: float, hopeless: float, unchanged: float, as_random: bool, seed: int
) -> None:
    """Writes ids.txt (a line an id), drafts.jsonl and selection.json into `out`; says on stdout what was chosen."""
    if solved + hopeless >= 1:
        raise InputError(f"--solved {solved} and --hopeless {hopeless} leave no room for the lines in between.")
    records = list(read_records(samples))
    if not records:
        raise InputError(f"{samples} holds no samples.", hint="`toolace-edge train sample` makes them.")
    selection = select_lines(records, solved=solved, hopeless=hopeless, seed=seed)
    chosen = at_random(records, len(selection.chosen), seed=seed) if as_random else selection.chosen
    kept = set(chosen)
    drafts = pairs((record for record in records if record.id in kept), unchanged=unchanged, seed=seed)
    out.mkdir(parents=True, exist_ok=True)
    facts: dict[str, Any] = {
        "lines": len(records), "chosen": len(chosen), "random": as_random, "histogram": selection.histogram,
        "drafts": len(drafts), "right_drafts": sum(pair.right for pair in drafts), "seed": seed,
        "solved": solved, "hopeless": hopeless, "unchanged": unchanged,
    }  # fmt: skip
    write_drafts(drafts, out / "drafts.jsonl")
    write_ids(chosen, out / "ids.txt")
    replace_text(out / "selection.json", json.dumps(facts) + "\n")
    click.echo(json.dumps(facts))
