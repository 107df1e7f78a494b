"""The bonus for copied values goes where a person would copy, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tiny import tiny_tokenizer_json
from toolace_edge.copying import ArgumentString, Copying, texts_of, vocabulary_of
from toolace_edge.engines.scripted import ScriptedEngine
from toolace_edge.errors import InputError
from toolace_edge.formats import get
from toolace_edge.formats.compact import SPECIAL_TOKENS
from toolace_edge.messages import Message, Tool, ToolCall
from toolace_edge.session import Session

COMPACT = '<|call|>{"name":"find_city","arguments":{"city":"New York","tags":["a b","c"],"deep":{"x":"y z"},"n":4}}'
PYTHONIC = "[find_city(city=\"New York\", tags=['a b', 'c'], deep={'x': 'y z'}, n=4)]"
CITY = Tool("find_city", "", {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})


@pytest.mark.parametrize("text", [COMPACT, PYTHONIC])
def test_only_strings_of_arguments_are_values(text: str) -> None:
    follower, seen = ArgumentString(), []
    last = None
    for byte in text.encode():
        follower.add(bytes([byte]))
        if follower.value is None and last is not None:
            seen.append(last.decode())
        last = follower.value
    assert seen == ["New York", "a b", "c", "y z"]


def test_an_escaped_quote_does_not_end_a_value() -> None:
    follower = ArgumentString()
    follower.add(rb'{"name":"f","arguments":{"a":"say \"hi')
    assert follower.value == rb"say \"hi"


def raised(written: str, *sources: str) -> dict[float, set[str]]:
    """Which texts get which bonus (3 within a word, 1 between words) after `written` in an open value."""
    engine = ScriptedEngine.noise(tiny_tokenizer_json())
    copying = Copying(vocabulary_of(engine.tokenizer), sources, 3, 1)
    copying.wrote(b'{"name":"f","arguments":{"a":"' + written.encode())
    bonus = copying.raised(np.zeros(engine.vocab_size, np.float32))
    found = {level: np.flatnonzero(bonus == level) for level in (1, 3)}
    assert set(np.unique(bonus)) <= {0, 1, 3}
    return {level: {engine.decode([int(i)]).decode(errors="replace") for i in ids} for level, ids in found.items()}


def test_a_begun_word_goes_on_as_it_is_written() -> None:
    got = raised("Mu", "an ep by Murcof")
    assert "r" in got[3]
    assert not {"a", '"', " "} & (got[3] | got[1])


def test_a_finished_word_may_end_the_value_or_go_on() -> None:
    got = raised("zak", "play Zak Starkey please")
    assert {" ", '"'} <= got[1]
    assert not got[3]


def test_a_value_begins_with_any_word_in_either_case() -> None:
    got = raised("", "play Zak")
    assert {"p", "P", "z", "Z"} <= got[1]
    assert not {"l", "a", "k", '"'} & got[1]


def test_what_nobody_said_gets_no_bonus() -> None:
    assert raised("xyz", "play Zak") == {1: set(), 3: set()}
    assert raised("lay", "play Zak") == {1: set(), 3: set()}  # the end of a word is no beginning


def test_what_was_said_last_and_what_was_called_are_sources() -> None:
    called = ToolCall("f", {"a": ["x y", {"b": "z"}], "n": 3})
    talk = [Message("user", "first"), Message("assistant", "", (called,)), Message("tool", "found")]
    assert texts_of([*talk, Message("user", "go")]) == ["go", "found", "x y", "z", "first"]


@pytest.mark.parametrize("seed", range(6))
def test_noise_with_a_large_bonus_repeats_what_was_said(seed: int) -> None:
    engine = ScriptedEngine.noise(tiny_tokenizer_json(256 + len(SPECIAL_TOKENS)), seed=seed)  # bytes, nothing merged
    request = "the weather in Dar es Salaam on Friday"
    session = Session(engine, get("compact"), [CITY], rounds=0, tool_choice="required", copy_bonus=(90, 90))
    for call in session.complete(request).calls:
        assert call.arguments["city"].lower().strip() in request.lower()


@pytest.mark.parametrize("bonus", [(-1, 0), (0, 101), (float("nan"), 0)])
def test_a_bonus_out_of_range_is_refused(bonus: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="copy_bonus"):
        Session(ScriptedEngine.noise(tiny_tokenizer_json()), get("compact"), [CITY], copy_bonus=bonus)
