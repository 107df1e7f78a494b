"""The command line, with a scripted engine where a model would be: what is printed, where, and with which exit code."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from toolace_edge import __version__
from toolace_edge.cli import App, cli
from toolace_edge.errors import EngineError
from toolace_edge.registry import Model
from toolace_edge.session import Session

from .test_evaluate import CALL, NONE, OTHER, TIMER, line, scripted, write

TWO = CALL.removesuffix("<|end|>") + OTHER
BUILT_IN = '<|call|>{"name":"set_timer","arguments":{"duration":10,"unit":"minutes"}}<|end|>'
FAILING = '<|call|>{"name":"calculate","arguments":{"expression":"1/0"}}<|end|>'


def run(*args: str | Path, replies: tuple[str, ...] = (CALL,), n_ctx: int = 2048, stdin: str | bytes = "") -> Result:
    def open_model(model: str | None = None, **options: Any) -> Model:
        return scripted(*replies, n_ctx=n_ctx)

    return CliRunner().invoke(cli, [str(arg) for arg in args], obj=App(open_model), input=stdin)


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    path = tmp_path / "tools.json"
    path.write_text(json.dumps([TIMER]))
    return path


def failed(result: Result, code: int) -> str:
    """The sentence on stderr of a failure that printed nothing else and left no traceback."""
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    return result.stderr


# run


def test_run_prints_a_line_a_call(tools: Path) -> None:
    result = run("run", "ten and seven minutes", "--tools", tools, replies=(TWO,))
    assert (result.stdout, result.stderr, result.exit_code) == ("set_timer(minutes=10)\nset_timer(minutes=7)\n", "", 0)


def test_run_without_tools_has_a_built_in_set() -> None:
    result = run("run", "ten minutes", replies=(BUILT_IN,))
    assert (result.stdout, result.exit_code) == ('set_timer(duration=10, unit="minutes")\n', 0)


def test_no_call_is_an_answer(tools: Path) -> None:
    result = run("run", "hello", "--tools", tools, replies=(NONE,))
    assert (result.stdout, result.exit_code) == ("No tool fits this request.\n", 0)


def test_an_answer_that_was_cut_off_is_said_to_be_and_never_taken_for_no_call(tools: Path) -> None:
    result = run("run", "ten minutes please", "--tools", tools, "--max-tokens", "3", replies=("<|text|>It is<|end|>",))
    assert (result.exit_code, result.stderr) == (0, "The answer ended at a limit: what it says last may be cut off.\n")
    assert "No tool fits" not in result.stdout


def test_text_is_printed_where_the_model_wrote_some(tools: Path) -> None:
    assert run("run", "hello", "--tools", tools, replies=("<|text|>Hi.<|end|>",)).stdout == "Hi.\n"


def test_json_is_one_object_with_the_promised_keys(tools: Path) -> None:
    result = run("run", "ten minutes", "--tools", tools, "--json")
    answer = json.loads(result.stdout)
    assert list(answer) == ["calls", "text", "stop", "confidence", "rounds", "usage"]
    assert answer["calls"] == [{"name": "set_timer", "arguments": {"minutes": 10}}]
    assert (answer["text"], answer["stop"]) == ("", "unchanged")
    assert [one["calls"] for one in answer["rounds"]] == [answer["calls"]]
    assert answer["usage"]["forward_passes"] > 0


def test_rounds_bound_the_refinement(tools: Path) -> None:
    answer = json.loads(run("run", "x", "--tools", tools, "--json", "--rounds", "1", replies=(OTHER, CALL)).stdout)
    assert (answer["stop"], len(answer["rounds"])) == ("max_rounds", 2)
    assert answer["calls"][0]["arguments"] == {"minutes": 10}


def test_a_piped_request_is_read(tools: Path) -> None:
    assert run("run", "--tools", tools, stdin="ten minutes\n").stdout == "set_timer(minutes=10)\n"
    assert run("run", "-", "--tools", tools, stdin="ten minutes\n").stdout == "set_timer(minutes=10)\n"


def test_tool_choice_none_forbids_a_call(tools: Path) -> None:
    assert (
        run("run", "ten minutes", "--tools", tools, "--tool-choice", "none").stdout.strip() != "set_timer(minutes=10)"
    )


def test_tool_choice_may_name_a_tool(tools: Path) -> None:
    result = run("run", "hello", "--tools", tools, "--tool-choice", "set_timer", replies=(NONE,))
    assert result.stdout.startswith("set_timer(minutes=")


def test_a_tool_choice_of_an_unknown_tool_is_refused(tools: Path) -> None:
    assert "no tool named 'fly'" in failed(run("run", "x", "--tools", tools, "--tool-choice", "fly"), 2)


def test_trace_goes_to_stderr_and_leaves_json_alone(tools: Path) -> None:
    result = run("run", "ten minutes", "--tools", tools, "--json", "--trace", "--rounds", 3, replies=(OTHER, CALL))
    json.loads(result.stdout)
    assert "round 0:" in result.stderr
    assert "round 1:" in result.stderr
    assert "stopped: unchanged" in result.stderr


def test_trace_tells_forced_from_free_tokens(tools: Path) -> None:
    trace = run("run", "ten minutes", "--tools", tools, "--trace").stderr
    first = next(text for text in trace.splitlines() if text.startswith("  "))
    assert '"arguments":{"minutes":' in first.replace("[", "").replace("]", "")
    assert " 1.00]" in first or " 0." in first


def test_execute_runs_a_built_in_tool() -> None:
    result = run("run", "ten minutes", "--execute", replies=(BUILT_IN,))
    call, said = result.stdout.splitlines()
    assert (call, result.exit_code) == ('set_timer(duration=10, unit="minutes")', 0)
    assert said.startswith("Timer set for 10 minutes")


def test_a_tool_that_fails_is_a_failure() -> None:
    result = run("run", "1/0", "--execute", replies=(FAILING,))
    assert (result.stdout, result.exit_code) == ('calculate(expression="1/0")\n', 1)
    assert result.stderr.startswith("Error: ")


def test_execute_goes_on_for_as_many_steps_as_it_may() -> None:
    replies = (BUILT_IN, FAILING, "<|text|>All set.<|end|>")
    one = run("run", "ten minutes", "--execute", "--rounds", "0", replies=replies)
    assert len(one.stdout.splitlines()) == 2
    more = run("run", "ten minutes", "--execute", "--rounds", "0", "--max-steps", "5", replies=replies)
    assert more.stdout.splitlines()[2:] == ['calculate(expression="1/0")', "All set."]
    assert (more.stderr.startswith("Error: "), more.exit_code) == (True, 1)
    cut = run("run", "ten minutes", "--execute", "--rounds", "0", "--max-steps", "2", replies=replies)
    assert cut.stderr.endswith("Stopped: --max-steps allows no further answer.\n")
    assert "--max-steps is for --execute" in failed(run("run", "x", "--max-steps", "2"), 2)


def test_execute_with_json_adds_the_steps() -> None:
    replies = (BUILT_IN, "<|text|>All set.<|end|>")
    flags = ("--execute", "--json", "--rounds", "0", "--max-steps", "3")
    result = run("run", "ten minutes", *flags, replies=replies)
    answer = json.loads(result.stdout)
    assert list(answer) == ["calls", "text", "stop", "confidence", "rounds", "usage", "steps"]
    assert [one["name"] for one in answer["calls"]] == ["set_timer"]
    assert (answer["text"], answer["stop"], len(answer["steps"])) == ("All set.", "answered", 2)
    (told,) = answer["steps"][0]["results"]
    assert told.pop("content").startswith("Timer set for 10 minutes")
    assert told == {"name": "set_timer", "error": False, "outcome": "done"}
    assert answer["usage"]["forward_passes"] == sum(one["usage"]["forward_passes"] for one in answer["steps"])
    assert run("run", "1/0", "--execute", "--json", replies=(FAILING,)).exit_code == 1


def test_execute_is_for_the_built_in_tools_alone(tools: Path) -> None:
    assert "--execute" in failed(run("run", "x", "--tools", tools, "--execute"), 2)


@pytest.mark.parametrize("request_", ["", "  ", "\n"])
def test_an_empty_request_is_bad_input(tools: Path, request_: str) -> None:
    assert "The request is empty." in failed(run("run", request_, "--tools", tools), 2)
    assert "The request is empty." in failed(run("run", "--tools", tools, stdin=request_), 2)


def test_a_request_of_a_megabyte_is_refused_with_the_numbers(tools: Path) -> None:
    message = failed(run("run", "--tools", tools, stdin="word " * 200_000), 2)
    assert "2048" in message


def test_a_request_that_is_not_utf_8_is_refused(tools: Path) -> None:
    assert "not UTF-8" in failed(run("run", "--tools", tools, stdin=b"\xff\xfe"), 2)


@pytest.mark.parametrize("option", ["--temprature", "--rounds=-1", "--top-p=0", "--threads=0", "--temperature=nan"])
def test_bad_options_are_bad_usage(option: str) -> None:
    assert "--" in failed(run("run", "x", option), 2) or "temperature" in option


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[1]",
        '[{"name": 1}]',
        "null",
        '{"a": 1}',
        '[{"name": "f", "parameters": {"type": "strin"}}]',
        "[" * 100_000,
        '[{"name": "f", "parameters": {"properties": {"x": {"minimum": %s}}}}]' % ("9" * 5000),
        '[{"name": "f", "parameters": "x", "required": ["a"]}]',
        '[{"name": "f", "description": "\\ud800"}]',
    ],
)
def test_a_malformed_tools_file_is_a_sentence(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tools.json"
    path.write_text(content)
    assert failed(run("run", "x", "--tools", path), 2).startswith("Error: ")


def test_control_characters_of_a_file_do_not_reach_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "tools.json"
    path.write_text(json.dumps([{**TIMER["function"], "description": "A\x1b[31m\x9b\u202e timer."}]))
    assert "A\\x1b[31m\\x9b\\u202e timer." in run("tools", "show", path).stdout
    shown = run("tools", "show", path, "--json").stdout
    assert shown.isascii()
    assert json.loads(shown)[0]["description"] == "A\x1b[31m\x9b\u202e timer."
    path.write_text(json.dumps([{"name": "f", "\x1b]0;x\x07": 1}]))
    assert "\\x1b]0;x\\x07" in failed(run("tools", "show", path), 2)


def test_no_color_is_obeyed(tools: Path) -> None:
    for variable, coloured in (("", True), ("1", False)):
        result = CliRunner().invoke(cli, ["run", "x", "--tool-choice", "fly"], color=True, env={"NO_COLOR": variable})
        assert ("\x1b[" in result.stderr) == coloured


def test_options_are_checked_before_a_model_is_opened(tools: Path) -> None:
    def open_model(*args: Any, **options: Any) -> Model:
        raise AssertionError("opened")

    for option in ("--temperature=nan", "--tool-choice=fly"):
        failed(CliRunner().invoke(cli, ["run", "x", option], obj=App(open_model)), 2)


def test_an_argument_that_is_not_utf_8_is_refused(tools: Path) -> None:
    assert "not UTF-8" in failed(run("run", "ten \udcff minutes", "--tools", tools), 2)


def test_a_missing_tools_file_is_bad_input(tmp_path: Path) -> None:
    assert "nowhere.json" in failed(run("run", "x", "--tools", tmp_path / "nowhere.json"), 2)


def test_a_hint_follows_the_sentence() -> None:
    def open_model(*args: Any, **options: Any) -> Model:
        raise EngineError("It broke.", hint="Mend it.")

    result = CliRunner().invoke(cli, ["run", "x"], obj=App(open_model))
    assert failed(result, 1) == "Error: It broke.\nHint: Mend it.\n"


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (OSError(28, "No space left", "x.bin"), 1)])
def test_what_the_system_raises_is_a_sentence_too(error: BaseException, code: int) -> None:
    def open_model(*args: Any, **options: Any) -> Model:
        raise error

    failed(CliRunner().invoke(cli, ["run", "x"], obj=App(open_model)), code)


def test_an_unknown_model_lists_the_known_ones() -> None:
    result = CliRunner().invoke(cli, ["run", "x", "--model", "nono"])
    assert "No model is called 'nono'" in failed(result, 1)


def test_the_environment_names_the_default_model_and_the_flag_wins() -> None:
    seen = []

    def open_model(model: str | None, **options: Any) -> Model:
        seen.append(model)
        return scripted(CALL)

    for args in ([], ["--model", "flag"]):
        CliRunner().invoke(cli, ["run", "x", *args], obj=App(open_model), env={"TOOLACE_EDGE_MODEL": "env"})
    assert seen == ["env", "flag"]


# eval, bench


def test_eval_prints_one_object_with_the_promised_keys(tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", [line(), line(minutes=5)])
    report = json.loads(run("eval", "--data", data, "--json", "--rounds", "0").stdout)
    keys = [
        "n",
        "accuracy",
        "schema_valid",
        "by",
        "rounds_mean",
        "accuracy_first_round",
        "forward_passes_mean",
        "seconds",
    ]
    assert list(report) == keys
    assert report["by"] == {"ours": {"n": 2, "accuracy": 0.5}}


def test_eval_refines_as_often_as_run_does() -> None:
    defaults = []
    for name in ("run", "eval"):
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        defaults += [option.default for option in command.params if option.name == "rounds"]
    assert defaults == [inspect.signature(Session).parameters["rounds"].default] * 2


def test_eval_prints_a_table_with_intervals(tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", [line(), line(minutes=5)])
    table = run("eval", "--data", data).stdout
    assert "95 % interval" in table
    assert " 50.0%" in table


def test_eval_limits_to_the_first_lines(tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", [line(), line(minutes=5)])
    assert json.loads(run("eval", "--data", data, "--json", "--limit", "1").stdout)["accuracy"] == 1.0


def test_eval_writes_predictions(tmp_path: Path) -> None:
    data, out = write(tmp_path / "data.jsonl", [line(id="a"), line("hello", None, id="b")]), tmp_path / "out.jsonl"
    assert run("eval", "--data", data, "--json", "--out", out, "--rounds", "0").exit_code == 0
    first, second = map(json.loads, out.read_text("utf-8").splitlines())
    calls = [{"name": "set_timer", "arguments": {"minutes": 10}}]
    assert list(first) == ["id", "calls", "gold", "right", "rounds"]
    assert (first["id"], first["calls"], first["gold"], first["right"]) == ("a", calls, calls, True)
    assert [one["calls"] for one in first["rounds"]] == [calls]
    assert (second["id"], second["gold"], second["right"]) == ("b", [], False)
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_eval_leaves_an_old_file_alone_when_it_fails(tmp_path: Path) -> None:
    data, out = write(tmp_path / "data.jsonl", [line()]), tmp_path / "out.jsonl"
    out.write_text("old")

    class Broken(Model):
        def session(self, *args: Any, **options: Any) -> Any:
            raise EngineError("It broke.")

    whole = scripted(CALL)
    app = App(lambda *args, **options: Broken(whole.name, whole.engine, whole.format))
    failed(CliRunner().invoke(cli, ["eval", "--data", str(data), "--out", str(out)], obj=app), 1)
    assert out.read_text() == "old"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["data.jsonl", "out.jsonl"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_named(tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", [line()])
    assert "/dev/full cannot be written" in failed(run("eval", "--data", data, "--out", "/dev/full"), 1)


def test_eval_does_not_write_over_its_data(tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", [line()])
    assert "is the data itself" in failed(run("eval", "--data", data, "--out", data), 2)


def test_eval_that_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    class Interrupted(Model):
        def session(self, *args: Any, **options: Any) -> Any:
            raise KeyboardInterrupt

    whole = scripted(CALL)
    app = App(lambda *args, **options: Interrupted(whole.name, whole.engine, whole.format))
    args = ["eval", "--data", str(write(tmp_path / "data.jsonl", [line()])), "--out", str(tmp_path / "out.jsonl")]
    failed(CliRunner().invoke(cli, args, obj=app), 130)
    assert [file.name for file in tmp_path.iterdir()] == ["data.jsonl"]


def test_eval_names_a_bad_line(tmp_path: Path) -> None:
    assert "line 2" in failed(run("eval", "--data", write(tmp_path / "data.jsonl", [line(), "{"])), 2)


def test_eval_of_a_missing_file_is_bad_input(tmp_path: Path) -> None:
    assert "nowhere" in failed(run("eval", "--data", tmp_path / "nowhere"), 2)


def test_bench_reports_passes_and_shares(tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", [line(), line("again")])
    report = json.loads(run("bench", "--data", data, "--json").stdout)
    assert (report["requests"], report["skipped"], report["unchanged_rounds"]) == (2, 0, 0)  # a sure answer has none
    assert 0 < report["forced_share"] < 1
    assert report["forward_passes_per_request"] < report["tokens_per_request"]
    assert "raw loop" in run("bench", "--data", data).stdout


# tools, models, doctor


def test_tools_show_prints_what_the_model_reads(tools: Path) -> None:
    result = run("tools", "show", tools)
    assert result.exit_code == 0
    assert "set_timer" in result.stdout
    assert "minutes int" in result.stdout


def test_tools_show_json_prints_normalised_schemas(tools: Path) -> None:
    (tool,) = json.loads(run("tools", "show", tools, "--json").stdout)
    assert tool["name"] == "set_timer"
    assert tool["parameters"]["required"] == ["minutes"]


def test_tools_check_accepts_a_good_file(tools: Path) -> None:
    result = run("tools", "check", tools)
    assert (result.exit_code, result.stdout) == (0, f"{tools}: 1 tool, nothing to complain about.\n")


def test_tools_check_lists_every_problem(tmp_path: Path) -> None:
    bad = [
        {"name": "f", "parameters": {"type": "object", "properties": {"x": {"not": {}}}}},
        TIMER,
        {"name": "g", "parameters": {"type": "object", "properties": {"y": {"type": "strin"}}}},
    ]
    path = tmp_path / "tools.json"
    path.write_text(json.dumps(bad))
    message = failed(run("tools", "check", path), 2)
    assert "tools[0]" in message
    assert "tools[2]" in message


def test_models_lists_what_is_installed() -> None:
    result = run("models", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["default"] == "nano"


def test_doctor_fails_without_its_model() -> None:
    result = run("doctor", "--model", "nono", "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["ok"]) == (1, False)
    checks = {check["name"]: check for check in report["checks"]}
    assert checks["self-test"]["ok"] is True
    assert checks["model files"]["ok"] is False
    assert checks["processor"]["ok"] is None


# the program itself


def program(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "toolace_edge", *args],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


def test_the_version_is_the_packages() -> None:
    assert program("--version").stdout == f"toolace-edge, version {__version__}\n"


def test_an_unknown_command_is_bad_usage() -> None:
    done = program("fly")
    assert (done.returncode, done.stdout) == (2, "")
    assert "No such command 'fly'" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("args", [("--help",), ("models", "--json")])
def test_standard_output_that_is_full_is_a_sentence(args: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "toolace_edge", *args], stdout=full, stderr=subprocess.PIPE, text=True, timeout=120
        )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "Exception ignored" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="closes a descriptor in a shell")
def test_standard_input_that_is_closed_is_bad_usage() -> None:
    command = f"{sys.executable} -m toolace_edge run <&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "Say what you want" in done.stderr


def test_a_reader_that_leaves_early_causes_no_traceback() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "toolace_edge", "run", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
