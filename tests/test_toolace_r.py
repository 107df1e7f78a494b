"""ToolACE-R's data: sampling that can be killed, selection by what the model can do, drafts that teach refinement."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner

from toolace_edge.errors import EngineError, InputError
from toolace_edge.examples import Example, read_examples
from toolace_edge.messages import Message, Tool, ToolCall
from toolace_edge.train import sample_command
from toolace_edge.train.check import _problem as problem_of
from toolace_edge.train.check import examine
from toolace_edge.train.command import train
from toolace_edge.train.endpoint import EndpointAnswerer
from toolace_edge.train.refinement import Pair, pairs, read_drafts, write_drafts
from toolace_edge.train.sampling import Calls, Record, Sample, read_records, sample
from toolace_edge.train.selection import at_random, read_ids, select, write_ids

TOOL = Tool("add", "Add.", {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
ABOUT = {"model": "m", "data": "d", "seed": 1}


def lines(count: int) -> list[Example]:
    return [
        Example(str(i), "x", (Message("user", f"add {i}"),), (TOOL,), (ToolCall("add", {"a": i}),))
        for i in range(count)
    ]


class Digits:
    """Right on the j-th sample of line i where bit j of i is set."""

    at_once = 3

    def __init__(self, stop_at: int | None = None) -> None:
        self.asked: list[str] = []
        self.stop_at = stop_at

    def answers(self, example: Example, k: int) -> list[Calls | None]:
        if self.stop_at is not None and int(example.id) >= self.stop_at:
            raise KeyboardInterrupt
        self.asked.append(example.id)
        number = int(example.id)
        return [(ToolCall("add", {"a": number if number >> j & 1 else -1}),) for j in range(k)]


def records(count: int = 16, k: int = 4) -> list[Record]:
    return [
        Record(str(i), f"add {i}", tuple(Sample((ToolCall("add", {"a": i}),), bool(i >> j & 1)) for j in range(k)))
        for i in range(count)
    ]


def test_samples_are_scored_and_read_back(tmp_path: Path) -> None:
    sample(Digits(), lines(16), 4, tmp_path / "s.jsonl", ABOUT)
    got = list(read_records(tmp_path / "s.jsonl"))
    assert [[s.right for s in record.samples] for record in got] == [[s.right for s in r.samples] for r in records()]
    assert got[5].pass_rate == 0.5
    assert got[5].request == "add 5"


def test_a_killed_run_goes_on_and_ends_as_if_unbroken(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    sample(Digits(), lines(20), 2, whole, ABOUT)
    with pytest.raises(KeyboardInterrupt):
        sample(Digits(stop_at=12), lines(20), 2, broken, ABOUT)
    text = broken.read_bytes()
    assert 2 < len(text.splitlines()) < 20
    broken.write_bytes(text[:-7])  # as a kill in the middle of a line leaves it
    again = Digits()
    sample(again, lines(20), 2, broken, ABOUT)
    assert broken.read_bytes() == whole.read_bytes()
    assert "0" not in again.asked


def test_another_question_does_not_go_on_in_the_same_file(tmp_path: Path) -> None:
    sample(Digits(), lines(3), 2, tmp_path / "s.jsonl", ABOUT)
    with pytest.raises(InputError, match="not what is asked"):
        sample(Digits(), lines(3), 4, tmp_path / "s.jsonl", ABOUT)


@pytest.mark.parametrize("text", ["my notes", "my notes\nand more", '{"id": 1}\n{"id": 2}', "\n", "[1]\n"])
def test_a_file_that_holds_no_samples_is_left_as_it_is(text: str, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="holds no samples"):
        sample(Digits(), lines(3), 2, file, ABOUT)
    assert file.read_text(encoding="utf-8") == text
    with pytest.raises(InputError, match="holds no samples"):
        list(read_records(file))


def test_a_header_that_a_kill_cut_is_written_again(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "new" / "cut.jsonl"
    sample(Digits(), lines(3), 2, whole, ABOUT)
    cut.parent.mkdir()
    cut.write_bytes(whole.read_bytes()[:20])
    sample(Digits(), lines(3), 2, cut, ABOUT)
    assert cut.read_bytes() == whole.read_bytes()


def test_samples_of_other_data_or_of_another_model_are_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, model, out = tmp_path / "d.jsonl", tmp_path / "m.gguf", tmp_path / "s.jsonl"
    data.write_text(line("add 3", [{"name": "add", "arguments": {"a": 3}}]), encoding="utf-8")
    model.write_bytes(b"GGUF one")
    monkeypatch.setattr(sample_command, "open_model", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(sample_command, "LocalAnswerer", lambda *_: Same())
    asked = ["sample", "--data", str(data), "--model", str(model), "--out", str(out)]
    assert CliRunner().invoke(train, asked).exit_code == 0
    before = out.read_bytes()
    assert CliRunner().invoke(train, asked).exit_code == 0
    model.write_bytes(b"GGUF two")
    assert "another model_sha256" in str(CliRunner().invoke(train, asked).exception)
    model.write_bytes(b"GGUF one")
    data.write_text(line("add 4", [{"name": "add", "arguments": {"a": 4}}]), encoding="utf-8")
    assert "another data_sha256" in str(CliRunner().invoke(train, asked).exception)
    assert out.read_bytes() == before


class Same:
    """Calls nothing."""

    at_once = 1

    def answers(self, example: Example, k: int) -> list[Calls | None]:
        return [()] * k


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda rows: [*rows, rows[-1]], "the id '3' comes twice"),
        (lambda rows: [*rows[:-1], {**rows[-1], "samples": rows[-1]["samples"][:1]}], "1 answers, and 2 to the lines"),
        (lambda rows: [*rows[:-1], {**rows[-1], "samples": []}], "no answers"),
        (lambda rows: [*rows, {"id": "x"}], "line 6: not the samples of a line"),
    ],
)
def test_what_cannot_be_chosen_from_is_named_by_its_line(change: Any, says: str, tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    sample(Digits(), lines(4), 2, file, ABOUT)
    head, *rows = map(json.loads, file.read_text().splitlines())
    file.write_text("".join(json.dumps(row) + "\n" for row in (head, *change(rows))))
    with pytest.raises(InputError, match=says):
        list(read_records(file))
    file.write_text(file.read_text()[:-9])
    with pytest.raises(InputError, match="is finished by the same command"):
        raise_with_hint(file)


def raise_with_hint(file: Path) -> None:
    try:
        list(read_records(file))
    except InputError as error:
        raise InputError(f"{error} {error.hint}") from error


def test_drafts_and_ids_that_are_none_are_sentences(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"\xff\xfe\x00")
    for read in (read_ids, lambda path: read_drafts(path, "id")):
        with pytest.raises(InputError, match="not UTF-8"):
            read(tmp_path / "b")
    (tmp_path / "d").write_text('{"id": "1", "request": "r", "calls": [{"name": "f", "arguments": null}]}\n')
    with pytest.raises(InputError, match="line 1: not a draft"):
        read_drafts(tmp_path / "d", "id")


def test_the_selection_is_what_lies_between_and_a_share_of_the_rest() -> None:
    got = select(records(), solved=0, hopeless=0)
    assert got.histogram == (1, 4, 6, 4, 1)
    assert got.in_between == 14
    assert set(got.chosen) == {str(i) for i in range(1, 15)}
    many = [*records(), *(Record(f"s{i}", "", (Sample((), True),) * 4) for i in range(50)),
            *(Record(f"h{i}", "", (Sample(None, False),) * 4) for i in range(50))]  # fmt: skip
    chosen = select(many, solved=0.2, hopeless=0.1).chosen
    assert len(chosen) == 20
    assert sum(i.startswith("s") or i == "15" for i in chosen) == 4
    assert sum(i.startswith("h") or i == "0" for i in chosen) == 2
    assert chosen == select(many, solved=0.2, hopeless=0.1).chosen
    assert len(at_random(many, 20, seed=1)) == 20
    with pytest.raises(ValueError, match="no room"):
        select(many, solved=0.9, hopeless=0.1)


def test_right_drafts_are_kept_up_to_their_share() -> None:
    half = pairs(records(), unchanged=0.5)
    assert sum(pair.right for pair in half) == 8 == len(half) / 2
    assert not any(pair.right for pair in pairs(records(), unchanged=0))
    fifth = pairs(records(), unchanged=0.2)
    assert sum(pair.right for pair in fifth) == 2
    unreadable = Record("x", "", (Sample(None, False), Sample((ToolCall("add", {"a": 3}),), False)))
    assert pairs([unreadable])[0].draft == (ToolCall("add", {"a": 3}),)


# --- a server ------------------------------------------------------------------------------------------------------


class _Server(BaseHTTPRequestHandler):
    failures = 0
    cuts = 0  # replies that end before their length
    refuses: ClassVar[tuple[str, ...]] = ()  # requests that begin so
    most = 0
    now = 0
    lock = threading.Lock()
    bodies: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        cls = type(self)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with cls.lock:
            cls.bodies.append(body)
            cls.now += 1
            cls.most = max(cls.most, cls.now)
            fail = cls.failures > 0
            cls.failures -= fail
        threading.Event().wait(0.02)
        number = int(body["messages"][-1]["content"].split()[-1])
        arguments = "{broken" if number == 3 else json.dumps({"a": number})
        call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": arguments}}
        reply = json.dumps(
            {"choices": [{"message": {"role": "assistant", "content": "", "tool_calls": [call]}}]}
        ).encode()
        with cls.lock:
            cls.now -= 1
            cut = cls.cuts > 0
            cls.cuts -= cut
        refuse = body["messages"][-1]["content"].startswith(cls.refuses)
        bad = self.headers["Authorization"] == "Bearer bad"
        self.send_response(503 if fail else 401 if bad else 400 if refuse else 200)
        self.send_header("Content-Length", str(len(reply) + 9 * cut))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def url() -> Iterator[str]:
    _Server.failures, _Server.most, _Server.bodies = 0, 0, []
    _Server.cuts, _Server.refuses = 0, ()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def test_a_server_is_asked_many_at_once_and_what_it_breaks_is_wrong(url: str, tmp_path: Path) -> None:
    _Server.failures = 3
    answerer = EndpointAnswerer(url, "m", at_once=6, wait_s=0.01)
    sample(answerer, lines(12), 2, tmp_path / "s.jsonl", ABOUT)
    got = list(read_records(tmp_path / "s.jsonl"))
    assert [record.id for record in got] == [str(i) for i in range(12)]
    assert [record.pass_rate for record in got] == [0.0 if i == 3 else 1.0 for i in range(12)]
    assert got[3].samples[0].calls is None
    assert _Server.most > 2
    assert _Server.bodies[0]["tools"][0]["function"]["name"] == "add"
    assert {body["temperature"] for body in _Server.bodies} == {0.0, 1.0}


def test_a_server_that_refuses_is_a_sentence(url: str) -> None:
    with pytest.raises(EngineError, match="401"):
        EndpointAnswerer(url, "m", key="bad").answers(lines(1)[0], 1)
    with pytest.raises(EngineError, match="cannot be asked"):
        EndpointAnswerer("http://127.0.0.1:9", "m", tries=2, wait_s=0).answers(lines(1)[0], 1)


def test_a_line_that_a_server_refuses_has_no_answer(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _Server.refuses = ("add 5",)
    answerer = EndpointAnswerer(url, "m", at_once=3)
    sample(answerer, lines(8), 2, tmp_path / "s.jsonl", ABOUT)
    got = list(read_records(tmp_path / "s.jsonl"))
    assert [record.pass_rate for record in got] == [0.0 if i in (3, 5) else 1.0 for i in range(8)]
    assert answerer.refused == 2
    assert "1 refused, the last one the line 5" in capsys.readouterr().err


def test_a_server_that_refuses_every_request_ends_the_sampling(url: str) -> None:
    _Server.refuses = ("add",)
    with pytest.raises(EngineError, match=r"answered 400: .*as to any request"):
        EndpointAnswerer(url, "m").answers(lines(1)[0], 1)


def test_an_answer_that_breaks_off_is_asked_for_again(url: str) -> None:
    _Server.cuts = 1
    assert EndpointAnswerer(url, "m", wait_s=0).answers(lines(2)[1], 1) == [(ToolCall("add", {"a": 1}),)]


# --- check and select on the command line ----------------------------------------------------------------------------


def line(content: str, calls: list[dict[str, Any]], **more: Any) -> str:
    function = {"name": "add", "description": "", "parameters": dict(TOOL.parameters)}
    answer = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": call} for call in calls],
    }
    turns = [{"role": "user", "content": content}, answer]
    return json.dumps({"messages": turns, "tools": [{"type": "function", "function": function}], **more})


def test_check_says_what_a_file_contains_and_which_line_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "d.jsonl"
    right, wrong = {"name": "add", "arguments": {"a": 3}}, {"name": "add", "arguments": {"a": "three"}}
    file.write_text(
        "\n".join(
            [line("add 3", [right]), line("hello", []), line("add 3", [wrong]), line("3", [{**right, "name": "sub"}])]
        )
    )
    report = examine(file)
    assert (report.lines, report.bad) == (4, 2)
    assert report.kinds["no call"] == 1 == report.kinds["a number"]
    assert "line 3" in report.problems[0]
    assert "sub" in report.problems[1]
    assert any(lack.startswith("several calls: 0 of 4") for lack in report.lacks())
    result = CliRunner().invoke(train, ["check", str(file), "--json"])
    assert result.exit_code == 1
    assert json.loads(result.output)["bad"] == 2


NOTE = Tool("note", "Note.", {"type": "object", "properties": {
    "text": {"type": "string"}, "long": {"type": "string", "maxLength": 900},
    "tags": {"anyOf": [{"type": "null"}, {"type": "array", "items": {"type": "string"}}]},
}, "required": []})  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"text": "x" * 513}, "arguments.text has 513 characters; without maxLength 512 are the most"),
        ({"text": "a\x00b"}, r"control character '\\x00'"),
        ({"tags": ["a"] * 17}, "arguments.tags has 17 items"),
        ({"tags": ["a", "b" * 600]}, r"arguments.tags\[1\] has 600 characters"),
        ({"text": "x" * 512, "long": "y" * 900, "tags": ["a\tb\n"] * 16}, None),
        ({"tags": None}, None),
    ],
)
def test_an_answer_that_the_runtime_could_not_write_is_no_line(arguments: Any, says: str | None) -> None:
    line_ = Example("1", "x", (Message("user", "note"),), (NOTE,), (ToolCall("note", arguments),))
    problem = problem_of(line_)
    assert (problem is None) if says is None else re.search(says, problem or "")
    many = Example("1", "x", (Message("user", "note"),), (NOTE,), (ToolCall("note", {}),) * 9)
    assert "9 calls" in (problem_of(many) or "")


def test_check_counts_ids_that_come_again(tmp_path: Path) -> None:
    file = tmp_path / "d.jsonl"
    file.write_text("\n".join(line(f"hello {i}", [], id="same") for i in range(3)))
    report = examine(file)
    assert (report.bad, report.repeated) == (0, 2)
    assert any("2 of 3 lines have that of an earlier one" in lack for lack in report.lacks())


@pytest.mark.parametrize(
    "asked",
    [
        ("sample", "--data", __file__, "--out", "x", "--in-flight", "0"),
        *(("model", "--data", __file__, "--out", "x", f"--{flag}", "0") for flag in ("threads", "width", "steps")),
        *(("model", "--data", __file__, "--out", "x", f"--{flag}", "0") for flag in ("layers", "eval-every")),
        ("base", "--gguf", __file__, "--data", __file__, "--out", "x", "--layers", "1"),
        ("base", "--gguf", __file__, "--data", __file__, "--out", "x", "--ffn", "0"),
    ],
)  # fmt: skip
def test_a_number_that_means_nothing_is_refused(asked: tuple[str, ...]) -> None:
    result = CliRunner().invoke(train, asked)
    assert (result.exit_code, "is not in the range" in result.output) == (2, True)


def test_select_writes_ids_and_drafts(tmp_path: Path) -> None:
    sample(Digits(), lines(16), 4, tmp_path / "s.jsonl", ABOUT)
    out = tmp_path / "round1"
    result = CliRunner().invoke(
        train, ["select", str(tmp_path / "s.jsonl"), "--out", str(out), "--solved", "0", "--hopeless", "0"]
    )
    assert result.exit_code == 0, result.output
    assert len((out / "ids.txt").read_text().split()) == 14
    drafts = [json.loads(text) for text in (out / "drafts.jsonl").read_text().splitlines()]
    assert {draft["right"] for draft in drafts} == {True, False}
    assert json.loads((out / "selection.json").read_text())["histogram"] == [1, 4, 6, 4, 1]


@pytest.mark.slow
def test_the_bundled_model_is_sampled_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    file, out = tmp_path / "d.jsonl", tmp_path / "s.jsonl"
    file.write_text(
        "".join(line(f"add {i}", [{"name": "add", "arguments": {"a": i}}], id=str(i)) + "\n" for i in range(4))
    )
    asked = ["sample", "--data", str(file), "--out", str(out), "-k", "2", "--model", "nano"]
    assert CliRunner().invoke(train, asked).exit_code == 0
    whole = out.read_text()
    assert [record.id for record in read_records(out)] == ["0", "1", "2", "3"]
    assert all(sample.calls is not None for record in read_records(out) for sample in record.samples)
    out.write_text(whole[: len(whole) // 2])
    assert CliRunner().invoke(train, asked).exit_code == 0
    assert out.read_text() == whole


def test_lines_are_what_the_evaluation_reads(tmp_path: Path) -> None:
    file = tmp_path / "d.jsonl"
    file.write_text(line("add 3", [{"name": "add", "arguments": {"a": 3}}], id="one") + "\n")
    assert [example.id for example in read_examples(file)] == ["one"]


def test_ids_and_drafts_come_back_whatever_unicode_breaks_lines_at(tmp_path: Path) -> None:
    odd = ["a b", "one\u2028two", "three\x85four", "five\x0bsix"]
    write_ids(odd, tmp_path / "ids.txt")
    assert read_ids(tmp_path / "ids.txt") == odd
    write_drafts([Pair(name, f"say {name}", (), False) for name in odd], tmp_path / "drafts.jsonl")
    assert read_drafts(tmp_path / "drafts.jsonl", "id") == {name: [()] for name in odd}
    assert read_drafts(tmp_path / "drafts.jsonl", "request") == {f"say {name}": [()] for name in odd}
