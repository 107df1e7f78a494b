"""A data file: lines of conversations, the tools at hand, and the calls that are right.

One JSON object a line, gzip or plain: `messages` in the OpenAI form (the last one is the answer), `tools`, `source`,
and optionally `id`, `subset` (figures then go by subset) and `accept` (every value that counts as right, matching.py).
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any

from toolace_edge.errors import DataError, InputError, SchemaError
from toolace_edge.matching import calls_match
from toolace_edge.messages import Message, Tool, ToolCall, conversation_of
from toolace_edge.prompts import check_conversation
from toolace_edge.tools import load_tools

MAX_LINE = 64 * 2**20  # characters: no conversation, so no data file either


@dataclass(frozen=True, slots=True)
class Example:
    """One line: the conversation, the tools, the gold calls (none: nothing should be called), and accepted values.

    `refused` says why the tools cannot be used; such a line counts as wrong. `text` is what the answer says besides,
    and `line` where it stands in its file, from 1.
    """

    id: str
    group: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    gold: tuple[ToolCall, ...]
    accept: Sequence[Mapping[str, Any]] | None = None
    refused: str | None = None
    text: str = ""
    line: int = 0


def read_examples(path: Path, limit: int | None = None) -> Iterator[Example]:
    """The examples of a file, the first `limit` of them. Raises DataError with the line that is wrong."""
    with _open_text(path) as lines:
        count = 0
        for number, line in enumerate(_checked(lines, path), start=1):
            if limit is not None and count >= limit:
                return
            if not line.strip():
                continue
            count += 1
            try:
                yield _example(_parse(line), number)
            except RecursionError as error:
                raise DataError(str(path), number, "it is nested too deeply.") from error
            except json.JSONDecodeError as error:
                raise DataError(str(path), number, f"not JSON: {error.msg} at character {error.pos}.") from error
            except InputError as error:
                raise DataError(str(path), number, str(error), hint=error.hint or None) from error
    if not count:
        raise InputError(f"{path} holds no examples.", hint="`toolace-edge eval --help` says what a line is.")


@contextmanager
def _open_text(path: Path) -> Iterator[IO[str]]:
    try:
        raw = path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", hint="Give the path of a data file.") from error
    with raw:
        packed = raw.peek(2)[:2] == b"\x1f\x8b"
        with TextIOWrapper(gzip.GzipFile(fileobj=raw) if packed else raw, encoding="utf-8-sig") as lines:
            yield lines


def _checked(lines: IO[str], path: Path) -> Iterator[str]:
    number = 0
    try:
        while line := lines.readline(MAX_LINE):
            if len(line) == MAX_LINE:
                raise DataError(str(path), number + 1, f"it is longer than {MAX_LINE} characters.")
            number += 1
            yield line
    except (UnicodeDecodeError, EOFError, OSError, zlib.error) as error:
        raise DataError(str(path), number + 1, f"the file is damaged here: {error}.") from error


def _parse(text: str) -> Any:
    """JSON as the standard has it. InputError besides json's own error."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError:
        raise
    except ValueError as error:  # an integer of thousands of digits
        raise InputError(f"it holds a number that cannot be read: {error}.") from error


def _refuse_constant(name: str) -> Any:
    raise InputError(f"it holds {name}, which is not JSON.")


def _example(line: Any, number: int) -> Example:
    if not isinstance(line, dict):
        raise InputError("an example must be a JSON object.")
    listed = line.get("messages")
    if not isinstance(listed, list):
        raise InputError("`messages` must be a list.")
    messages = conversation_of(listed)
    if not messages or messages[-1].role != "assistant":
        raise InputError("`messages` must end with the assistant message that holds the right calls.")
    accept = line.get("accept")
    gold = messages[-1].calls
    if accept is not None and not (isinstance(accept, list) and all(isinstance(entry, dict) for entry in accept)):
        raise InputError("`accept` must be a list with an object for each gold call.")
    check_conversation(messages[:-1])
    calls_match(gold, gold, accept)  # refuses an `accept` that does not belong to these calls
    tools, refused = _tools(line.get("tools"))
    group = line.get("subset") or line.get("source") or "all"
    name, text = str(line.get("id", number)), messages[-1].content
    return Example(name, str(group), messages[:-1], tools, gold, accept, refused, text, number)


def _tools(entries: Any) -> tuple[tuple[Tool, ...], str | None]:
    if not isinstance(entries, list):
        raise InputError("`tools` must be a list.")
    try:
        return load_tools(entries), None
    except SchemaError as error:
        return (), str(error)
