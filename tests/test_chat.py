"""`toolace-edge chat`: what a pipe gets, what stands on a terminal, what may run. A scripted engine is the model."""

from __future__ import annotations

import io
import json
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from toolace_edge import paths
from toolace_edge.cli import App, cli
from toolace_edge.cli.chat_view import cut_for_reading
from toolace_edge.cli.line_input import History, piped_lines
from toolace_edge.cli.live import rows
from toolace_edge.cli.options import policies_from
from toolace_edge.conversation_file import read_conversation
from toolace_edge.errors import InputError
from toolace_edge.messages import Message, ToolResult
from toolace_edge.policy import Policy, by_name
from toolace_edge.registry import Model

from .pseudo_terminal import Program
from .test_agent import call, calls
from .test_evaluate import CALL, TIMER, scripted

at_a_terminal = pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")

HI, BYE = "<|text|>Hi.<|end|>", "<|text|>Bye.<|end|>"
NOTE = calls(call("calculate", expression="2*21"))
FAILING = calls(call("calculate", expression="1/0"))
FUNCTIONS = """
def look(n: int) -> list[dict[str, int | str]]:
    "Look."
    return [{"id": i, "name": "x" * 50} for i in range(n)]

def wipe(path: str) -> str:
    "Wipe."
    print("really", path)
    return f"{path} is gone"
"""


def chat(*args: str | Path, stdin: str | bytes, replies: tuple[str, ...], n_ctx: int = 2048) -> Result:
    """A chat from a pipe; without refinement each reply is an answer."""

    def open_model(model: str | None = None, **options: Any) -> Model:
        return scripted(*replies, n_ctx=n_ctx)

    command = ["chat", "--rounds", "0", *map(str, args)]
    result = CliRunner().invoke(cli, command, obj=App(open_model), input=stdin)
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def functions(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(FUNCTIONS)
    return path


@pytest.fixture
def described(tmp_path: Path) -> Path:
    path = tmp_path / "tools.json"
    path.write_text(json.dumps([TIMER]))
    return path


# --- from a pipe -------------------------------------------------------------------------------------------------


def test_each_line_of_a_pipe_is_a_turn_of_one_conversation() -> None:
    result = chat(stdin="what is 2*21?\n\nhello\r\nbye", replies=(NOTE, HI, BYE))
    assert result.stdout == 'calculate(expression="2*21")\n42\nHi.\nBye.\n'
    assert (result.stderr, result.exit_code) == ("", 0)


def test_a_line_that_fails_is_named_and_the_others_go_on() -> None:
    result = chat(stdin=b"one\n\xff\n/flyy\n/rest\nfour\n", replies=(HI, FAILING))
    assert result.stdout == 'Hi.\ncalculate(expression="1/0")\n'
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert errors == [
        "Error: line 2: The line is not UTF-8 at byte 0.",
        "Error: line 3: There is no command /flyy.",
        "Error: line 4: There is no command /rest. Did you mean /reset?",
        "Error: ValueError: division by zero has no value",
    ]
    assert result.exit_code == 1


def test_json_is_a_line_a_turn_also_for_one_that_failed() -> None:
    result = chat("--json", stdin=b"one\n\xff\nthree\n", replies=(NOTE, BYE))
    one, two, three = map(json.loads, result.stdout.splitlines())
    assert one["steps"][0]["results"] == [{"name": "calculate", "content": "42", "error": False, "outcome": "done"}]
    assert two == {"error": "The line is not UTF-8 at byte 0.", "hint": "Pipe text in UTF-8."}
    assert (three["text"], result.exit_code) == ("Bye.", 1)


def test_a_result_is_whole_in_a_pipe_though_the_model_reads_less(functions: Path) -> None:
    reply = calls(call("look", n=300))
    result = chat("--functions", functions, "--yes", stdin="look\n", replies=(reply,))
    written, shown = result.stdout.splitlines()
    assert written == "look(n=300)"
    assert json.loads(shown) == [{"id": i, "name": "x" * 50} for i in range(300)]


def test_two_slashes_send_one(tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    result = chat(stdin=f"//etc is what?\n/save {file}\n", replies=(HI,))
    assert (result.stdout, result.stderr) == ("Hi.\n", f"Saved 2 messages to {file}.\n")
    assert read_conversation(file) == (Message("user", "/etc is what?"), Message("assistant", "Hi."))


def test_a_conversation_is_forgotten_undone_saved_and_loaded(tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    lines = ["one", f"/save {file}", "two", "/undo", "three", "/reset", "four", "/reset", f"/load {file}", "five"]
    result = chat("--system", "Be brief.", stdin="\n".join(lines), replies=(HI, BYE))
    assert result.stdout.split() == ["Hi.", "Bye.", "Bye.", "Hi.", "Bye."]
    assert read_conversation(file)[:2] == (Message("system", "Be brief."), Message("user", "one"))
    assert "Forgotten: 'two'." in result.stderr
    assert "Loaded 3 messages, the last request: 'one'." in result.stderr


def test_saving_spares_a_file_that_is_something_else(tmp_path: Path) -> None:
    mine, talk = tmp_path / "thesis.txt", tmp_path / "talk.json"
    mine.write_text("mine")
    result = chat(stdin=f"one\n/save {mine}\n/save {talk}\ntwo\n/save {talk}\n", replies=(HI, BYE))
    assert (mine.read_text(), result.exit_code) == ("mine", 1)
    assert "line 2: " in result.stderr
    assert len(read_conversation(talk)) == 4


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("/save", "/save needs the name of a file."),
        (f"/save {__file__}/x", "cannot be written"),
        ("/save .", "is there already"),
        ("/load nowhere.json", "nowhere.json"),
        ("/undo", "nothing was asked yet"),
        ("/result", "no result"),
        ("/trace loud", "'loud' is no kind of trace."),
        ("/tools calc", "There is no tool 'calc'. Did you mean calculate?"),
        ("/quit now", "/quit takes nothing"),
        ("/", "There is no command /."),
    ],
)
def test_a_command_that_cannot_is_a_sentence(line: str, sentence: str) -> None:
    result = chat(stdin=f"{line}\nhello\n", replies=(HI,))
    assert sentence in result.stderr.splitlines()[0]
    assert (result.stdout, result.exit_code) == ("Hi.\n", 1)


def test_tools_are_listed_and_shown_with_what_may_run() -> None:
    result = chat("--deny", "add_note", stdin="/tools\n/tools calculate\n/tools add_note\n", replies=(HI,))
    listed, one, other = result.stderr.split("calculate: "), "[runs]", "[never runs]"
    assert "add_note       Write down a note. [never runs]" in listed[0]
    assert "expression string: What to calculate" in listed[1]
    assert one in listed[1]
    assert result.stderr.endswith(f"{other}\n")


def test_a_trace_says_what_each_answer_cost() -> None:
    stderr = chat(stdin="/trace\none\n/trace tokens\ntwo\n/trace off\nthree\n", replies=(HI, BYE)).stderr
    assert stderr.count("round 0: ") == 2
    assert stderr.count("forced by the grammar") == 1
    assert stderr.count("stopped: max_rounds") == 2


def test_quit_leaves_the_rest_unread() -> None:
    assert chat(stdin="one\n/quit\ntwo\n", replies=(HI, BYE)).stdout == "Hi.\n"


def test_what_a_file_describes_is_shown_and_does_not_run(described: Path, functions: Path) -> None:
    result = chat("--tools", described, stdin="ten minutes\nbye\n", replies=(CALL, BYE))
    assert (result.stdout, result.exit_code) == ("set_timer(minutes=10)\nBye.\n", 0)
    reply = calls(call("wipe", path="/"))
    both = chat("--tools", described, "--functions", functions, stdin="wipe\n", replies=(reply,))
    assert (both.stdout, both.exit_code) == ('wipe(path="/")\n', 0)
    (answer,) = map(json.loads, chat("--tools", described, "--json", stdin="x\n", replies=(CALL,)).stdout.splitlines())
    assert (answer["calls"], "steps" in answer) == ([{"name": "set_timer", "arguments": {"minutes": 10}}], False)
    assert chat("--tools", described, "--yes", stdin="x\n", replies=(CALL,)).exit_code == 2


def test_a_conversation_that_has_no_room_left_is_a_sentence() -> None:
    result = chat(stdin="one\n" + "word " * 3000 + "\n/reset\ntwo\n", replies=(HI, BYE))
    assert result.stdout == "Hi.\nHi.\n"
    error, hint, *_ = result.stderr.splitlines()
    assert error.startswith("Error: line 2: ")
    assert "2048" in error
    assert "/undo" in hint
    assert result.exit_code == 1


def test_max_steps_lets_the_model_read_what_came_of_a_call() -> None:
    result = chat("--max-steps", "3", stdin="2*21?\n", replies=(NOTE, "<|text|>It is 42.<|end|>"))
    assert result.stdout.splitlines()[1:] == ["42", "It is 42."]
    result = chat("--max-steps", "2", stdin="2*21?\n", replies=(NOTE, FAILING))
    assert result.stderr.endswith("Stopped: --max-steps allows no further answer.\n")


def test_a_line_is_bounded_and_the_next_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolace_edge.cli.line_input._MAX_LINE", 8)
    long, short = piped_lines(io.BytesIO(b"0123456789abcdefghijklm\nshort\r\n"))
    assert isinstance(long, InputError)
    assert short == "short"


# --- what may run ------------------------------------------------------------------------------------------------


NAMES = ("mail.read", "mail.send", "mail.delete", "look")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, "otherwise otherwise otherwise otherwise"),
        ({"yes": True}, "allow allow allow allow"),
        ({"allow": ["mail.*"], "ask": ["mail.send"], "deny": ["*.delete"]}, "allow ask deny otherwise"),
        ({"deny": ["mail.*"], "allow": ["mail.read"]}, "deny deny deny otherwise"),
        ({"deny": ["*"], "allow": ["look"]}, "deny deny deny allow"),
        ({"ask": ["*"], "allow": ["mail.*"], "deny": ["mail.send"]}, "allow deny allow ask"),
        ({"yes": True, "ask": ["mail.send"]}, "allow ask allow allow"),
        ({"yes": True, "ask": ["*"]}, "ask ask ask ask"),
        ({"allow": ["look"], "ask": ["look"]}, "otherwise otherwise otherwise ask"),
    ],
)
@pytest.mark.parametrize("otherwise", ["allow", "ask"])
def test_of_several_patterns_the_strictest_counts(flags: dict[str, Any], expected: str, otherwise: Policy) -> None:
    options = {"allow": (), "ask": (), "deny": (), "yes": False, **flags}
    rules = policies_from(options, NAMES, otherwise=otherwise)
    words = [by_name(rules, name, "ask") for name in NAMES]
    assert words == expected.replace("otherwise", otherwise).split()
    assert options == {}


def test_a_pattern_that_fits_no_tool_is_refused() -> None:
    options = {"allow": (), "ask": (), "deny": ("mial.*",), "yes": False}
    with pytest.raises(click.UsageError, match=r"--deny mial\.\*: no tool has such a name"):
        policies_from(options, NAMES, otherwise="ask")


def test_where_nobody_can_be_asked_the_flags_must_say(functions: Path) -> None:
    wipe = calls(call("wipe", path="/tmp"))
    flags = ("--functions", functions)
    refused = chat(*flags, stdin="wipe\n", replies=(wipe,))
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "Calls of look, wipe run only after a question" in refused.stderr
    assert chat(*flags, "--allow", "wipe", stdin="wipe\n", replies=(wipe,)).exit_code == 2
    allowed = chat(*flags, "--allow", "wipe", "--deny", "*", stdin="wipe\n", replies=(wipe,))
    assert (allowed.stdout, allowed.stderr) == ('wipe(path="/tmp")\n/tmp is gone\n', "really /tmp\n")
    denied = chat(*flags, "--deny", "wipe", "--yes", stdin="wipe\n", replies=(wipe,))
    assert (denied.stdout, denied.exit_code) == ('wipe(path="/tmp")\n', 1)
    assert denied.stderr == "Error: calls of wipe are not allowed here.\n"


def test_run_takes_the_same_policies(functions: Path) -> None:
    def run(*flags: str) -> Result:
        app = App(lambda *args, **options: scripted(calls(call("wipe", path="/tmp"))))
        return CliRunner().invoke(cli, ["run", "wipe", "--functions", str(functions), *flags], obj=app)

    assert run("--execute", "--allow", "w*", "--deny", "look").stdout == 'wipe(path="/tmp")\n/tmp is gone\n'
    assert json.loads(run("--execute", "--yes", "--json").stdout)["stop"] == "max_steps"
    assert "not allowed here" in run("--execute", "--deny", "wipe", "--yes").stderr
    assert "no terminal to ask at" in run("--execute", "--allow", "look").stderr
    assert "are for --execute" in run("--allow", "look").stderr


# --- what is shown -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        ("", 10, [""]),
        ("abc", 4, ["abc"]),
        ("abcd", 4, ["abc", "d"]),
        ("a\nb", 10, ["a", "b"]),
        ("日本語", 5, ["日本", "語"]),
        ("e\u0301e\u0301e\u0301", 4, ["e\u0301e\u0301e\u0301"]),
        ("a\tb\x1b", 20, ["a   b\\x1b"]),
    ],
)
def test_rows_are_as_wide_as_the_terminal_shows_them(text: str, columns: int, expected: list[str]) -> None:
    assert list(rows(text, columns)) == expected


def test_a_long_result_is_cut_and_the_cut_is_told() -> None:
    shown, note = cut_for_reading(ToolResult("f", "\n".join(map(str, range(100)))), 80)
    assert (shown, note) == (list(map(str, range(16))), "[84 more lines: /result shows all]")
    assert cut_for_reading(ToolResult("f", "one\ntwo\n"), 80) == (["one", "two"], "")
    assert cut_for_reading(ToolResult("f", "one\n[cut]", whole="one two"), 80) == (
        ["one two"],
        "[the model read the beginning of 7 characters]",
    )
    assert cut_for_reading(ToolResult("f", "x" * 10**7), 80)[1] == "[much more: /result shows all]"


def test_json_that_is_too_wide_is_laid_out_and_stays_itself() -> None:
    value = {"a": [1.5, None], "b": {"long": "x" * 30, "ü": [{"k": "v" * 30}]}}
    shown, _ = cut_for_reading(ToolResult("f", json.dumps(value)), 50)
    assert shown[1] == '  "a": [1.5, null],'
    assert json.loads("\n".join(shown)) == value
    for text in ("[1, 2", '{"a": NaN' + " " * 60 + "}", "[" * 90000):
        assert "".join(cut_for_reading(ToolResult("f", text), 50)[0]).startswith(text[:5])


# --- the history -------------------------------------------------------------------------------------------------


def test_the_history_is_bounded_and_survives_damage(tmp_path: Path) -> None:
    pytest.importorskip("readline")
    path = tmp_path / "history"
    path.write_bytes(b"".join(json.dumps(f"line {i}").encode() + b"\n" for i in range(2500)) + b'\xff\n"\\ud800"\n{}\n')
    entries = History(path).read()
    assert entries[-1] == "line 2499"
    assert len(entries) == 997
    assert len(path.read_text("utf-8").splitlines()) == 1000
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 or sys.platform == "win32"


def test_a_history_that_cannot_be_kept_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("readline")
    (tmp_path / "file").write_text("")
    history = History(tmp_path / "file" / "history")
    assert history.read() == []
    for text in ("one", "two"):
        history.add(text)
    assert capsys.readouterr().err.count("The history is not kept") == 1


def test_what_was_typed_lies_in_the_state_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TOOLACE_EDGE_HOME")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert paths.state_dir() == tmp_path / "state" / "toolace-edge"
    monkeypatch.setenv("TOOLACE_EDGE_HOME", "elsewhere")
    assert paths.state_dir() == Path("elsewhere")


# --- at a terminal -----------------------------------------------------------------------------------------------


Start = Callable[..., Program]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """A chat at a pseudo-terminal, at its first prompt, with a home of its own."""

    def started(*args: str | Path, streams: dict[str, Any] | None = None, env: Any = (), **settings: Any) -> Program:
        command = [sys.executable, "-m", "tests.scripted_program", json.dumps(settings), "chat", *map(str, args)]
        program = Program(command, {"TOOLACE_EDGE_HOME": str(tmp_path / "home"), **dict(env)}, **(streams or {}))
        program.prompted(1)
        return program

    return started


@at_a_terminal
def test_a_version_that_was_replaced_does_not_stay_on_the_screen(start: Start) -> None:
    wrong, right = calls(call("calculate", expression="1+1")), calls(call("calculate", expression="2*21"))
    long, longer = (f"<|text|>{word + ' it was' + ' all day. ' * 40}<|end|>" for word in ("Quiet", "Noisy"))
    with start("--rounds", "1", replies=[wrong, right], token_s=0.005) as program:
        program.type("2*21?\r")
        program.wait('calculate {"expression":"1+1')
        program.prompted(2)
        assert program.answer() == 'calculate(expression="2*21")\n  42\n'
        program.type("\x04")
        assert program.end() == 0
    with start("--rounds", "1", replies=[long, longer], token_s=0.005) as program:
        program.type("tell me\r")
        program.wait("Quiet it")
        program.prompted(2)
        assert "Quiet" not in program.screen.text
        assert program.answer().startswith("Noisy it was")
        program.type("\x04")
        assert program.end() == 0
        assert "Traceback" not in program.screen.text


@at_a_terminal
def test_somebody_is_asked_with_the_exact_call(start: Start, functions: Path) -> None:
    paths_ = [f"/{i}" for i in range(5)]
    wipes = [calls(call("wipe", path=path)) for path in paths_]
    with start("--functions", functions, "--rounds", "0", replies=wipes) as program:

        def say(answer: str, path: str) -> str:
            program.type("wipe\r")
            program.wait(f'wipe(path="{path}")\nRun it? [y: yes, a: yes, always wipe, Enter: no]')
            program.type(answer)
            program.wait(lambda screen: screen.lines[-1] == "> ")
            return program.answer().partition("no] ")[2]

        assert say("\r", "/0") == "\n  not run\n"
        assert say("y\r", "/1") == "y\nreally /1\n  /1 is gone\n"
        assert say("\x03", "/2") == "\n  not run\nCancelled.\n"
        assert say("a\r", "/3") == "a\nreally /3\n  /3 is gone\n"
        assert program.say("wipe") == 'really /4\nwipe(path="/4")\n  /4 is gone\n'
        program.type("/quit\r")
        assert program.end() == 0


@at_a_terminal
def test_ctrl_c_stops_an_answer_then_clears_a_line_then_leaves(start: Start) -> None:
    long = f"<|text|>{'It goes on. ' * 100}<|end|>"
    with start("--rounds", "0", replies=[HI, long], token_s=0.02) as program:
        assert program.say("hello") == "Hi.\n"
        program.type("more\r")
        program.wait("It goes")
        program.type("\x03")
        program.prompted(3)
        assert program.answer() == "Cancelled.\n"
        assert program.say("/undo") == "Forgotten: 'hello'.\n"  # what was cancelled is not there
        assert program.say("hello again") == "Hi.\n"
        program.type("half a li")
        program.wait("half a li")
        program.type("\x03")
        program.wait(lambda screen: "again, or Ctrl-D, leaves" in screen.text and screen.lines[-1] == "> ")
        program.type("\x03")
        assert program.end() == 130
        assert "Traceback" not in program.screen.text


@at_a_terminal
def test_lines_are_edited_continued_pasted_completed_and_remembered(start: Start, tmp_path: Path) -> None:
    pytest.importorskip("readline")
    gnu = "libedit" not in (sys.modules["readline"].__doc__ or "")
    with start("--rounds", "0", replies=[HI]) as program:
        assert program.say("hellp\x7fo") == "Hi.\n"
        assert program.say("/un\t") == "Forgotten: 'hello'.\n"
        program.type("one \\\rtwo\r")
        program.wait(lambda screen: "... two" in screen.text and screen.lines[-1] == "> ")
        assert program.say("/undo") == "Forgotten: 'one \\ntwo'.\n"
        if gnu:
            program.type("\x1b[200~three\nfour\x1b[201~\r")
            program.wait(lambda screen: screen.text.count("Hi.") == 3 and screen.lines[-1] == "> ")
            assert program.say("/undo") == "Forgotten: 'three\\nfour'.\n"
        program.say(" a secret")
        file = tmp_path / "home" / "chat_history"
        program.say(f"/save {tmp_path}/ta")
        program.type(f"/load {tmp_path}/t\t")
        program.wait(f"/load {tmp_path}/ta")
        program.say("")
        program.type("\x04")
        assert program.end() == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert kept[:4] == ["hello", "/undo", "one \ntwo", "/undo"]
    assert " a secret" not in kept
    with start("--rounds", "0", replies=[HI]) as program:
        program.type("\x1b[A")
        program.wait(f"> {kept[-1]}")
        program.type("\r")
        program.prompted(2)


@at_a_terminal
def test_answers_alone_go_to_a_file_and_the_talk_to_the_terminal(start: Start, functions: Path, tmp_path: Path) -> None:
    replies = [calls(call("wipe", path="/tmp")), HI]
    for flags, expected in ((("--json",), None), ((), 'wipe(path="/tmp")\n/tmp is gone\nHi.\n')):
        out = tmp_path / "out"
        with (
            out.open("wb") as file,
            start(
                "--functions", functions, "--rounds", "0", *flags, replies=replies, streams={"stdout": file}
            ) as program,
        ):
            program.type("wipe\r")
            program.wait("Run it?")
            program.type("y\r")
            program.prompted(2)
            program.say("hello")
            program.type("\x04")
            assert program.end() == 0
            assert "gone" not in program.screen.text
        if expected is None:
            assert [json.loads(line)["text"] for line in out.read_text("utf-8").splitlines()] == ["", "Hi."]
        else:
            assert out.read_text("utf-8") == expected


@at_a_terminal
def test_a_long_result_is_cut_on_the_screen_and_all_there_on_request(start: Start, functions: Path) -> None:
    with start("--functions", functions, "--yes", "--rounds", "0", replies=[calls(call("look", n=60)), HI]) as program:
        cut = program.say("look")
        assert len(cut.splitlines()) == 18
        assert "[46 more lines: /result shows all" in cut
        assert len(json.loads(program.say("/result"))) == 60


@at_a_terminal
def test_a_plain_terminal_gets_plain_text(start: Start) -> None:
    env = {"NO_COLOR": "1", "TERM": "dumb"}
    with start("--rounds", "1", replies=[FAILING, NOTE, HI], env=env, readline=False) as program:
        assert program.say("2*21?") == 'calculate(expression="2*21")\n  42\n'
        assert "no command /x" in program.say("/x")
        program.type("\x04")
        assert program.end() == 0
        assert "\x1b" not in program.written


@at_a_terminal
def test_described_tools_are_said_to_be_so(start: Start, described: Path) -> None:
    with start("--tools", described, "--rounds", "0", replies=[CALL, BYE]) as program:
        assert "calls are shown, and nothing runs" in program.screen.text
        assert program.say("ten minutes") == (
            "set_timer(minutes=10)\n  not run: there is only a description of the tool\n"
        )
        assert program.say("bye") == "Bye.\n"


@at_a_terminal
@pytest.mark.slow
def test_the_bundled_model_at_a_terminal(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "toolace_edge", "chat"]
    with Program(command, {"TOOLACE_EDGE_HOME": str(tmp_path)}) as program:
        program.prompted(1)
        assert program.screen.text.startswith("nano with 7 tools: set_timer, calculate,")
        timer = program.say("set a timer for 10 minutes")
        assert timer.startswith('set_timer(duration=10, unit="minutes")\n  Timer set for 10 minutes; it rings at ')
        program.type("\x04")
        assert program.end() == 0
