"""ToolACE-R's adaptive refinement (arXiv 2504.01400): the model reads its own answer, writes it once more, and stops.

Each round sees the prompt, the answer of the round before and the turn that asks for another. The paper lets the
context grow with every round; here only the last answer stays, as a model is trained on pairs of answers, and so the
prompt's states in the cache serve every round. The last answer is the next one's draft: a round that changes nothing
is one forward pass over the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from toolace_edge.confidence import Calibration
from toolace_edge.decode import Decoded
from toolace_edge.messages import Stop

_SPARE = 32  # tokens by which a better answer may be longer


@dataclass(frozen=True, slots=True)
class Refined:
    """Every round's answer, the first one's first, and why there was no further one."""

    rounds: tuple[Decoded, ...]
    stop: Stop


Write = Callable[[int, Sequence[int], Sequence[int]], Decoded]  # (round, prompt, draft) -> an answer


def refine(
    write: Write,
    *,
    prompt: Sequence[int],
    turn: Sequence[int],
    n_ctx: int,
    rounds: int,
    calibration: Calibration | None = None,
) -> Refined:
    """Write an answer, and write it again at most `rounds` times. `turn` are the tokens that ask for another.

    A round needs room in the context of `n_ctx` tokens for an answer a little longer than the last one.
    """
    done = [write(0, prompt, ())]
    while (stop := _stop(done, rounds, calibration)) is None:
        last = done[-1].tokens
        context = [*prompt, *last, *turn]
        if len(context) + len(last) + _SPARE > n_ctx:
            stop = "context"
            break
        done.append(write(len(done), context, last))
    return Refined(tuple(done), stop)


def _stop(done: Sequence[Decoded], rounds: int, calibration: Calibration | None) -> Stop | None:
    """Why to stop now; None to go on."""
    last = done[-1]
    earlier = [answer.text for answer in done[:-1]]
    if earlier and last.text == earlier[-1]:
        return "unchanged"
    if last.text in earlier:
        return "cycle"
    if last.confidence is None:  # without a free choice every round would write the same
        return "unchanged"
    if calibration is not None and calibration.opens_gate(last.confidence):
        return "confident"
    if len(done) > rounds:
        return "max_rounds"
    return None
