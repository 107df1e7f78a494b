"""A training line as the token ids that the runtime shows the model, and which of them are learned.

    prompt, ANSWER                          a line
    prompt, draft, refine turn, ANSWER      a draft of that line and what it should have been

All of it comes from the model's format (formats/), encoded as the engines encode it: what is learned is what will be
met. Only the answer, its end token included, is learned.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from toolace_edge.engines.vocabulary import Vocabulary
from toolace_edge.errors import InputError, ModelError
from toolace_edge.examples import Example
from toolace_edge.formats.base import Format, Piece
from toolace_edge.messages import Tool, ToolCall
from toolace_edge.prompts import build_prompt, encode_pieces

from .check import checked
from .examples import in_schema_order
from .refinement import read_drafts
from .sampling import Calls
from .selection import read_ids

_CONTROL = re.compile(r"<\|[^|>]+\|>")


@dataclass(frozen=True, slots=True)
class Row:
    """`learned` of the `ids` are learned, the last ones."""

    ids: list[int]
    learned: int


@dataclass(frozen=True, slots=True)
class Lines:
    """`rows` to learn from, of `drafts` of them refinements; `too_long` did not fit."""

    rows: list[Row]
    drafts: int
    too_long: int


def read_lines(
    data: Path, vocabulary: Vocabulary, fmt: Format, length: int,
    *, drafts: Path | None = None, only: Path | None = None,
) -> Lines:  # fmt: skip
    """Every line of `data`, or those whose ids `only` lists, and a row for each draft of theirs.

    DataError with the line that is wrong; InputError where none is left; ModelError where the vocabulary is not the
    format's.
    """
    wanted = None if only is None else set(read_ids(only))
    first_answers = {} if drafts is None else read_drafts(drafts, "id")
    rows: list[Row] = []
    refined = too_long = 0
    for example in checked(data):
        if wanted is not None and example.id not in wanted:
            continue
        if not rows:
            _check_vocabulary(vocabulary, fmt, example)
        # Drafts hold no text, which the runtime would show in the place of calls.
        drafted = [draft for draft in first_answers.get(example.id, ()) if draft or not example.text]
        for draft in (None, *drafted):
            row = render(example, vocabulary, fmt, draft)
            if len(row.ids) > length:
                too_long += 1
            else:
                rows.append(row)
                refined += draft is not None
    if not rows:
        why = f"all of its {too_long} are longer than {length} tokens" if too_long else "none of its ids is wanted"
        raise InputError(f"{data} holds no line to learn from: {why}.")
    return Lines(rows, refined, too_long)


def render(example: Example, vocabulary: Vocabulary, fmt: Format, draft: Calls | None = None) -> Row:
    """One row; with a `draft` the model reads it and writes the answer again."""
    ids = build_prompt(vocabulary, fmt, example.tools, example.messages).ids
    if draft is not None:
        ids += encode_pieces(vocabulary, (*_answer(fmt, example.tools, draft, ""), *fmt.refine_turn()))
    answer = encode_pieces(vocabulary, _answer(fmt, example.tools, example.gold, example.text))
    return Row(ids + answer, len(answer))


def _answer(fmt: Format, tools: Sequence[Tool], calls: Calls, text: str) -> tuple[Piece, ...]:
    by_name = {tool.name: tool for tool in tools}
    return fmt.render_answer([_in_order(call, by_name.get(call.name)) for call in calls], text)


def _in_order(call: ToolCall, tool: Tool | None) -> ToolCall:
    arguments = dict(call.arguments)
    return call if tool is None else replace(call, arguments=in_schema_order(arguments, tool.parameters))


def _check_vocabulary(vocabulary: Vocabulary, fmt: Format, example: Example) -> None:
    """Every control token of the format must be one token: otherwise the runtime could never stop."""
    rendered = fmt.render(example.tools, example.messages)
    pieces = (*rendered.prefix, *rendered.rest, *fmt.render_answer(example.gold, ""), *fmt.refine_turn())
    for token in {token for piece in pieces if piece.special for token in _CONTROL.findall(piece.text)}:
        if len(vocabulary.encode(token, special=True)) != 1:
            raise ModelError(
                f"The base's tokenizer has no token {token}, which the format {fmt.name} is written with.",
                hint="Set rendering.format to the one that the base speaks: hermes (Qwen), toolace (Llama 3), compact.",
            )
