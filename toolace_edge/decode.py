"""The token loop: an engine's logits under a grammar become one finished answer, in as few forward passes as can be.

A pass is one `forward` over the tokens chosen last, the tokens that the grammar forces after them, and a draft. It
gives logits for one free choice, and one more for each token of the draft that turns out right. So the number of
passes is the number of real decisions at most, not of tokens.

What is chosen does not depend on drafts: a choice is made at each position from that position's logits, with or
without one, and a draft only decides how many positions a pass covers.

Where a choice was close, the runner-up begins another answer that might have been meant: an opening, which `finish`
makes an answer of. `read_again` writes a known answer anew to see how likely it is there. refine.py needs both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING

from toolace_edge.confidence import Confidence
from toolace_edge.drafts import Drafter
from toolace_edge.engines.base import Engine, common_prefix
from toolace_edge.errors import BudgetError, EngineError
from toolace_edge.guard import Guard
from toolace_edge.messages import Step, StepKind, Usage
from toolace_edge.sampling import GREEDY, Chooser, Mask, Odds, Sampling

if TYPE_CHECKING:
    import numpy as np
    from llguidance import LLMatcher
    from numpy.typing import NDArray

    Choose = Callable[[int, NDArray[np.float32], NDArray[np.intp]], int]

_FAR = 10_000  # tokens: an answer that nobody waits for
_CLOSE = 0.03  # of the chosen token's probability: a runner-up below that begins nothing
_RIVALS = 2  # runners-up of one choice that may begin something

OnStep = Callable[[Step], None]


@dataclass(frozen=True, slots=True)
class Opening:
    """How another answer begins: as one did up to a choice, then with the runner-up. `confidence` is of all of it."""

    steps: tuple[Step, ...]
    confidence: Confidence


@dataclass(frozen=True, slots=True)
class Decoded:
    """One finished answer. `tokens` end with the end token; the engine's cache may lack the last of them.

    `text` are their bytes, control tokens included. `confidence` is None where the grammar left no choice at all.
    `openings` are those of other answers, in the order of their choices; none where tokens were drawn at random.
    """

    tokens: tuple[int, ...]
    text: bytes
    steps: tuple[Step, ...]
    usage: Usage
    confidence: Confidence | None
    openings: tuple[Opening, ...] = ()


@dataclass(frozen=True, slots=True)
class GivenUp:
    """An answer that was not finished: what it had taken, and the openings on its way."""

    usage: Usage
    openings: tuple[Opening, ...]


def decode(
    engine: Engine,
    matcher: LLMatcher,
    *,
    prompt: Sequence[int],
    draft: Sequence[int] = (),
    copy_from: Sequence[int] = (),
    sampling: Sampling = GREEDY,
    max_new_tokens: int = 512,
    on_step: OnStep | None = None,
) -> Decoded:
    """Write one answer to `prompt`, of which the engine's cache may hold a beginning already.

    `draft` is a whole answer that may come out again; `copy_from` tokens whose words string values may repeat.
    `matcher` is left as it is. `on_step` sees each token as it is decided; none is taken back.
    BudgetError where no answer fits; Cancelled where `engine.cancelled` says so, with the cache still consistent.
    """
    keep = sampling.temperature == 0.0
    loop = _Loop(engine, matcher, prompt, draft, copy_from, _by_logits(sampling), keep, on_step)
    return loop.run(max_new_tokens)


def finish(
    engine: Engine,
    matcher: LLMatcher,
    *,
    prompt: Sequence[int],
    opening: Opening,
    least: float,
    draft: Sequence[int] = (),
    copy_from: Sequence[int] = (),
    max_new_tokens: int = 512,
) -> Decoded | GivenUp:
    """The likeliest answer that begins with `opening`; given up as soon as its log probability falls to `least`."""
    loop = _Loop(engine, matcher, prompt, draft, copy_from, _by_logits(GREEDY), True, None, opening, least)
    return loop.run_to(max_new_tokens)


def read_again(engine: Engine, matcher: LLMatcher, *, prompt: Sequence[int], answer: Sequence[int]) -> Decoded | None:
    """`answer`, which `decode` wrote to another prompt, written to this one in one forward pass.

    Its probabilities are those that it has here. None, or BudgetError, where it does not fit.
    """

    def written(place: int, _: NDArray[np.float32], allowed: NDArray[np.intp]) -> int:
        token = answer[place] if place < len(answer) else -1
        return token if token in allowed else int(allowed[0])  # the latter where it was closed for want of room

    decoded = _Loop(engine, matcher, prompt, answer, (), written, False, None).run(engine.n_ctx)
    return decoded if decoded.tokens == tuple(answer) else None


def _by_logits(sampling: Sampling) -> Choose:
    chooser = Chooser(sampling)
    return lambda _, logits, allowed: chooser.choose(logits, allowed)


def _budget(engine: Engine, matcher: LLMatcher, prompt: int, max_new_tokens: int) -> tuple[int, Guard]:
    """Tokens that the answer may have: what was asked for, or what the context leaves. The shortest answer must fit."""
    room = engine.n_ctx - prompt
    if matcher.is_error():
        raise EngineError(f"The grammar is in error: {matcher.get_error()}")
    if room <= 0:
        raise BudgetError(f"The prompt has {prompt} tokens, and the context only {engine.n_ctx} (n_ctx).")
    budget = min(max_new_tokens, room)
    guard = Guard(engine.tokenizer, matcher, budget)
    if guard.fits:
        return budget, guard
    needed = guard.needed(matcher, _FAR)
    if budget < max_new_tokens:
        raise BudgetError(
            f"The prompt has {prompt} tokens and the shortest answer needs about {needed}; "
            f"the context holds {engine.n_ctx} (n_ctx)."
        )
    raise BudgetError(
        f"The shortest answer needs about {needed} tokens, and max_new_tokens allows {max_new_tokens}.",
        hint="Raise max_new_tokens.",
    )


class _Loop:
    """The state of one answer. `_pending` are decided tokens that the engine has not read yet.

    `choose(place, logits, allowed)` gives the answer's token number `place`; `keep` says whether to keep openings. An
    answer of which the log probability falls to `least` is given up.
    """

    def __init__(
        self,
        engine: Engine,
        matcher: LLMatcher,
        prompt: Sequence[int],
        draft: Sequence[int],
        copy_from: Sequence[int],
        choose: Choose,
        keep: bool,
        on_step: OnStep | None,
        opening: Opening | None = None,
        least: float = -math.inf,
    ) -> None:
        self._engine = engine
        self._matcher = matcher.deep_copy()
        self._prompt = prompt
        self._drafter = Drafter(draft, copy_from, lambda token: engine.decode([token]), engine.tokenizer.tokenize_bytes)
        self._choose = choose
        self._keep = keep
        self._on_step = on_step
        self._least = least
        self._mask = Mask(engine.vocab_size)
        self._confidence = opening.confidence if opening else None
        self._usage = Usage()
        self._steps = list(opening.steps) if opening else []
        self._answer = [step.token for step in self._steps]
        self._openings: list[Opening] = []
        self._pending: list[int] = []
        self._matcher.consume_tokens(self._answer)

    def run(self, max_new_tokens: int) -> Decoded:
        answer = self.run_to(max_new_tokens)
        assert isinstance(answer, Decoded)  # nothing is below minus infinity
        return answer

    def run_to(self, max_new_tokens: int) -> Decoded | GivenUp:
        started = perf_counter()
        known = [*self._prompt, *self._answer]
        if not self._matcher.is_stopped():  # an opening may be a whole answer
            room = max_new_tokens - len(self._answer)
            room, self._guard = _budget(self._engine, self._matcher, len(known), room)
            self._budget = len(self._answer) + room
        # Two tokens at least are read anew: one alone has slightly other states in onnxruntime, and the same request
        # with the same seed would be answered otherwise the second time.
        cached = min(common_prefix(self._engine.tokens, known), max(len(known) - 2, 0))
        self._engine.rewind(cached)
        self._pending = [*known[cached:], *self._take_forced()]
        prefill_s = 0.0
        while not self._matcher.is_stopped() and not self._is_given_up:
            logits, draft = self._forward()
            prefill_s = prefill_s or perf_counter() - started
            self._decide(logits, draft)
        if self._matcher.is_error():
            raise EngineError(f"The grammar failed: {self._matcher.get_error()}")
        usage = replace(
            self._usage,
            prompt_tokens=len(self._prompt),
            cached_tokens=min(cached, len(self._prompt)),
            prefill_s=prefill_s,
            decode_s=perf_counter() - started - prefill_s,
        )
        if self._is_given_up:
            return GivenUp(usage, tuple(self._openings))
        text, answer = self._engine.decode(self._answer), tuple(self._answer)
        return Decoded(answer, text, tuple(self._steps), usage, self._confidence, tuple(self._openings))

    @property
    def _is_given_up(self) -> bool:
        return self._confidence is not None and self._confidence.log_product <= self._least

    def _forward(self) -> tuple[NDArray[np.float32], list[int]]:
        """One pass over what is pending and a draft: a row of logits after the former, one after each of the latter."""
        draft = self._drafter.propose(self._answer, self._matcher.compute_ff_bytes())[: self._remaining - 1]
        draft = draft[: self._matcher.validate_tokens(draft)]
        logits = self._engine.forward(self._pending + draft, 1 + len(draft))
        self._usage += Usage(forward_passes=1, drafted_tokens=len(draft))
        self._pending = []
        return logits, draft

    def _decide(self, logits: NDArray[np.float32], draft: list[int]) -> None:
        """Choose at each row for as long as the draft has the same tokens, then make the engine forget the rest."""
        start = len(self._engine.tokens) - len(draft)
        right = 0
        while not self._matcher.is_stopped() and not self._pending:
            expected = draft[right] if right < len(draft) else None
            written = [self._take_choice(logits[right], expected), *self._take_forced()]
            same = common_prefix(written, draft[right:])
            right += same
            self._pending = written[same:]
        self._engine.rewind(start + right)
        self._drafter.learn(right)
        self._usage += Usage(accepted_tokens=right)

    def _take_choice(self, logits: NDArray[np.float32], expected: int | None) -> int:
        allowed = self._mask.allowed(self._matcher)
        token = self._choose(len(self._answer), logits, allowed)
        after = self._matcher.deep_copy()
        after.consume_token(token)
        cuts = self._cuts(allowed)
        if not self._guard.admits(token, after, self._remaining - 1):
            return self._take_closing()
        self._matcher = after
        odds = Odds(logits, allowed)
        same = cuts if token in cuts else [token]
        if len(same) == len(allowed):  # only how to cut the text into tokens was open
            self._append(token, "forced", odds.of([token]))
            return token
        probability = odds.of(same)
        self._keep_openings(odds, same, probability)
        self._confidence = Confidence.of(probability, self._confidence)
        self._append(token, "draft" if token == expected else "free", probability)
        return token

    def _cuts(self, allowed: NDArray[np.intp]) -> list[int]:
        """The tokens that say no more than what the grammar forces: to choose one of them is one choice."""
        forced = self._matcher.compute_ff_bytes()
        if not forced:
            return []
        texts = ((int(token), self._engine.decode([int(token)])) for token in allowed)
        return [token for token, text in texts if text and forced.startswith(text)]

    def _keep_openings(self, odds: Odds, same: Sequence[int], probability: float) -> None:
        passed = [*same]
        for _ in range(_RIVALS if self._keep else 0):
            rival = odds.best_but(passed)
            if rival is None or rival[1] < _CLOSE * probability:
                return
            passed.append(rival[0])
            step = Step(rival[0], self._engine.decode([rival[0]]).decode(errors="replace"), "free", rival[1])
            self._openings.append(Opening((*self._steps, step), Confidence.of(rival[1], self._confidence)))

    def _take_closing(self) -> int:
        token = self._guard.path.pop(0)
        self._matcher.consume_token(token)
        self._append(token, "closing")
        return token

    def _take_forced(self) -> list[int]:
        """Take what the grammar forces now."""
        taken: list[int] = []
        while not self._matcher.is_stopped():
            tokens = self._matcher.compute_ff_tokens()
            if not tokens:
                break
            after = self._matcher.deep_copy()
            after.consume_tokens(tokens)
            if self._guard.admits_forced(tokens, after, self._remaining - len(tokens)):
                self._matcher = after
                for token in tokens:
                    self._append(token, "forced")
            else:
                tokens = [self._take_closing()]
            taken += tokens
        return taken

    def _append(self, token: int, kind: StepKind, probability: float | None = None) -> None:
        step = Step(token, self._engine.decode([token]).decode(errors="replace"), kind, probability)
        self._answer.append(token)
        self._steps.append(step)
        self._usage += Usage(call_tokens=1, forced_tokens=int(kind == "forced"), free_tokens=int(kind != "forced"))
        if self._on_step is not None:
            self._on_step(step)

    @property
    def _remaining(self) -> int:
        return self._budget - len(self._answer)
