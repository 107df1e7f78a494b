"""What a session shows of an answer in the making, told as events."""

from __future__ import annotations

from collections.abc import Callable

from toolace_edge.engines.base import Engine
from toolace_edge.events import ArgumentFragment, CallBegun, Event, Prefill, RoundFinished, TextFragment, Token
from toolace_edge.formats.base import Format
from toolace_edge.formats.streaming import Begun, CallStream, Said
from toolace_edge.messages import Round, Step
from toolace_edge.session import Watch


def watch_for(
    step: int, tell: Callable[[Event], None], cancelled: Callable[[], bool], fmt: Format, engine: Engine
) -> Watch:
    """A watch that tells answer number `step` of a request to `tell`."""
    streams: dict[int, CallStream] = {}

    def on_prefill(read: int, total: int) -> None:
        tell(Prefill(step, read, total))

    def on_step(number: int, token: Step) -> None:
        tell(Token(step, number, token))
        stream = streams.setdefault(number, CallStream(fmt))
        for part in stream.feed(engine.decode([token.token])):
            if isinstance(part, Begun):
                tell(CallBegun(step, number, part.index, part.name))
            elif isinstance(part, Said):
                tell(TextFragment(step, number, part.text))
            else:
                tell(ArgumentFragment(step, number, part.index, part.text))

    def on_round(number: int, answer: Round) -> None:
        tell(RoundFinished(step, number, answer))

    return Watch(on_prefill, on_step, on_round, cancelled)
