"""Which tools the model is shown: all of them where they fit, else those that suit the request, and then it is said.

    top_k None   all where they fit into the context, and take no more tokens than the model's calibration says it
                 chooses well from; else the best DEFAULT_TOP_K (or the number that the calibration names), up to as
                 many again where the request has several parts, or as many of these as fit
    top_k 0      all; BudgetError with the numbers where they do not fit
    top_k N      the best N of more, or as many of these as fit

What is left out is left out for one request only: the next one has a choice of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from toolace_edge.errors import BudgetError
from toolace_edge.formats.base import Format
from toolace_edge.messages import Message, Retrieval, Tool
from toolace_edge.prompts import Encoder, Prompt, build_prompt, encode_pieces
from toolace_edge.retrieval import ToolIndex, ranking

DEFAULT_TOP_K = 8

_ROOM = 16  # one in so many tokens of the context is kept for the answer, where there is a choice


@dataclass(frozen=True, slots=True)
class Selected:
    """The tools that were chosen and the prompt with them; `retrieval` is None where they are all."""

    tools: tuple[Tool, ...]
    prompt: Prompt
    retrieval: Retrieval | None = None


class Selection:
    """Chooses among `tools` for one request after the other. `usual` is the model's own number, for DEFAULT_TOP_K, and
    `most` the tokens of tools beyond which it is better shown those.

    Where there are too many, making one takes about a third of a second a thousand, choosing some milliseconds.
    """

    def __init__(
        self,
        encoder: Encoder,
        fmt: Format,
        tools: Sequence[Tool],
        *,
        n_ctx: int,
        top_k: int | None = None,
        usual: int | None = None,
        most: int | None = None,
    ) -> None:
        self._encoder = encoder
        self._format = fmt
        self._tools = tuple(tools)
        self._n_ctx = n_ctx
        self._top_k = top_k
        self._usual = usual or DEFAULT_TOP_K
        self._most = most
        self._tools_tokens = -1
        self._index = None if self.may_show_all or top_k == 0 else ToolIndex(self._tools)

    @property
    def may_show_all(self) -> bool:
        """Whether there can be a request with which all tools are shown."""
        if self._top_k:
            return len(self._tools) <= self._top_k
        return len(self._tools) < 2 or (self._all_tokens() < self._n_ctx and not self._is_much)

    @property
    def _is_much(self) -> bool:
        """Whether the model chooses better from fewer, though all may fit."""
        few = self._top_k == 0 or len(self._tools) <= self._usual
        return self._most is not None and not few and self._all_tokens() > self._most

    def choose(self, messages: Sequence[Message], *, always: Collection[str] = ()) -> Selected:
        """The tools for the answer to `messages`. BudgetError where not one of them fits, or retrieval is forbidden.

        Tools named in `always` are chosen whatever is asked. Where nothing can be chosen, whether the prompt fits is
        left to whoever reads it.
        """
        if self._top_k and len(self._tools) > self._top_k:
            return self._best(messages, self._top_k, None, always)
        if self.may_show_all:
            everything = Selected(self._tools, self._prompt(self._tools, messages))
            needed = len(everything.prompt.ids)
            limit = self._n_ctx - 1 if self._top_k == 0 else self._limit
            if needed <= limit or len(self._tools) < 2:
                return everything
        else:
            needed = self._all_tokens() + self._rest(messages)
        if self._top_k == 0:
            raise BudgetError(
                f"The {len(self._tools)} tools and the conversation take {needed} tokens, and the context holds "
                f"{self._n_ctx} (n_ctx).",
                hint="Let the tools be chosen for each request (any top_k but 0), or give fewer.",
            )
        return self._best(messages, self._top_k or self._usual, needed, always)

    def _best(self, messages: Sequence[Message], top_k: int, needed: int | None, always: Collection[str]) -> Selected:
        """The best `top_k` tools, or as many of these as fit; at least one, and those that are always there."""
        if (rest := self._rest(messages)) >= self._n_ctx:
            raise BudgetError(f"The conversation alone takes {rest} tokens; the context holds {self._n_ctx} (n_ctx).")
        self._index = self._index or ToolIndex(self._tools)
        scores = self._index.scores(messages)
        chosen = ranking(scores)[:top_k] if self._top_k else self._index.best(messages, scores, top_k)
        named = [i for i, tool in enumerate(self._tools) if tool.name in always]
        order = [*named, *(i for i in chosen if i not in named)]
        least = max(1, len(named))
        for count in range(max(len(chosen), least), least - 1, -1):
            places = sorted(order[:count])
            tools = tuple(self._tools[i] for i in places)
            prompt = self._prompt(tools, messages)
            if len(prompt.ids) <= self._limit:
                break
        if len(prompt.ids) >= self._n_ctx:
            raise BudgetError(
                f"{len(tools)} of {len(self._tools)} tools and the conversation take {len(prompt.ids)} tokens already; "
                f"the context holds {self._n_ctx} (n_ctx)."
            )
        shown = tuple((self._tools[i].name, round(scores[i], 4)) for i in places)
        most = self._most if needed is not None and needed < self._n_ctx and self._is_much else None
        return Selected(tools, prompt, Retrieval(shown, len(self._tools), top_k, needed, self._n_ctx, most))

    @property
    def _limit(self) -> int:
        """Tokens of the longest prompt that leaves a call enough room."""
        return self._n_ctx - self._n_ctx // _ROOM

    def _prompt(self, tools: Sequence[Tool], messages: Sequence[Message]) -> Prompt:
        return build_prompt(self._encoder, self._format, tools, messages)

    def _rest(self, messages: Sequence[Message]) -> int:
        """Tokens of the conversation."""
        return len(encode_pieces(self._encoder, self._format.render((), messages).rest))

    def _all_tokens(self) -> int:
        """Tokens of all the tools; counted once, 0.2 s for a thousand."""
        if self._tools_tokens < 0:
            self._tools_tokens = len(encode_pieces(self._encoder, self._format.render(self._tools, ()).prefix))
        return self._tools_tokens
