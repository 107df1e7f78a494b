"""Pieces become token ids: control tokens only where the format says so, and the prefix is a prefix."""

from __future__ import annotations

import pytest

from tests.tiny import tiny_tokenizer_json
from toolace_edge import formats
from toolace_edge.engines.vocabulary import Vocabulary
from toolace_edge.formats import Piece
from toolace_edge.messages import Message, Tool
from toolace_edge.prompts import build_prompt, encode_pieces

TOOLS = [Tool("get_weather", "Weather of a city"), Tool("ping")]


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary(tiny_tokenizer_json())


def test_control_tokens_count_only_in_special_pieces(vocabulary: Vocabulary) -> None:
    ids = encode_pieces(vocabulary, [Piece("<|user|>", special=True), Piece("<|call|>")])
    assert ids[0] == 5
    assert min(ids[1:]) > 15
    assert vocabulary.decode(ids) == b"<|user|><|call|>"


def test_neighbours_of_one_kind_are_one_text(vocabulary: Vocabulary) -> None:
    assert encode_pieces(vocabulary, [Piece("wea"), Piece(""), Piece("ther")]) == vocabulary.encode("weather")
    assert encode_pieces(vocabulary, []) == []


@pytest.mark.parametrize("name", formats.NAMES)
def test_the_prefix_is_the_same_for_the_same_tools(vocabulary: Vocabulary, name: str) -> None:
    fmt = formats.get(name)
    one = build_prompt(vocabulary, fmt, TOOLS, [Message("user", "weather in Paris?")])
    other = build_prompt(vocabulary, fmt, TOOLS, [Message("user", "[1,2]"), Message("assistant", "x")])
    length = one.prefix_length
    assert 0 < length == other.prefix_length < len(one.ids)
    assert one.ids[:length] == other.ids[:length]
    assert b"get_weather" in vocabulary.decode(one.ids[:length])
    assert b"Paris" not in vocabulary.decode(one.ids[:length])


def test_a_compact_prompt_ends_where_the_answer_begins(vocabulary: Vocabulary) -> None:
    prompt = build_prompt(vocabulary, formats.get("compact"), TOOLS, [Message("user", "hi")])
    text = b"<|begin|><|tool|>get_weather: Weather of a city<|tool|>ping<|user|>hi"
    assert vocabulary.decode(prompt.ids) == text
    assert prompt.ids.count(3) == 2
