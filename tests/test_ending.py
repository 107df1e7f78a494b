from __future__ import annotations

import re

import llguidance
import pytest

from tests.test_decode import HUGE, PING, REPLY, TOKENIZER, matcher, noise, prompt_of, replying, text
from toolace_edge.decode import decode
from toolace_edge.ending import Ending

UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


def state_of(pattern: str) -> llguidance.LLMatcher:
    lark = f'start: "x=\\"" VALUE "\\"" <|end|>\nVALUE: /{pattern}/\n'
    state = llguidance.LLMatcher(noise(0).tokenizer, llguidance.LLMatcher.grammar_from_lark(lark))
    assert not state.is_error(), state.get_error()
    return state


@pytest.mark.parametrize(
    ("pattern", "most"),
    [
        (r"[^\"]{0,500}", 0),
        (r"[^\"]{40,500}", 15),
        (r"[a-z]{3}", 3),
        (r"\d{3}-\d{4}", 8),
        (r"[a-z]+(-[a-z]+){3}", 8),
        (r"[a-zA-Z0-9.!#$%&'*+\/=?^_{|}~-]{1,64}@[a-z0-9]{1,60}(\.[a-z0-9]{1,60}){1,3}", 6),
        (r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z", 20),
        (UUID, 36),
        (r"https?:\/\/[a-z]{1,90}\.[a-z]{2,9}(\/[a-z]{0,90}){2,9}", 24),
        (r"\([0-9]{2,30}\) [0-9]{1,30}\/[0-9]{1,30}", 9),
        (r"(red|green|blue){1,20};[a-z ]{0,90}", 8),
    ],
)
def test_a_way_through_a_pattern_is_found_and_short(pattern: str, most: int) -> None:
    engine = noise(0)
    path = Ending(engine.tokenizer).path(state_of(pattern), 600)
    assert path is not None
    written = engine.decode(path).decode()
    value = written.removeprefix('x="').removesuffix('"<|end|>')
    assert re.fullmatch(pattern, value), written
    assert len(path) <= most + 5


def test_a_way_longer_than_the_limit_is_none() -> None:
    ending = Ending(noise(0).tokenizer)
    path = ending.path(state_of("[a-z]{30}"), 600)
    assert ending.path(state_of("[a-z]{30}"), len(path)) == path
    assert ending.path(state_of("[a-z]{30}"), len(path) - 1) is None


def test_the_shortest_answer_is_text_where_text_is_allowed_and_else_the_smallest_call() -> None:
    engine = noise(0)
    ending = Ending(engine.tokenizer)
    assert engine.decode(ending.path(matcher(engine), 100)) == b"<|text|><|end|>"
    required = matcher(engine, HUGE, PING, choice="required")
    smallest = b'<|call|>{"name":"ping","arguments":{}}<|end|>'
    length = len(engine.encode(smallest.decode(), special=True))
    assert engine.decode(ending.short_path(required, length)) == smallest


def test_the_matcher_is_left_as_it_is() -> None:
    engine = noise(0)
    state = matcher(engine)
    before = state.compute_bitmask()
    Ending(engine.tokenizer).short_path(state, 1)
    assert state.compute_bitmask() == before
    assert not state.is_error()


@pytest.mark.parametrize("eos", [0, 2])
def test_the_end_token_may_be_the_vocabularys_own(eos: int) -> None:
    engine = replying()
    engine._vocabulary.__dict__["llguidance"] = llguidance.LLTokenizer(TOKENIZER, eos_token=eos)
    first = decode(engine, matcher(engine), prompt=prompt_of(engine))
    again = decode(engine, matcher(engine), prompt=prompt_of(engine), draft=first.tokens)
    assert text(first) == text(again) == REPLY
    assert again.usage.forward_passes == 1
    tight = decode(engine, matcher(engine), prompt=prompt_of(engine), max_new_tokens=22)
    assert text(tight).endswith('"}}<|end|>')
