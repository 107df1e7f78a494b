"""The proof of a conversion, while its result is still aside: a model that agrees with its source too seldom never gets
its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from toolace_edge.cli.output import echo
from toolace_edge.errors import Cancelled, InputError, MissingDependency, ToolaceEdgeError
from toolace_edge.formats import ASK

from .reference import make_reference, reference_bytes, too_large
from .verify import Report, Requests, Stage, Trial, check_agreement


@dataclass(frozen=True, slots=True)
class Proof:
    """`wanted`: yes, no, or (None) where it can be done. `least` is the share of equal calls below which it fails."""

    wanted: bool | None
    requests: Requests
    least: float | None

    def check_format(self, source: Path, fmt: str) -> None:
        """InputError, before the work, where a proof is wanted and nobody says how `source` writes calls."""
        if self.wanted and not fmt:
            raise _no_format(source)

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

        `whole` is the source as GGUF if there is one; `folder` is where a reference may be made, and logits lie.
        """
        if self.wanted is False:
            return None
        try:
            if not fmt:
                raise _no_format(source)
            trial = Trial(self.requests, folder, format_name=fmt, on_stage=on_stage)
            if made.is_file() and find_spec("llama_cpp") is None:
                raise MissingDependency("llama-cpp-python", "gguf")
            if self.wanted is None and too_large(size := reference_bytes(source, base)):
                raise InputError(
                    f"its source takes {size / 1e9:.1f} GB of memory.", hint="--verify does it all the same."
                )
            making = partial(on_stage, "Converting the source")
            reference = make_reference(source, folder, fmt=fmt, base=base, whole=whole, on_progress=making)
            measured = trial.of_source(reference)
        except Cancelled:
            raise
        except ToolaceEdgeError as error:  # what was made is not to blame
            if self.wanted:
                raise
            echo(f"Not verified: {error} {error.hint}".rstrip(), err=True)
            return None
        return trial.report(reference, measured, [made])

    def problem(self, report: Report | None) -> ToolaceEdgeError | None:
        """What there is to say where it agrees too seldom."""
        try:
            if report is not None:
                check_agreement(report, self.least)
        except ToolaceEdgeError as error:
            return error
        return None


def _no_format(source: Path) -> InputError:
    return InputError(f"{source} does not say how its model writes calls.", hint=ASK)
