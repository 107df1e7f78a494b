"""What a conversion may put its result in the place of: an older model of ours, whole, and nothing else.

Never what it is made from, nor a file that somebody put beside a model; its card and licence stay. What there was is
there until the new one is whole.
"""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path

from toolace_edge.engines.gguf_header import read_header
from toolace_edge.errors import InputError
from toolace_edge.model_facts import CARD_FILES, FACTS_FILE, read_hashes

from .report import write_report
from .stamp import replace_hashed
from .verify import Report

_SUFFIXES = (".verify.json", ".verify.md", ".verify.svg")
_REPORT = "VERIFY"
_KNOWN = {FACTS_FILE, *CARD_FILES, *(f"{_REPORT}.{suffix}" for suffix in ("json", "md", "svg"))}


def check_folder(out: Path, *sources: Path | None) -> None:
    """InputError where the model folder `out` would take the place of one of `sources`, or of what is no model."""
    if out.name in ("", ".."):
        raise InputError(f"{str(out)!r} is no name for a model folder.", hint="Give a name, as in `../NAME`.")
    for source in sources:
        if source is not None and source.resolve().is_relative_to(out.resolve()):
            raise InputError(
                f"{out} would take the place of {source}, which it is made from.", hint="Give another name."
            )
    if not out.exists():
        return
    if not (out / FACTS_FILE).is_file():
        raise InputError(f"{out} exists and is not a model folder.", hint="Give another name, or remove it.")
    others = sorted({entry.name for entry in out.iterdir()} - _KNOWN - read_hashes(out).keys())
    if others:
        raise InputError(
            f"{out} holds {', '.join(others[:5])}, which is no part of the model that would be replaced.",
            hint="Give another name, or move that away.",
        )


def check_file(out: Path, *sources: Path | None) -> None:
    """InputError where no engine opens a file of this name, or it would take the place of one of `sources`."""
    if out.suffix != ".gguf":
        raise InputError(
            f"{out} does not end in .gguf, and no engine would open it.",
            hint=f"Write {out}.gguf, or {out}/ for a folder to put it into.",
        )
    for source in sources:
        if source is not None and source.resolve() == out.resolve():
            raise InputError(f"{out} would take the place of what it is made from.", hint="Give another name.")


def place_folder(made: Path, out: Path, report: Report | None, aside: Path) -> None:
    """To its name, with its report inside; an older one leaves its card, and goes to the folder `aside`."""
    if report is not None:
        write_report(report, made, _REPORT)
    old = aside / "old"
    for name in CARD_FILES:
        if (out / name).is_file():
            shutil.copy2(out / name, made / name)
    try:
        if out.exists():
            out.rename(old)
        made.rename(out)
    except BaseException:
        if old.exists():
            old.rename(out)
        raise


def place_file(made: Path, out: Path, report: Report | None) -> None:
    """A .gguf file to its name, with its report beside it and none of an older one.

    The report goes first: where it cannot, the older file stays.
    """
    reports = [] if report is None else write_report(report, made.parent, f"{out.stem}.verify")
    for file in reports:
        file.replace(out.with_name(file.name))
    replace_hashed(made, out)
    if report is not None:
        return
    for suffix in _SUFFIXES:
        out.with_name(out.stem + suffix).unlink(missing_ok=True)


def file_name(name: str, file: Path, kind: str) -> str:
    """NAME-SIZE-KIND.gguf for the GGUF `file`, as others name theirs: `nano-8.4M-Q4_K_M.gguf`."""
    base = plain_name(name)
    if not re.search(r"(^|[-_])\d+(\.\d+)?[KMBT]($|[-_])", base, re.IGNORECASE):
        weights = sum(math.prod(one.shape) for one in read_header(file).tensors if one.name != "rope_freqs.weight")
        base += f"-{size_label(weights)}"
    return f"{base}-{kind.upper()}.gguf"


def plain_name(name: str) -> str:
    """What may be part of a file's name, of a name that a stranger's file may have said."""
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "model"


def size_label(weights: int) -> str:
    """`8.4M`, `70B`: two digits, and no zero behind a point."""
    units = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K"))
    unit, letter = next((one for one in units if weights >= one[0] * 0.9995), units[-1])
    amount = f"{weights / unit:.1f}" if weights / unit < 9.95 else f"{weights / unit:.0f}"
    return f"{amount.removesuffix('.0')}{letter}"
