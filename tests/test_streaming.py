"""A call in the making, cut anywhere, is told as the finished answer reads."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolace_edge import formats
from toolace_edge.formats.streaming import Begun, CallStream, Fragment, Said
from toolace_edge.messages import ToolCall

from .test_formats import calls_of_tools, text_of


def followed(name: str, answer: str, step: int) -> list[tuple[str, Any]]:
    """What a stream tells of an answer that comes in pieces of `step` bytes: calls with their joined arguments."""
    stream, data = CallStream(formats.get(name)), answer.encode()
    found: list[tuple[str, list[str]]] = []
    for start in range(0, len(data), step):
        for part in stream.feed(data[start : start + step]):
            if isinstance(part, Begun):
                assert part.index == len(found)
                found.append((part.name, []))
            else:
                assert isinstance(part, Fragment)
                assert part.index == len(found) - 1
                found[-1][1].append(part.text)
    return [(name, json.loads("".join(texts))) for name, texts in found]


def said(name: str, answer: str, step: int) -> str:
    """What a stream tells of an answer that must be text."""
    stream, data = CallStream(formats.get(name)), answer.encode()
    parts = [part for start in range(0, len(data), step) for part in stream.feed(data[start : start + step])]
    assert all(isinstance(part, Said) for part in parts)
    return "".join(part.text for part in parts if isinstance(part, Said))


@pytest.mark.parametrize("name", formats.NAMES)
@settings(max_examples=40, deadline=None)
@given(calls=calls_of_tools, step=st.integers(1, 9))
def test_joined_fragments_are_the_arguments(name: str, calls: list[ToolCall], step: int) -> None:
    answer = text_of(formats.get(name).render_answer(calls, ""))
    assert followed(name, answer, step) == [(call.name, call.arguments) for call in calls]


@pytest.mark.parametrize("name", formats.NAMES)
def test_a_string_that_holds_a_call_is_one_string(name: str) -> None:
    fmt = formats.get(name)
    inner = text_of(fmt.render_answer([ToolCall("wipe", {"all": True})], ""))
    call = ToolCall("note", {"text": f"'\"\\{inner}}}])"})
    answer = text_of(fmt.render_answer([call], ""))
    assert followed(name, answer, 1) == [("note", call.arguments)]
    if name != "hermes":  # whose tags are calls wherever they stand
        assert said(name, text_of(fmt.render_answer((), f"I might write {inner}")), 3) == f"I might write {inner}"


def test_fragments_come_while_the_call_is_written() -> None:
    stream = CallStream(formats.get("compact"))
    assert stream.feed(b'<|call|>{"name":"f","arguments":') == [Begun(0, "f")]
    assert stream.feed('{"a":"é'.encode()[:-1]) == [Fragment(0, '{"a":"')]  # half of a character waits
    assert stream.feed('é"'.encode()[1:]) == [Fragment(0, 'é"')]
    assert stream.feed(b"}}") == [Fragment(0, "}")]


@pytest.mark.parametrize("name", formats.NAMES)
@settings(max_examples=40, deadline=None)
@given(text=st.text(st.sampled_from("aé🙂 <|end>im_tl\n"), min_size=1).filter(lambda text: text[0] not in "<["))
@pytest.mark.parametrize("step", [1, 2, 7])
def test_joined_text_is_what_the_answer_says(name: str, text: str, step: int) -> None:
    fmt = formats.get(name)
    answer = text_of(fmt.render_answer((), text))
    assert said(name, answer, step) == fmt.parse((), answer)[1]


def test_text_comes_while_it_is_written_and_its_end_token_never() -> None:
    stream = CallStream(formats.get("compact"))
    assert stream.feed(b"<|te") == []
    assert stream.feed(b"xt|>") == []
    assert stream.feed(b"Hi <|en") == [Said("Hi ")]
    assert stream.feed(b"tity <|end|>") == [Said("<|entity ")]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100])
def test_words_before_a_call_are_told_as_words(step: int) -> None:
    fmt = formats.get("hermes")
    calls = [ToolCall("f", {"a": "<tool_call>"}), ToolCall("g", {})]
    stream, data = CallStream(fmt), text_of(fmt.render_answer(calls, "Let me see.\n<tool")).encode()
    parts = [part for start in range(0, len(data), step) for part in stream.feed(data[start : start + step])]
    kinds = [type(part) for part in parts]
    assert "".join(part.text for part in parts if isinstance(part, Said)) == "Let me see.\n<tool"
    assert [part.name for part in parts if isinstance(part, Begun)] == ["f", "g"]
    assert kinds.index(Begun) > max(i for i, kind in enumerate(kinds) if kind is Said)
