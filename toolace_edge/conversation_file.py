"""A conversation in a JSON file: written aside and renamed, over another conversation only; read strictly.

    {"format": "toolace-edge conversation 1",
     "messages": [{"role": "user", "content": "..."},
                  {"role": "assistant", "calls": [{"name": "...", "arguments": {...}}]},
                  {"role": "tool", "content": "..."}]}

`content`, `calls`, and the `id` of a call with its result's `call_id`, are left out where they are empty.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from toolace_edge.engines.cache_file import write_aside
from toolace_edge.errors import InputError, ToolError
from toolace_edge.json_file import read_json
from toolace_edge.messages import ROLES, Message, ToolCall, conversation_of, is_text

_FORMAT = "toolace-edge conversation 1"
_MAX_BYTES = 64 * 2**20
_HINT = "Give a file that a conversation was saved to."


def write_conversation(path: Path, messages: Sequence[Message | Mapping[str, Any]]) -> None:
    """Replace the file at `path`, which only its owner may read, or leave it as it is. InputError says why.

    Only a saved conversation is replaced, and no folder is made.
    """
    content = {"format": _FORMAT, "messages": [_message_json(message) for message in conversation_of(messages)]}
    try:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1).encode()
    except (ValueError, TypeError) as error:  # what was never JSON, put there by the program itself
        raise InputError(f"The conversation cannot be written as JSON: {error}.") from error
    try:
        _check_free(path)
        write_aside(path, text)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.", hint="Save it elsewhere.") from error
    except ValueError:  # a NUL in it
        raise InputError(f"{str(path)!r:.200} is not the name of a file.", hint="Save it elsewhere.") from None


def read_conversation(path: Path) -> tuple[Message, ...]:
    """The messages of a file. InputError names the place where it is damaged, or another kind of file."""
    try:
        content = read_json(path, _MAX_BYTES, "a saved conversation")
    except ToolError as error:
        raise InputError(str(error), hint=_HINT) from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise InputError(f"{path} is not a saved conversation.", hint=_HINT)
    listed = content.get("messages")
    if not isinstance(listed, list):
        raise _damaged(path, "messages", "must be a list")
    return tuple(_message(one, path, f"messages[{i}]") for i, one in enumerate(listed))


def _check_free(path: Path) -> None:
    """InputError where writing to `path` would cost somebody another file, or there is no folder for it."""
    if not path.parent.is_dir():
        raise InputError(
            f"{path} cannot be written: there is no folder {path.parent}.", hint="Make the folder, or save elsewhere."
        )
    if not path.exists():
        return
    try:
        read_conversation(path)
    except InputError as error:
        raise InputError(
            f"{path} is there already, and is no saved conversation.",
            hint="Save to another file, or remove this one first.",
        ) from error


def _message_json(message: Message) -> dict[str, Any]:
    calls = [
        {"name": call.name, "arguments": dict(call.arguments), **({"id": call.id} if call.id else {})}
        for call in message.calls
    ]
    parts = {"content": message.content, "calls": calls, "call_id": message.call_id}
    return {"role": message.role, **{name: value for name, value in parts.items() if value}}


def _message(one: Any, path: Path, where: str) -> Message:
    if not isinstance(one, Mapping) or one.get("role") not in ROLES:
        raise _damaged(path, where, f"must be a message of one of the roles {', '.join(ROLES)}")
    content, calls = one.get("content", ""), one.get("calls", [])
    if not isinstance(content, str) or not is_text(content):
        raise _damaged(path, f"{where}.content", "must be text")
    if not isinstance(calls, list) or (calls and one["role"] != "assistant"):
        raise _damaged(path, f"{where}.calls", "must be a list, and only an assistant calls")
    read = tuple(_call(call, path, f"{where}.calls[{i}]") for i, call in enumerate(calls))
    return Message(one["role"], content, read, _identifier(one, "call_id", path, where))


def _call(one: Any, path: Path, where: str) -> ToolCall:
    if not isinstance(one, Mapping) or not isinstance(one.get("name"), str) or not is_text(one["name"]):
        raise _damaged(path, where, "must be a call with a name")
    if not isinstance(one.get("arguments"), dict) or not is_text(json.dumps(one["arguments"], ensure_ascii=False)):
        raise _damaged(path, f"{where}.arguments", "must be the arguments by name")
    return ToolCall(one["name"], one["arguments"], _identifier(one, "id", path, where))


def _identifier(one: Mapping[str, Any], key: str, path: Path, where: str) -> str | None:
    value = one.get(key)
    if value is not None and not isinstance(value, str):
        raise _damaged(path, f"{where}.{key}", "must be text")
    return value


def _damaged(path: Path, where: str, what: str) -> InputError:
    return InputError(f"{path}: {where} {what}.", hint=_HINT)
