"""No budget ever cuts an answer off.

`Guard` holds the invariant of the decoder: it always knows tokens that finish the answer, no more of them than are
left of the budget. A token that the model wants is taken only if a way that fits is known after it; otherwise the
first token of the known way is. So whatever the logits say, the answer ends, and ends valid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolace_edge.ending import Ending

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer


class Guard:
    """Follows a matcher and always knows a way to close. `path` are the tokens of that way, the end token included.

    `fits` is False where no way to answer within `budget` tokens was found, and nothing else holds then.
    """

    def __init__(self, tokenizer: LLTokenizer, matcher: LLMatcher, budget: int) -> None:
        self._ending = Ending(tokenizer)
        path = self._ending.short_path(matcher, budget)
        self.fits = path is not None
        self.path = path or []

    def needed(self, matcher: LLMatcher, most: int) -> int:
        """Tokens that the first way found needs, at most `most`: for the message of an error."""
        path = self._ending.path(matcher, most)
        return most if path is None else len(path)

    def admits(self, token: int, after: LLMatcher, remaining: int) -> bool:
        """May `token` be taken? `after` has consumed it; `remaining` tokens are left then. Remembers the way on."""
        if after.is_error():
            return False
        if self.path[0] == token:
            self.path = self.path[1:]
            return True
        return self._still_closes(after, remaining) or self._closes(after, remaining)

    def admits_forced(self, tokens: list[int], after: LLMatcher, remaining: int) -> bool:
        """The same for tokens that the grammar forces; no only where it cuts the same text into more tokens."""
        if self.path[: len(tokens)] == tokens:
            self.path = self.path[len(tokens) :]
            return True
        return self._closes(after, remaining)

    def _closes(self, after: LLMatcher, remaining: int) -> bool:
        path = self._ending.path(after, remaining)
        if path is not None:
            self.path = path
        return path is not None

    def _still_closes(self, after: LLMatcher, remaining: int) -> bool:
        """Inside a string the way of before mostly goes on being one, and to see that costs far less than to look."""
        *most, last = self.path
        if len(self.path) > remaining or after.validate_tokens(most) < len(most):
            return False
        forced = after.compute_ff_tokens()
        if forced != self.path[: len(forced)]:
            return False
        ahead = after.deep_copy()
        ahead.consume_tokens(most)
        return self._ending.allows(ahead, last)
