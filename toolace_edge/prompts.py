"""Messages, tools and a format become token ids, and the place where the tools' part ends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from toolace_edge.errors import InputError
from toolace_edge.formats.base import Format, Piece
from toolace_edge.messages import Message, Tool, is_text


class Encoder(Protocol):
    """The part of an Engine that is needed here."""

    def encode(self, text: str, special: bool = False) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids; the first `prefix_length` are the tools' and the same for every request with these tools."""

    ids: list[int]
    prefix_length: int


def check_conversation(messages: Sequence[Message]) -> None:
    """InputError where there is nothing to answer. After an assistant's turn ("Let me look.") the model goes on."""
    if not messages or messages[-1].role == "system":
        raise InputError("There is nothing to answer: the conversation is empty.", hint="Say what you want.")
    last = messages[-1]
    if last.role == "user" and not last.content.strip():
        raise InputError("The request is empty.", hint="Say what you want.")
    for i, message in enumerate(messages):
        if not is_text(message.content):
            raise InputError(f"messages[{i}].content: holds half of a surrogate pair, which is not text.")
        for j, call in enumerate(message.calls):
            _check_arguments(call.arguments, f"messages[{i}].calls[{j}].arguments")


def _check_arguments(arguments: object, where: str) -> None:
    try:
        json.dumps(arguments, allow_nan=False, default=dict)
    except RecursionError:
        raise InputError(f"{where}: is nested too deeply.") from None
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: not JSON: {error}.") from None


def build_prompt(encoder: Encoder, fmt: Format, tools: Sequence[Tool], messages: Sequence[Message]) -> Prompt:
    """The prompt of one answer, up to where the answer begins."""
    rendered = fmt.render(tools, messages)
    prefix = encode_pieces(encoder, rendered.prefix)
    return Prompt(prefix + encode_pieces(encoder, rendered.rest), len(prefix))


def encode_pieces(encoder: Encoder, pieces: Sequence[Piece]) -> list[int]:
    """Each piece on its own, as in training; neighbours of one kind are one text first."""
    joined: list[Piece] = []
    for piece in pieces:
        if joined and joined[-1].special == piece.special:
            joined[-1] = Piece(joined[-1].text + piece.text, piece.special)
        elif piece.text:
            joined.append(piece)
    return [token for piece in joined for token in encoder.encode(piece.text, piece.special)]
