"""A hint reaches whoever sees the traceback, and the command line says it once."""

from __future__ import annotations

import copy
import pickle
import sys
import traceback

import pytest
from click.testing import CliRunner

from toolace_edge.cli import cli
from toolace_edge.errors import CallError, InputError, MissingDependency, ModelError, ToolaceEdgeError

newer = pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have notes from Python 3.11 on")


def shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


@newer
@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (InputError("No.", hint="Say yes."), "Say yes."),
        (ModelError("No."), ModelError.hint),
        (MissingDependency("mcp", "mcp"), "pip install 'toolace-edge[mcp]'  (in a checkout: pip install '.[mcp]')"),
    ],
)
def test_a_traceback_ends_with_the_hint(error: ToolaceEdgeError, hint: str) -> None:
    assert shown(error).endswith(f"{error}\nHint: {hint}\n")
    assert hint not in str(error)


@newer
def test_a_copy_has_the_hint_once() -> None:
    error = InputError("No.", hint="Say yes.")
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert shown(again).count("Say yes.") == 1


def test_without_a_hint_there_is_none() -> None:
    assert "Hint" not in shown(CallError("No."))
    assert "Hint" not in shown(ModelError("No.", hint=""))


def test_the_command_line_says_the_hint_once() -> None:
    result = CliRunner().invoke(cli, ["run", "x", "--model", "nanoo"])
    assert result.exit_code == 1
    assert result.output.count("Known models") == 1
    assert result.output.count("Hint:") == 1
