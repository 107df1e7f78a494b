"""ToolACE-R's adaptive refinement (arXiv 2504.01400): the model reads its own answer, writes it once more, and stops.

The paper writes freely what comes after "refine this", and stops when two answers are alike. A small model then copies
what it reads, right or wrong; but how *likely* it is to write an answer again, having read it, says much about whether
the answer is right. So a round here asks that of the answer that stands and of its nearest others, and keeps the best:

    score(answer) = log P(answer | prompt) + log P(answer | prompt, answer, "refine")

The others begin as an answer did and leave it at a choice that was close (decode.Opening), the likeliest first. As the
second term is at most 0, one that was less likely from the start than the best score cannot win; one that was little
likelier hardly can, and would win by a hair. Neither is finished or read, and where no opening is worth it, nothing
changes: the loop stops by itself. docs/toolace-r.md has what both are worth.

As in the paper each round sees only the prompt and one answer, so that the prompt's states in the cache serve all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from toolace_edge.confidence import Calibration
from toolace_edge.decode import Decoded, GivenUp, OnStep, Opening, decode, finish, read_again
from toolace_edge.engines.base import Engine
from toolace_edge.errors import BudgetError
from toolace_edge.messages import Stop, Usage
from toolace_edge.sampling import GREEDY, Sampling

if TYPE_CHECKING:
    from llguidance import LLMatcher

# Measured on training lines left out of the training (docs/toolace-r.md): more of the one and less of the other cost up
# to 0.07 of the first answer's time, and mended no more there.
OTHERS = 2  # answers that a round looks at beside the one that stands
HEAD_START = 0.5  # nats by which one must be likelier than the best score before it is read


@dataclass(frozen=True, slots=True)
class Pen:
    """Writes to one prompt. `turn` are the tokens that ask for an answer once more; the others are decode's."""

    engine: Engine
    matcher: LLMatcher
    prompt: Sequence[int]
    turn: Sequence[int]
    copy_from: Sequence[int] = ()
    sampling: Sampling = GREEDY
    max_new_tokens: int = 512

    def write(self, on_step: OnStep | None = None) -> Decoded:
        """The first answer. BudgetError where none fits."""
        return decode(
            self.engine,
            self.matcher,
            prompt=self.prompt,
            copy_from=self.copy_from,
            sampling=self.sampling,
            max_new_tokens=self.max_new_tokens,
            on_step=on_step,
        )

    def finish(self, opening: Opening, least: float, draft: Sequence[int]) -> Decoded | GivenUp:
        """The likeliest answer that begins so, given up where it is no likelier than `least`. `draft` is another one.

        BudgetError where none that begins so fits.
        """
        return finish(
            self.engine,
            self.matcher,
            prompt=self.prompt,
            opening=opening,
            least=least,
            draft=draft,
            copy_from=self.copy_from,
            max_new_tokens=self.max_new_tokens,
        )

    def read(self, answer: Decoded) -> Decoded | None:
        """The answer, written once more after itself; None where the context has no room for that."""
        prompt = [*self.prompt, *answer.tokens, *self.turn]
        try:
            return read_again(self.engine, self.matcher, prompt=prompt, answer=answer.tokens)
        except BudgetError:
            return None


@dataclass(frozen=True, slots=True)
class Refined:
    """Every round's answer, the first one's first, and why there was no further one."""

    rounds: tuple[Decoded, ...]
    stop: Stop


def refine(
    first: Decoded,
    pen: Pen,
    *,
    rounds: int,
    calibration: Calibration | None = None,
    on_round: Callable[[int, Decoded], None] = lambda number, answer: None,
) -> Refined:
    """Refine the answer `first` at most `rounds` times. `on_round` sees each round after it.

    A round's `usage` is of all that was written and read in it.
    """
    done = [first]
    scale = _Scale(first, pen)
    while (stop := _stop(done, rounds, calibration)) is None:
        better = scale.weigh()
        if better is None:
            stop = "context"
            break
        done.append(better)
        on_round(len(done) - 1, better)
    return Refined(tuple(done), stop)


def _stop(done: Sequence[Decoded], rounds: int, calibration: Calibration | None) -> Stop | None:
    """Why to stop now; None to go on."""
    last = done[-1]
    if len(done) > 1 and last.text == done[-2].text:
        return "unchanged"
    if calibration is not None and last.confidence is not None and calibration.opens_gate(last.confidence):
        return "confident"
    if len(done) > rounds:
        return "max_rounds"
    return None if len(done) > 1 or last.openings else "unchanged"


class _Scale:
    """The best answer so far, its score once it was read, and the openings of others."""

    def __init__(self, first: Decoded, pen: Pen) -> None:
        self._pen = pen
        self._best = first
        self._score: float | None = None
        self._openings = list(first.openings)
        self._seen = {first.text}

    def weigh(self) -> Decoded | None:
        """The best of the answer that stands and some others. None where the context has no room to read it again."""
        usage = Usage()
        if self._score is None:
            again = self._pen.read(self._best)
            if again is None:
                return None
            usage += again.usage
            self._score = _log(self._best) + _log(again)
        for _ in range(OTHERS):
            spent, other = self._next()
            usage += spent
            if other is None:
                continue
            again = self._pen.read(other)
            if again is None:
                continue
            usage += again.usage
            if (score := _log(other) + _log(again)) > self._score:
                self._best, self._score = other, score
        return replace(self._best, usage=usage)

    def _next(self) -> tuple[Usage, Decoded | None]:
        """What the likeliest opening that is worth it becomes, and what that took; None where nothing is."""
        assert self._score is not None
        least = self._score + HEAD_START
        self._openings.sort(key=lambda opening: opening.confidence.log_product)
        if not self._openings or self._openings[-1].confidence.log_product <= least:
            return Usage(), None
        try:
            other = self._pen.finish(self._openings.pop(), least, self._best.tokens)
        except BudgetError:  # begun so, no answer fits
            return Usage(), None
        self._openings += other.openings
        if isinstance(other, GivenUp) or other.text in self._seen:
            return other.usage, None
        self._seen.add(other.text)
        return other.usage, other


def _log(answer: Decoded) -> float:
    return 0.0 if answer.confidence is None else answer.confidence.log_product
