"""The end of a conversion: verified while it is still aside, then put in place, or not.

A model that agrees with its source too seldom never gets its name. Whatever ends the program before that leaves what
was there before.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from toolace_edge.cli.output import echo
from toolace_edge.engines.gguf_header import read_header
from toolace_edge.errors import InputError, MissingDependency
from toolace_edge.model_facts import FACTS_FILE

from .reference import make_reference, reference_bytes, too_large
from .report import write_report
from .stamp import refresh_hash
from .verify import Report, Requests, Stage, check_agreement, verify

_SUFFIXES = (".verify.json", ".verify.md", ".verify.svg")


@dataclass(frozen=True, slots=True)
class Proof:
    """`wanted`: yes, no, or (None) where it can be done. `least` is the share of equal calls below which it fails."""

    wanted: bool | None
    requests: Requests
    least: float | None

    def prove(
        self,
        source: Path,
        made: Path,
        *,
        fmt: str,
        base: Path | None,
        whole: Path | None,
        folder: Path,
        on_stage: Stage,
    ) -> Report | None:
        """The comparison of `made` with `source`; None, with a sentence on stderr, where nobody asked and it cannot be.

        `whole` is the source as GGUF if there is one; `folder` is where a reference may be made.
        """
        if self.wanted is False:
            return None
        if self.wanted is None and too_large(size := reference_bytes(source, base)):
            echo(
                f"Not verified: its source takes {size / 1e9:.1f} GB of memory. --verify does it all the same.",
                err=True,
            )
            return None
        try:
            if made.is_file() and find_spec("llama_cpp") is None:
                raise MissingDependency("llama-cpp-python", "gguf")
            making = partial(on_stage, "Converting the source")
            reference = make_reference(source, folder, fmt=fmt, base=base, whole=whole, on_progress=making)
            report = verify(reference, [made], self.requests, format_name=None, on_stage=on_stage)
        except (InputError, MissingDependency) as error:
            if self.wanted:
                raise
            echo(f"Not verified: {error} {error.hint}".rstrip(), err=True)
            return None
        return report

    def check(self, report: Report | None) -> None:
        """ToolaceEdgeError where it agrees too seldom."""
        if report is not None:
            check_agreement(report, self.least)


def check_folder(out: Path) -> None:
    """InputError where something else than a model would be replaced."""
    if out.exists() and not (out / FACTS_FILE).is_file():
        raise InputError(f"{out} exists and is not a model folder.", hint="Give another name, or remove it.")


def place_folder(made: Path, out: Path, report: Report | None, aside: Path) -> None:
    """A model folder to its name, with its report inside; an older one goes to the folder `aside`."""
    if report is not None:
        write_report(report, made, "VERIFY")
    old = aside / "old"
    try:
        if out.exists():
            out.rename(old)
        made.rename(out)
    except BaseException:
        if old.exists():
            old.rename(out)
        raise


def place_file(made: Path, out: Path, report: Report | None) -> None:
    """A .gguf file to its name, with its report beside it and none of an older one."""
    made.replace(out)
    refresh_hash(out)
    if report is not None:
        write_report(report, out.parent, f"{out.stem}.verify")
        return
    for suffix in _SUFFIXES:
        out.with_name(out.stem + suffix).unlink(missing_ok=True)


def file_name(name: str, file: Path, kind: str) -> str:
    """NAME-SIZE-KIND.gguf for the GGUF `file`, as others name theirs: `nano-8.4M-Q4_K_M.gguf`."""
    base = re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "model"
    if not re.search(r"(^|[-_])\d+(\.\d+)?[KMBT]($|[-_])", base, re.IGNORECASE):
        weights = sum(math.prod(one.shape) for one in read_header(file).tensors if one.name != "rope_freqs.weight")
        base += f"-{size_label(weights)}"
    return f"{base}-{kind.upper()}.gguf"


def size_label(weights: int) -> str:
    """`8.4M`, `70B`: two digits, and no zero behind a point."""
    units = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K"))
    unit, letter = next((one for one in units if weights >= one[0] * 0.9995), units[-1])
    amount = f"{weights / unit:.1f}" if weights / unit < 9.95 else f"{weights / unit:.0f}"
    return f"{amount.removesuffix('.0')}{letter}"
