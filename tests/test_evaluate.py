"""Data files are read line by line and refused by line; figures are what a hand would count."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from toolace_edge.engines.scripted import ScriptedEngine
from toolace_edge.errors import DataError, InputError
from toolace_edge.evaluate import evaluate, wilson
from toolace_edge.examples import Example, read_examples
from toolace_edge.formats import get
from toolace_edge.messages import Message, ToolCall
from toolace_edge.registry import Model

from .tiny import tiny_tokenizer_json

TIMER = {
    "type": "function",
    "function": {
        "name": "set_timer",
        "description": "Set a timer.",
        "parameters": {"type": "object", "properties": {"minutes": {"type": "integer"}}, "required": ["minutes"]},
    },
}
CALL = '<|call|>{"name":"set_timer","arguments":{"minutes":10}}<|end|>'
OTHER = '<|call|>{"name":"set_timer","arguments":{"minutes":7}}<|end|>'
NONE = "<|text|><|end|>"


def line(request: str = "ten minutes", minutes: int | None = 10, **more: Any) -> dict[str, Any]:
    call = {"id": "1", "type": "function", "function": {"name": "set_timer", "arguments": {"minutes": minutes}}}
    answer = (
        {"role": "assistant", "content": None, "tool_calls": [call]}
        if minutes
        else {"role": "assistant", "content": ""}
    )
    return {"source": "ours", "messages": [{"role": "user", "content": request}, answer], "tools": [TIMER], **more}


def write(path: Path, lines: Iterable[Any]) -> Path:
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in lines), "utf-8")
    return path


def scripted(*replies: str, n_ctx: int = 2048) -> Model:
    """A model that answers with these, one a round, from the first again in every conversation."""
    return Model("scripted", ScriptedEngine.replies(tiny_tokenizer_json(), replies, n_ctx=n_ctx), get("compact"))


def examples(tmp_path: Path, *lines: dict[str, Any]) -> list[Example]:
    return list(read_examples(write(tmp_path / "data.jsonl", lines)))


def test_a_line_becomes_a_conversation_tools_and_gold(tmp_path: Path) -> None:
    (example,) = examples(tmp_path, line(id="x/1", subset="simple"))
    assert (example.id, example.group) == ("x/1", "simple")
    assert example.messages == (Message("user", "ten minutes"),)
    assert example.gold == (ToolCall("set_timer", {"minutes": 10}, "1"),)
    assert [tool.name for tool in example.tools] == ["set_timer"]


def test_earlier_calls_and_results_become_messages(tmp_path: Path) -> None:
    one = line()
    one["messages"][:0] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "seven"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "a", "function": {"name": "set_timer", "arguments": '{"minutes": 7}'}}],
        },
        {"role": "tool", "tool_call_id": "a", "content": "done"},
    ]
    (example,) = examples(tmp_path, one)
    assert example.messages[:4] == (
        Message("system", "Be brief."),
        Message("user", "seven"),
        Message("assistant", "", (ToolCall("set_timer", {"minutes": 7}, "a"),)),
        Message("tool", "done", call_id="a"),
    )


def test_gzip_and_plain_files_read_the_same(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain", [line(), line()])
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert list(read_examples(packed)) == list(read_examples(plain))


def test_a_limit_takes_the_first_lines_and_reads_no_further(tmp_path: Path) -> None:
    path = write(tmp_path / "data", [line("a"), "", line("b"), "not json"])
    assert [example.messages[0].content for example in read_examples(path, limit=2)] == ["a", "b"]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("{", "not JSON"),
        ("[]", "must be a JSON object"),
        ("[" * 100_000, "nested too deeply"),
        ("9" * 5000, "number"),
        ('{"id": NaN}', "NaN"),
        (line(accept=[{"set_timer": 3}]), "`accept` must give set_timer an object"),
        (line(" "), "The request is empty"),
        (line("ten \ud800"), "surrogate"),
        ({**line(), "messages": line()["messages"][1:]}, "nothing to answer"),
        ({**line(), "messages": []}, "must end with the assistant message"),
        ({**line(), "messages": [{"role": "user", "content": "x"}]}, "must end with the assistant message"),
        ({**line(), "messages": [{"role": "robot"}]}, r"messages\[0\]: a message needs a `role`"),
        ({**line(), "messages": [{"role": "user", "content": ["x"]}]}, r"messages\[0\]\.content"),
        ({**line(), "messages": [{"role": "assistant", "tool_calls": [{}]}]}, r"tool_calls\[0\]: a call needs"),
        (
            {
                **line(),
                "messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}],
            },
            "arguments: not JSON",
        ),
        ({**line(), "tools": None}, "`tools` must be a list"),
        ({**line(), "accept": "all"}, "`accept` must be a list"),
        ({**line(), "accept": [{"other": {}}]}, "`accept` has an entry for other"),
    ],
)
def test_a_malformed_line_is_named_with_its_number(tmp_path: Path, second: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        list(read_examples(write(tmp_path / "data.jsonl", [line(), second])))
    assert caught.value.line == 2
    assert "data.jsonl, line 2" in str(caught.value)


def test_a_damaged_gzip_file_is_a_data_error(tmp_path: Path) -> None:
    path = tmp_path / "data.gz"
    path.write_bytes(gzip.compress("\n".join(json.dumps(line(str(i))) for i in range(2000)).encode())[:-50])
    with pytest.raises(DataError, match="damaged here"):
        list(read_examples(path))


def test_bytes_that_are_not_text_are_a_data_error(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"\xff\xfe\x00\n")
    with pytest.raises(DataError, match="line 1"):
        list(read_examples(path))


def test_an_empty_file_holds_no_examples(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no examples"):
        list(read_examples(write(tmp_path / "data", ["", " "])))


def test_the_report_counts_by_source_and_subset(tmp_path: Path) -> None:
    lines = [line(subset="simple"), line(minutes=5, subset="simple"), line("hello", None)]
    report = evaluate(scripted(CALL), examples(tmp_path, *lines), rounds=0)
    assert list(report) == [
        "n",
        "accuracy",
        "schema_valid",
        "by",
        "rounds_mean",
        "accuracy_first_round",
        "forward_passes_mean",
        "seconds",
    ]
    assert (report["n"], report["accuracy"], report["schema_valid"]) == (3, 0.333333, 1.0)
    assert report["by"] == {"ours": {"n": 1, "accuracy": 0.0}, "simple": {"n": 2, "accuracy": 0.5}}


def test_a_line_without_gold_calls_is_right_when_nothing_is_called(tmp_path: Path) -> None:
    report = evaluate(scripted(NONE), examples(tmp_path, line("hello", None), line()), rounds=0)
    assert report["accuracy"] == 0.5
    assert report["schema_valid"] == 1.0


def test_the_first_round_is_judged_apart_from_the_last(tmp_path: Path) -> None:
    report = evaluate(scripted(OTHER, CALL, CALL), examples(tmp_path, line()), rounds=3)
    assert (report["accuracy"], report["accuracy_first_round"]) == (1.0, 0.0)
    assert report["rounds_mean"] == 3.0


def test_accepted_values_count_as_right(tmp_path: Path) -> None:
    accepted = line(minutes=5, accept=[{"set_timer": {"minutes": [5, 10]}}])
    assert evaluate(scripted(CALL), examples(tmp_path, accepted), rounds=0)["accuracy"] == 1.0


def test_tools_that_are_refused_make_the_line_wrong_and_say_why(tmp_path: Path) -> None:
    bad = {"name": "f", "parameters": {"type": "object", "properties": {"x": {"not": {"type": "string"}}}}}
    outcomes = []
    report = evaluate(
        scripted(CALL),
        examples(tmp_path, {**line("hello", None), "tools": [bad]}, line()),
        on_outcome=outcomes.append,
        rounds=0,
    )
    assert report["accuracy"] == 0.5
    assert "properties.x" in str(outcomes[0].refused)
    assert outcomes[1].refused is None


def test_a_prompt_that_does_not_fit_makes_the_line_wrong(tmp_path: Path) -> None:
    outcomes = []
    evaluate(scripted(CALL, n_ctx=64), examples(tmp_path, line("x " * 400)), on_outcome=outcomes.append, rounds=0)
    assert "64" in str(outcomes[0].refused)


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(line()).encode())
    assert len(list(read_examples(path))) == 1


def test_a_conversation_may_go_on_after_an_assistants_words(tmp_path: Path) -> None:
    one = line()
    one["messages"].insert(1, {"role": "assistant", "content": "Sure."})
    assert evaluate(scripted(CALL), examples(tmp_path, one))["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("share", "n", "low", "high"),
    [(0.5, 100, 0.4038, 0.5962), (0.0, 10, 0.0, 0.2775), (1.0, 10, 0.7225, 1.0), (0.0, 0, 0.0, 1.0)],
)
def test_wilsons_interval_matches_the_textbook(share: float, n: int, low: float, high: float) -> None:
    assert wilson(share, n) == pytest.approx((low, high), abs=1e-4)
