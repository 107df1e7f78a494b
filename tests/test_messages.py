"""Dicts in OpenAI's form become messages, or an error that says what is wrong and where."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from toolace_edge.conversation_file import read_conversation
from toolace_edge.errors import InputError
from toolace_edge.messages import Message, ToolCall, conversation_of

from .test_agent import agent, timer

CALL = {"id": "c1", "type": "function", "function": {"name": "set_timer", "arguments": '{"minutes": 10}'}}
OPENAI: list[dict[str, Any]] = [
    {"role": "developer", "content": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}]},
    {"role": "user", "content": "ten minutes", "name": "ada"},
    {"role": "assistant", "content": None, "refusal": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "ringing in 10"},
]
MESSAGES = (
    Message("system", "Be brief.\nBe kind."),
    Message("user", "ten minutes"),
    Message("assistant", calls=(ToolCall("set_timer", {"minutes": 10}, "c1"),)),
    Message("tool", "ringing in 10", call_id="c1"),
)


def test_a_conversation_in_openais_form_is_read() -> None:
    assert conversation_of(OPENAI) == MESSAGES
    assert conversation_of([MESSAGES[0], MappingProxyType(OPENAI[1]), *OPENAI[2:]]) == MESSAGES
    assert conversation_of("ten minutes") == (Message("user", "ten minutes"),)


def test_arguments_may_be_an_object_and_are_the_messages_own() -> None:
    arguments = {"minutes": 10, "tags": ("a",)}
    (message,) = conversation_of(
        [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}]
    )
    arguments["minutes"] = 20
    assert message.calls == (ToolCall("f", {"minutes": 10, "tags": ["a"]}),)


@pytest.mark.parametrize("arguments", [None, "", "{}", {}])
def test_a_call_without_arguments_is_one(arguments: Any) -> None:
    call = {"function": {"name": "f", "arguments": arguments}}
    assert Message.of({"role": "assistant", "tool_calls": [call]}).calls == (ToolCall("f", {}),)


def assistant(**function: Any) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [CALL, {"function": {"name": "f", **function}}]}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (7, "not int"),
        (b"ten", "not bytes"),
        ({"role": "user", "content": "ten"}, "not dict"),
        (Message("user", "ten"), "not Message"),
        (["ten"], r"messages\[0\]: a message is a Message or a dict, not str"),
        ([OPENAI[1], {"content": "ten"}], r"messages\[1\]: a message needs a `role`"),
        ([{"role": "human", "content": "ten"}], r"messages\[0\]: .*not 'human'"),
        ([{"role": ["user"], "content": "ten"}], r"messages\[0\]: a message needs a `role`"),
        ([{"role": "user", "content": {"text": "ten"}}], r"messages\[0\]\.content: must be text, not dict"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], r"messages\[0\]\.content\[0\]: only parts of text"),
        ([{"role": "user", "content": "x", "tool_calls": [CALL]}], r"messages\[0\]\.tool_calls: only an assistant"),
        ([{"role": "assistant", "tool_calls": {"name": "f"}}], r"messages\[0\]\.tool_calls: must be a list"),
        ([{"role": "assistant", "tool_calls": ["f"]}], r"tool_calls\[0\]: a call needs"),
        ([{"role": "assistant", "function_call": {"name": "f"}}], r"messages\[0\]\.function_call"),
        ([assistant(arguments="{")], r"messages\[0\]\.tool_calls\[1\]\.function\.arguments: not JSON"),
        ([assistant(arguments='{"a": NaN}')], "not JSON: it holds NaN"),
        ([assistant(arguments={"a": {1, 2}})], "arguments: not JSON"),
        ([assistant(arguments={"a": float("inf")})], "arguments: not JSON"),
        ([assistant(arguments="[" * 100_000)], "nested too deeply"),
        ([assistant(arguments=[1])], "arguments: must be an object"),
        ([assistant(arguments={"a": "\ud800"})], "surrogate"),
        ([{"role": "tool", "content": "x", "tool_call_id": 1}], r"messages\[0\]\.tool_call_id: must be text, not int"),
    ],
)
def test_what_is_no_conversation_is_refused_with_its_place(given: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        conversation_of(given)


@pytest.mark.parametrize(("role", "content"), [("human", "x"), (None, "x"), ("user", None), ("user", ["x"])])
def test_a_message_of_no_role_or_text_is_not_made(role: Any, content: Any) -> None:
    with pytest.raises(InputError):
        Message(role, content)


def test_sessions_and_agents_take_dicts(tmp_path: Path) -> None:
    acting = agent(timer(10), "<|text|>done<|end|>")
    assert acting.complete(OPENAI[:2]).calls == (ToolCall("set_timer", {"minutes": 10}),)
    acting.messages.append({"role": "system", "content": "Be brief."})  # type: ignore[arg-type]
    assert acting.run("ten minutes").text == "done"
    acting.save(tmp_path / "c.json")
    assert read_conversation(tmp_path / "c.json")[0] == Message("system", "Be brief.")
    assert json.loads((tmp_path / "c.json").read_text("utf-8"))["messages"][1] == {
        "role": "user",
        "content": "ten minutes",
    }
    with pytest.raises(InputError, match=r"messages\[0\]"):
        acting.complete([{"role": "robot", "content": "x"}])


def test_results_stand_in_the_order_of_the_calls_whose_they_are() -> None:
    calls = tuple(ToolCall("find", {"of": name}, name) for name in "abc")
    results = [Message("tool", f"of {name}", call_id=name) for name in "cab"]
    asked, called, last = Message("user", "find them"), Message("assistant", calls=calls), Message("user", "thanks")
    ordered = (asked, called, results[1], results[2], results[0], last)
    assert conversation_of([asked, called, *results, last]) == ordered
    assert conversation_of([asked, called, *results]) == ordered[:-1]


def test_results_without_ids_stand_as_they_are_given() -> None:
    calls = (ToolCall("find", {"of": "a"}, "a"), ToolCall("find", {"of": "b"}, "b"))
    given = (Message("assistant", calls=calls), Message("tool", "of b", call_id="b"), Message("tool", "of a"))
    assert conversation_of(given) == given


def test_a_result_of_no_call_is_refused_with_its_place() -> None:
    called = Message("assistant", calls=(ToolCall("find", {}, "a"),))
    with pytest.raises(InputError, match=r"messages\[1\]\.tool_call_id: 'b' is the id of none"):
        conversation_of([called, Message("tool", "of b", call_id="b")])
