"""JSON and other text files of strangers, read strictly: bounded, UTF-8, no name twice, nothing that is not JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from toolace_edge.errors import ToolError

MAX_DIGITS = 400  # of an integer; a double has no more than 309


class BadJson(Exception):
    """JSON to Python's parser, but not something that a file can mean."""


def read_text(path: Path, max_bytes: int, what: str) -> str:
    """The text of a file; `what` says what it should be ("a JSON file of tools"). Raises ToolError."""
    try:
        with path.open("rb") as stream:
            data = stream.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise ToolError(f"{path} is larger than {max_bytes // 2**20} MB.", hint="Give the tools that matter.")
        return data.decode("utf-8-sig")
    except FileNotFoundError:
        raise ToolError(f"{path} does not exist.", hint=f"Give the path of {what}.") from None
    except OSError as error:
        raise ToolError(f"{path} cannot be read: {error.strerror}.", hint=f"Give the path of {what}.") from None
    except UnicodeDecodeError as error:
        raise ToolError(f"{path} is not UTF-8 at byte {error.start}.", hint="Save it as UTF-8.") from None
    except ValueError:  # a NUL in it
        raise ToolError(f"{str(path)!r:.200} is not the name of a file.", hint=f"Give the path of {what}.") from None


def parse_json(text: str, path: Path) -> Any:
    """The value that the text of the file at `path` spells. Raises ToolError with line and column."""
    try:
        return json.loads(
            text, object_pairs_hook=without_repeats, parse_constant=_refuse_constant, parse_int=_read_integer
        )
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ToolError(f"{path} is not JSON: {error.msg} at {place}.", hint="Correct the file there.") from None
    except BadJson as error:
        raise ToolError(f"{path} {error}.", hint="Correct the file there.") from None
    except RecursionError:
        raise ToolError(f"{path} is nested too deeply.", hint="Flatten the schemas.") from None


def read_json(path: Path, max_bytes: int, what: str) -> Any:
    """The value in a JSON file. Raises ToolError."""
    return parse_json(read_text(path, max_bytes, what), path)


def without_repeats(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """The pairs of one object as a dict; BadJson where a name comes twice, as one of the two would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise BadJson(f"gives {next(name for name in names if names.count(name) > 1)!r} twice in one object")
    return found


def _refuse_constant(name: str) -> Any:
    raise BadJson(f"holds {name}, which is not JSON")


def _read_integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise BadJson(f"holds an integer of {len(digits)} digits, {digits[:20]}...")
    return int(digits)
