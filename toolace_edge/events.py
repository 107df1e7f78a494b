"""What happens while a request is worked on, one small class each, in the order in which a host meets them.

    Prefill*                                                once a step: the prompt is read
    (Token | CallBegun | ArgumentFragment | TextFragment)*  RoundFinished
                                                            once a round: a version of the answer, begun anew each time
    CallFinished*  ResultReady*                             once a step: the calls that count, and what they gave
    Finished | Failed                                       last

Tokens that the grammar forces may be told before the prompt is read.

`step` counts the answers of a request and `round` the versions of an answer, both from 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from toolace_edge.messages import Round, Run, Step, ToolCall, ToolResult

__all__ = [
    "ArgumentFragment",
    "CallBegun",
    "CallFinished",
    "Event",
    "Failed",
    "Finished",
    "Prefill",
    "ResultReady",
    "RoundFinished",
    "TextFragment",
    "Token",
]


@dataclass(frozen=True, slots=True)
class Event:
    """Any of them."""


@dataclass(frozen=True, slots=True)
class Prefill(Event):
    """`read` of the prompt's `total` tokens are in the cache; those that were there already count."""

    step: int
    read: int
    total: int


@dataclass(frozen=True, slots=True)
class Token(Event):
    """One token is decided; none is taken back within its round."""

    step: int
    round: int
    token: Step


@dataclass(frozen=True, slots=True)
class CallBegun(Event):
    """Call `index` of this round is of the tool `name`."""

    step: int
    round: int
    index: int
    name: str


@dataclass(frozen=True, slots=True)
class ArgumentFragment(Event):
    """More of that call's arguments; joined, its fragments are one JSON object."""

    step: int
    round: int
    index: int
    text: str


@dataclass(frozen=True, slots=True)
class TextFragment(Event):
    """More of what this round says; an answer that says something calls nothing."""

    step: int
    round: int
    text: str


@dataclass(frozen=True, slots=True)
class RoundFinished(Event):
    """One version of the answer is complete."""

    step: int
    round: int
    answer: Round


@dataclass(frozen=True, slots=True)
class CallFinished(Event):
    """The last version stands, and this is a call in it. It runs next, if it may."""

    step: int
    index: int
    call: ToolCall


@dataclass(frozen=True, slots=True)
class ResultReady(Event):
    """What call `index` returned, or why it did not run."""

    step: int
    index: int
    result: ToolResult


@dataclass(frozen=True, slots=True)
class Finished(Event):
    """The request is done with."""

    run: Run


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """The request cannot be gone on with; the same error is raised after this event."""

    error: BaseException
