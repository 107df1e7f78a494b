"""A saved conversation comes back as it was, and a damaged one is a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from toolace_edge.conversation_file import read_conversation, write_conversation
from toolace_edge.errors import InputError
from toolace_edge.messages import Message, ToolCall

CALL = ToolCall("set_timer", {"minutes": 10.5, "label": 'é "\n', "list": [1, None, True], "big": 10**40}, "c1")
TALK = (
    Message("system", "Be brief."),
    Message("user", "Zehn Minuten 🙂"),
    Message("assistant", calls=(CALL, ToolCall("ping", {}))),
    Message("tool", "ringing", call_id="c1"),
    Message("tool", ""),
    Message("assistant", "Done."),
    Message("assistant"),
)


def test_writing_and_reading_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    write_conversation(path, TALK[:3])
    write_conversation(path, TALK)
    assert read_conversation(path) == TALK
    assert [file.name for file in path.parent.iterdir()] == ["talk.json"]


def test_a_conversation_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    write_conversation(path, TALK[:2])
    before = path.read_bytes()
    for value in (float("nan"), {1, 2}):
        with pytest.raises(InputError, match="cannot be written as JSON"):
            write_conversation(path, [Message("assistant", calls=(ToolCall("f", {"x": value}),))])
    assert path.read_bytes() == before
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_conversation(tmp_path / "file" / "talk.json", TALK)


@pytest.mark.parametrize("content", [b"my own words", b"", b'{"format": "another"}', b"\xff\x00"])
def test_what_is_no_conversation_is_not_overwritten(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"notes\.txt is there already, and is no saved conversation") as raised:
        write_conversation(path, TALK)
    assert raised.value.hint == "Save to another file, or remove this one first."
    assert path.read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_no_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "no" / "such" / "talk.json"
    with pytest.raises(InputError, match=rf"cannot be written: there is no folder {path.parent}\."):
        write_conversation(path, TALK)
    assert not list(tmp_path.iterdir())


def saved(*messages: object) -> str:
    return json.dumps({"format": "toolace-edge conversation 1", "messages": list(messages)})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not JSON"),
        (saved({"role": "user", "content": "x"})[:-9], r"is not JSON: .* at line 1, column"),
        ("[1]", "is not a saved conversation"),
        ('{"format": "toolace-edge conversation 2", "messages": []}', "is not a saved conversation"),
        ('{"format": "toolace-edge conversation 1"}', "messages must be a list"),
        (saved("hello"), r"messages\[0\] must be a message of one of the roles system, user"),
        (saved({"role": "user", "content": "x"}, {"role": "boss"}), r"messages\[1\] must be a message"),
        (saved({"role": "user", "content": 1}), r"messages\[0\]\.content must be text"),
        (saved({"role": "user", "content": "\ud800"}), r"messages\[0\]\.content must be text"),
        (saved({"role": "user", "calls": [{}]}), r"messages\[0\]\.calls must be a list, and only an assistant calls"),
        (saved({"role": "assistant", "calls": [{"arguments": {}}]}), r"calls\[0\] must be a call with a name"),
        (saved({"role": "assistant", "calls": [{"name": "f"}]}), r"calls\[0\]\.arguments must be the arguments"),
        (
            saved({"role": "assistant", "calls": [{"name": "f", "arguments": {"a": "\ud800"}}]}),
            r"calls\[0\]\.arguments must be the arguments",
        ),
        (saved({"role": "tool", "call_id": 7}), r"messages\[0\]\.call_id must be text"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_damaged_file_is_refused_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "talk.json"
    path.write_text(text, "utf-8")
    with pytest.raises(InputError, match=words) as raised:
        read_conversation(path)
    assert str(path) in str(raised.value)
    assert raised.value.hint == "Give a file that a conversation was saved to."


def test_a_name_that_no_file_can_have_is_a_sentence() -> None:
    with pytest.raises(InputError, match="is not the name of a file"):
        write_conversation(Path("a\0b"), TALK)
    with pytest.raises(InputError, match="is not the name of a file"):
        read_conversation(Path("a\0b"))
