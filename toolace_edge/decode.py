"""The token loop: an engine's logits under a grammar become one finished answer, in as few forward passes as can be.

A pass is one `forward` over the tokens chosen last, the tokens that the grammar forces after them, and a draft. It
gives logits for one free choice, and one more for each token of the draft that turns out right. So the number of
passes is the number of real decisions at most, not of tokens.

What is chosen does not depend on drafts: a choice is made at each position from that position's logits, with or
without one, and a draft only decides how many positions a pass covers.
"""

from __future__ import annotations

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
from toolace_edge.sampling import GREEDY, Chooser, Mask, Sampling

if TYPE_CHECKING:
    import numpy as np
    from llguidance import LLMatcher
    from numpy.typing import NDArray

_FAR = 10_000  # tokens: an answer that nobody waits for

OnStep = Callable[[Step], None]


@dataclass(frozen=True, slots=True)
class Decoded:
    """One finished answer. `tokens` end with the end token; the engine's cache may lack the last of them.

    `text` are their bytes, control tokens included. `confidence` is None where the grammar left no choice at all.
    """

    tokens: tuple[int, ...]
    text: bytes
    steps: tuple[Step, ...]
    usage: Usage
    confidence: Confidence | None


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
    budget, guard = _budget(engine, matcher, len(prompt), max_new_tokens)
    drafter = Drafter(draft, copy_from, lambda token: engine.decode([token]), engine.tokenizer.tokenize_bytes)
    loop = _Loop(engine, matcher.deep_copy(), guard, drafter, Chooser(sampling), budget, on_step)
    return loop.run(prompt)


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
    """The state of one `decode`. `_pending` are decided tokens that the engine has not read yet."""

    def __init__(
        self,
        engine: Engine,
        matcher: LLMatcher,
        guard: Guard,
        drafter: Drafter,
        chooser: Chooser,
        budget: int,
        on_step: OnStep | None,
    ) -> None:
        self._engine = engine
        self._matcher = matcher
        self._guard = guard
        self._drafter = drafter
        self._chooser = chooser
        self._budget = budget
        self._on_step = on_step
        self._mask = Mask(engine.vocab_size)
        self._confidence: Confidence | None = None
        self._usage = Usage()
        self._answer: list[int] = []
        self._steps: list[Step] = []
        self._pending: list[int] = []

    def run(self, prompt: Sequence[int]) -> Decoded:
        started = perf_counter()
        cached = min(common_prefix(self._engine.tokens, prompt), len(prompt) - 1)
        self._engine.rewind(cached)
        self._pending = [*prompt[cached:], *self._take_forced()]
        prefill_s = 0.0
        while not self._matcher.is_stopped():
            logits, draft = self._forward()
            prefill_s = prefill_s or perf_counter() - started
            self._choose(logits, draft)
        if self._matcher.is_error():
            raise EngineError(f"The grammar failed: {self._matcher.get_error()}")
        usage = replace(
            self._usage,
            prompt_tokens=len(prompt),
            cached_tokens=cached,
            prefill_s=prefill_s,
            decode_s=perf_counter() - started - prefill_s,
        )
        text = self._engine.decode(self._answer)
        return Decoded(tuple(self._answer), text, tuple(self._steps), usage, self._confidence)

    def _forward(self) -> tuple[NDArray[np.float32], list[int]]:
        """One pass over what is pending and a draft: a row of logits after the former, one after each of the latter."""
        draft = self._drafter.propose(self._answer, self._matcher.compute_ff_bytes())[: self._remaining - 1]
        draft = draft[: self._matcher.validate_tokens(draft)]
        logits = self._engine.forward(self._pending + draft, 1 + len(draft))
        self._usage += Usage(forward_passes=1, drafted_tokens=len(draft))
        self._pending = []
        return logits, draft

    def _choose(self, logits: NDArray[np.float32], draft: list[int]) -> None:
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
        token, probability = self._chooser.choose(logits, self._mask.allowed(self._matcher))
        text = self._engine.decode([token])
        forced = self._matcher.compute_ff_bytes().startswith(text) and bool(text)
        after = self._matcher.deep_copy()
        after.consume_token(token)
        if not self._guard.admits(token, after, self._remaining - 1):
            return self._take_closing()
        self._matcher = after
        if forced:  # only how to cut the text into tokens was open
            self._append(token, "forced", probability)
        else:
            self._confidence = Confidence.of(probability, self._confidence)
            self._append(token, "draft" if token == expected else "free", probability)
        return token

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
