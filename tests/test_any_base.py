"""Training of any Hugging Face folder: recipes, rows as the runtime shows them, runs that are killed or shared."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tests.tiny import tiny_tokenizer_json
from tests.training import ADD, CHATML, line, write_base, write_lines, write_recipe
from toolace_edge import formats
from toolace_edge.cli import cli
from toolace_edge.engines.vocabulary import Vocabulary
from toolace_edge.errors import DataError, InputError, ModelError
from toolace_edge.prompts import build_prompt
from toolace_edge.train.check import checked
from toolace_edge.train.examples import in_schema_order
from toolace_edge.train.recipes import (
    Lora,
    Rendering,
    Training,
    TuneRecipe,
    as_toml,
    find_recipe,
    read_rounds,
    read_tune,
)
from toolace_edge.train.supervised import Row, read_lines, render

# --- recipes -------------------------------------------------------------------------------------------------------


def test_a_recipe_reads_back_as_what_was_written(tmp_path: Path) -> None:
    recipe = TuneRecipe(
        Rendering("toolace", 77), Training(epochs=0.5, learning_rate=1e-5), Lora(rank=3, targets=["q_proj", 'a"\\\n'])
    )
    file = tmp_path / "r.toml"
    file.write_text(as_toml({"rendering": recipe.rendering, "training": recipe.training, "lora": recipe.lora}))
    assert read_tune(file) == recipe


def test_the_recipes_that_come_along_can_be_read() -> None:
    names = {file.stem for file in find_recipe("lora").parent.glob("*.toml")}
    assert {"lora", "full"} <= names
    for name in names:
        (read_rounds if "[rounds]" in find_recipe(name).read_text() else read_tune)(find_recipe(name))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[training]\nepoch = 2", r"training\.epoch is no key"),
        ("[train]\nepochs = 2", r"no section \[train\]"),
        ("training = 2", "training must be a section"),
        ('[training]\nepochs = "2"', r"training\.epochs is '2'; it must be a number"),
        ("[training]\nbatch = 2.0", r"training\.batch is 2\.0; it must be a whole number"),
        ("[training]\nbatch = true", "it must be a whole number"),
        ("[training]\nbatch = 0", "the least is 1"),
        ("[training]\nlearning_rate = 0", "more than 0"),
        ("[training]\nlearning_rate = nan", "it must be a number"),
        ("[training]\nwarmup = 1.5", "the most is 1"),
        ("[training]\nlog_every = 3\nsave_every = 10", "multiple of training.log_every"),
        ('[rendering]\nformat = "xml"', "none of compact, toolace, hermes"),
        ("[training]\nbatch = 6\nmicro_batch = 4", "multiple of training.micro_batch"),
        ("[lora]\ntargets = [1]", "a text or a list of texts"),
        ("[lora", "not TOML"),
    ],
)
def test_a_wrong_recipe_is_refused_with_file_and_key(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=says) as raised:
        read_tune(file)
    assert "wrong.toml" in str(raised.value)


def test_the_documents_recipes_and_line_are_what_is_read(tmp_path: Path) -> None:
    text = (Path(__file__).parent.parent / "docs" / "training.md").read_text("utf-8")
    for section, kind in (("[training]", read_tune), ("[endpoint]", read_rounds)):
        (block,) = (block for block in re.findall(r"^```toml\n(.*?)^```$", text, re.M | re.S) if section in block)
        (tmp_path / "r.toml").write_text(block)
        kind(tmp_path / "r.toml")
    (tmp_path / "d.jsonl").write_text("".join(re.findall(r"^```json\n(.*?)^```$", text, re.M | re.S)))
    assert [call.name for example in checked(tmp_path / "d.jsonl") for call in example.gold] == ["set_alarm"]
    assert read_tune(find_recipe("lora")) == TuneRecipe(lora=Lora())  # what a recipe leaves out


def test_a_recipe_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(InputError) as raised:
        find_recipe("lore")
    assert "lora" in raised.value.hint


# --- rows ----------------------------------------------------------------------------------------------------------

MARKS = {
    "hermes": CHATML,
    "toolace": ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
}


def vocabulary(fmt: str) -> Vocabulary:
    if fmt == "compact":
        return Vocabulary(tiny_tokenizer_json())
    return Vocabulary(tiny_tokenizer_json(440, MARKS[fmt], ("<tool_call>", "</tool_call>")))


@pytest.mark.parametrize("name", formats.NAMES)
def test_a_row_is_the_runtimes_prompt_and_an_answer_that_it_reads(name: str, tmp_path: Path) -> None:
    file, fmt, vocab = write_lines(tmp_path / "d.jsonl"), formats.get(name), vocabulary(name)
    for example in checked(file):
        row = render(example, vocab, fmt)
        assert row.ids[: -row.learned] == build_prompt(vocab, fmt, example.tools, example.messages).ids
        calls, text = fmt.parse(example.tools, vocab.decode(row.ids[-row.learned :]))
        assert (calls, text) == (example.gold, example.text)


@pytest.mark.parametrize("name", formats.NAMES)
def test_a_draft_is_read_and_the_answer_after_it_is_learned(name: str, tmp_path: Path) -> None:
    fmt, vocab = formats.get(name), vocabulary(name)
    example = next(checked(write_lines(tmp_path / "d.jsonl")))
    plain, wrong = render(example, vocab, fmt), render(example, vocab, fmt, ())
    assert wrong.ids[-wrong.learned :] == plain.ids[-plain.learned :]
    assert wrong.ids[: len(plain.ids) - plain.learned] == plain.ids[: -plain.learned]
    # The draft and the turn as session.py puts them together: the same answer, then the tokens that ask for another.
    same = render(example, vocab, fmt, example.gold)
    between = same.ids[len(plain.ids) : -same.learned]
    assert same.ids[: len(plain.ids)] == plain.ids
    assert between == [i for piece in fmt.refine_turn() for i in vocab.encode(piece.text, piece.special)]


def test_the_draft_of_a_line_is_found_by_its_id_and_long_lines_are_counted(tmp_path: Path) -> None:
    file, drafts, only = tmp_path / "d.jsonl", tmp_path / "drafts.jsonl", tmp_path / "ids.txt"
    call = {"name": "add", "arguments": {"a": 1}}
    file.write_text(line("add 1", call, id="one") + "\n\n" + line("add 1 " * 300, call) + "\n" + line("x", id="no"))
    drafts.write_text(json.dumps({"id": "one", "request": "add 1", "calls": [], "right": False}) + "\n")
    only.write_text("one\n3\n")
    lines = read_lines(file, vocabulary("hermes"), formats.get("hermes"), 700, drafts=drafts, only=only)
    assert (len(lines.rows), lines.drafts, lines.too_long) == (2, 1, 1)
    with pytest.raises(InputError, match="longer than 5 tokens"):
        read_lines(file, vocabulary("hermes"), formats.get("hermes"), 5)
    drafts.write_text('{"calls": []}\n')
    with pytest.raises(InputError, match="line 1: not a draft"):
        read_lines(file, vocabulary("hermes"), formats.get("hermes"), 700, drafts=drafts)


def test_a_draft_that_said_something_is_left_out_as_samples_do_not_hold_its_text(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text(line("hello", says="Hello.", id="a") + "\n" + line("hm", id="b") + "\n")
    add = {"name": "add", "arguments": {"a": 1}}
    drafts = [{"id": one, "request": "", "calls": calls} for one in "ab" for calls in ([], [add])]
    (tmp_path / "drafts").write_text("".join(json.dumps(draft) + "\n" for draft in drafts))
    vocab = Vocabulary((write_base(tmp_path / "base") / "tokenizer.json").read_text())
    lines = read_lines(tmp_path / "d.jsonl", vocab, formats.get("hermes"), 4096, drafts=tmp_path / "drafts")
    assert (len(lines.rows), lines.drafts) == (5, 3)  # not the empty one of a, whose answer has a text


def test_arguments_under_anyof_stand_in_the_order_of_the_arm_that_they_obey() -> None:
    one = {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}}, "required": ["x", "y"]}
    two = {"type": "object", "properties": {"y": {"type": "string"}, "x": {"type": "string"}}, "required": ["x"]}
    schema = {"type": "object", "properties": {"at": {"anyOf": [{"type": "null"}, one, two]}}}
    for value, order in (({"y": 1, "x": 2}, ["x", "y"]), ({"x": "a", "y": "b"}, ["y", "x"])):
        assert list(in_schema_order({"at": value}, schema)["at"]) == order
    assert in_schema_order({"at": None}, schema) == {"at": None}


def test_nested_arguments_stand_in_the_order_of_the_schema() -> None:
    inner = {"type": "object", "properties": {"x": {}, "y": {}}}
    schema = {"type": "object", "properties": {"b": {"type": "array", "items": inner}, "a": inner}}
    value = {"a": {"y": 1, "x": 2}, "c": 0, "b": [{"y": 3, "x": 4}]}
    assert json.dumps(in_schema_order(value, schema)) == '{"b": [{"x": 4, "y": 3}], "a": {"x": 2, "y": 1}, "c": 0}'


def test_a_line_that_cannot_be_learned_is_named(tmp_path: Path) -> None:
    file = tmp_path / "d.jsonl"
    right = line("add 1", {"name": "add", "arguments": {"a": 1}})
    file.write_text("\n".join([right, "", line("add 1", {"name": "add", "arguments": {"a": "one"}}), right]))
    with pytest.raises(DataError, match="line 3: its call of add does not obey the schema"):
        list(checked(file))


def test_a_tokenizer_of_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no token <\|.*toolace") as raised:
        read_lines(write_lines(tmp_path / "d.jsonl"), vocabulary("hermes"), formats.get("toolace"), 700)
    assert "hermes" in raised.value.hint


# --- runs ----------------------------------------------------------------------------------------------------------


def tune(recipe: Path, base: Path, data: Path, out: Path, *more: str) -> Result:
    """In this process."""
    for package in ("torch", "transformers", "accelerate", "peft"):
        pytest.importorskip(package)
    import torch

    torch.set_num_threads(1)
    arguments = ["train", "tune", str(recipe), "--base", str(base), "--data", str(data), "--out", str(out), *more]
    return CliRunner().invoke(cli, arguments)


def tensors(file: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    found: dict[str, Any] = load_file(file)
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_an_adapter_is_trained_merged_converted_and_run(family: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("gguf")
    pytest.importorskip("llama_cpp")
    base, data = write_base(tmp_path / "base", family), write_lines(tmp_path / "d.jsonl")
    run = tmp_path / "run"
    result = tune(write_recipe(tmp_path / "r.toml", lora=True, steps=30), base, data, run, "--dev", str(data))
    assert result.exit_code == 0, result.output
    log = [json.loads(text) for text in (run / "log.jsonl").read_text().splitlines()]
    losses = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    assert losses[-1] < losses[0] * 0.8
    answers = set()
    for source, more in ((run / "model", ()), (run / "adapter", ("--base", str(base)))):
        for kind, name in (("gguf", f"{source.name}.gguf"), ("onnx", source.name)):
            out = str(tmp_path / "made" / name)
            options = ("--kind", "f32") if kind == "gguf" else ("--precision", "fp32")
            command = ["convert", kind, str(source), out, *options, *more, "--format", "hermes", "--no-verify"]
            converted = CliRunner().invoke(cli, command)
            assert converted.exit_code == 0, converted.output
            tools = tmp_path / "tools.json"
            tools.write_text(json.dumps([{"type": "function", "function": ADD}]))
            asked = ["run", "add 7", "--tools", str(tools), "--model", out, "--json"]
            ran = CliRunner().invoke(cli, asked)
            assert ran.exit_code == 0, ran.output
            answers.add(json.dumps(json.loads(ran.stdout)["calls"]))
    assert len(answers) == 1  # either engine, merged or not


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_all_weights_are_trained_and_keep_the_bases_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    any_base = pytest.importorskip("toolace_edge.train.any_base")
    base, data = write_base(tmp_path / "base"), write_lines(tmp_path / "d.jsonl")
    recipe = write_recipe(tmp_path / "r.toml")
    with monkeypatch.context() as patched:  # as a kill after the last step leaves it
        patched.setattr(any_base, "_write_result", lambda *_: 1 / 0)
        assert tune(recipe, base, data, tmp_path / "run").exit_code != 0
    log = (tmp_path / "run" / "log.jsonl").read_text()
    assert tune(recipe, base, data, tmp_path / "run").exit_code == 0
    assert (tmp_path / "run" / "log.jsonl").read_text() == log
    assert json.loads((tmp_path / "run" / "result.json").read_text())["steps"] == 6
    before, after = tensors(base / "model.safetensors"), tensors(tmp_path / "run" / "model" / "model.safetensors")
    assert before.keys() == after.keys()
    for name, weight in before.items():
        assert after[name].dtype == weight.dtype
        assert not np.array_equal(after[name], weight), name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_short_run_logs_and_evaluates_its_last_step(tmp_path: Path) -> None:
    pytest.importorskip("toolace_edge.train.any_base")
    base, data = write_base(tmp_path / "base"), write_lines(tmp_path / "d.jsonl", count=6)
    recipe = write_recipe(tmp_path / "r.toml", steps=2, log_every=10, save_every=10)
    assert tune(recipe, base, data, tmp_path / "run", "--dev", str(data)).exit_code == 0
    log = [json.loads(text) for text in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log if "loss" in entry] == [2]
    assert [entry["step"] for entry in log if "eval_loss" in entry] == [2]
    assert json.loads((tmp_path / "run" / "result.json").read_text())["loss"] is not None


def test_rows_computed_together_are_alike_in_length_and_each_comes_once_a_pass() -> None:
    any_base = pytest.importorskip("toolace_edge.train.any_base")
    lengths = [9, 2, 30, 4, 17, 8, 25, 3, 12, 5, 21, 6]
    training = replace(read_tune(find_recipe("full")).training, epochs=2, batch=4, micro_batch=2)
    order = any_base._order([Row([0] * n, 1) for n in lengths], training)
    steps = [[lengths[i] for i in order[start : start + 4]] for start in range(0, len(order), 4)]
    assert all(step == sorted(step) for step in steps)
    assert sorted(order[:12]) == sorted(order[12:]) == list(range(12))
    assert order[:12] != order[12:]  # a step's rows are drawn anew


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_only_the_answers_tokens_are_learned(tmp_path: Path) -> None:
    """The loss of the first step is transformers' own over those tokens and no other."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    base, data = write_base(tmp_path / "base"), write_lines(tmp_path / "d.jsonl", count=4)
    recipe = write_recipe(tmp_path / "r.toml", steps=1)
    assert tune(recipe, base, data, tmp_path / "run").exit_code == 0
    said = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[0])["loss"]
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    vocab = Vocabulary((base / "tokenizer.json").read_text())
    total, count = 0.0, 0
    for example in checked(data):
        row = render(example, vocab, formats.get("hermes"))
        with torch.no_grad():
            logits = model(torch.tensor([row.ids])).logits[0]
        chosen = logits.log_softmax(-1)[range(len(row.ids) - 1), row.ids[1:]]
        total -= float(chosen[-row.learned :].sum())
        count += row.learned
    assert said == pytest.approx(total / count, abs=2e-4)


def _start(out: Path, recipe: Path, base: Path, data: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "toolace_edge.train", "tune", str(recipe), "--base", str(base)]
    command += ["--data", str(data), "--out", str(out)]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)


def kill_once(process: subprocess.Popen[bytes], ready: Callable[[], bool], patience_s: float = 900) -> None:
    """kill -9 as soon as it is `ready`."""
    until = time.monotonic() + patience_s
    while not ready():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_a_killed_run_goes_on_and_ends_as_if_unbroken(lora: bool, tmp_path: Path) -> None:
    base, data = write_base(tmp_path / "base"), write_lines(tmp_path / "d.jsonl")
    recipe = write_recipe(tmp_path / "r.toml", lora=lora, steps=24, more="dropout = 0.1\n" if lora else "")
    assert tune(recipe, base, data, tmp_path / "whole").exit_code == 0
    broken = tmp_path / "broken"
    kill_once(_start(broken, recipe, base, data), (broken / "checkpoints" / "checkpoint-4" / "complete").exists)
    assert not (broken / "result.json").exists()
    left = broken / "checkpoints" / "checkpoint-23"  # as a kill in the middle of saving leaves it
    left.mkdir()
    (left / "trainer_state.json").write_text("{")
    before = (broken / "log.jsonl").read_text()
    assert tune(recipe, base, data, broken).exit_code == 0
    assert (broken / "log.jsonl").read_text() == (tmp_path / "whole" / "log.jsonl").read_text() != before
    names = [
        "model/model.safetensors",
        *(["adapter/adapter_model.safetensors", "adapter/adapter_config.json"] if lora else []),
    ]
    for name in names:
        assert (broken / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    again = tune(recipe, base, data, broken)
    assert again.stdout == (broken / "result.json").read_text()  # nothing is done twice
    other = tune(write_recipe(tmp_path / "o.toml", lora=lora, steps=25), base, data, broken)
    assert (other.exit_code, "another recipe" in other.output) == (2, True)


@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    base, data = write_base(tmp_path / "base"), write_lines(tmp_path / "d.jsonl")
    recipe = write_recipe(tmp_path / "r.toml", lora=True)
    curves = []
    for processes in (1, 2):
        out = tmp_path / f"run{processes}"
        command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(processes)]
        command += ["--multi_gpu", "--main_process_port", "0"] if processes > 1 else []
        command += ["-m", "toolace_edge.train", "tune", str(recipe), "--base", str(base), "--data", str(data)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        assert f"on {processes} x cpu" in done.stderr
        curves.append([json.loads(text)["loss"] for text in (out / "log.jsonl").read_text().splitlines()])
    assert curves[0] == pytest.approx(curves[1], abs=2e-3)
    assert len(set(curves[0])) == 6


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_trained_is_a_sentence(tmp_path: Path) -> None:
    base, data = write_base(tmp_path / "base"), write_lines(tmp_path / "d.jsonl")
    odd = write_recipe(tmp_path / "odd.toml", batch=5)
    refused = tune(odd, base, data, tmp_path / "run")
    assert (refused.exit_code, "training.batch must be a multiple" in refused.output) == (2, True)
    targets = write_recipe(tmp_path / "t.toml", lora=True, more='targets = ["nothing_proj"]\n')
    refused = tune(targets, base, data, tmp_path / "run")
    assert (refused.exit_code, "lora.targets is ['nothing_proj']" in refused.output) == (2, True)
    # A run that was refused was never begun: another may take its place.
    assert tune(write_recipe(tmp_path / "s.toml", steps=1), base, data, tmp_path / "run").exit_code == 0
    (base / "model.safetensors").write_bytes(b"no")
    refused = tune(write_recipe(tmp_path / "r.toml"), base, data, tmp_path / "other")
    assert (refused.exit_code, "cannot be loaded" in refused.output) == (1, True)
    config = json.loads((base / "config.json").read_text())
    config["rope_parameters"] = {"rope_theta": config.pop("rope_theta")}
    (base / "config.json").write_text(json.dumps(config))
    refused = tune(write_recipe(tmp_path / "r.toml"), base, data, tmp_path / "other")
    assert (refused.exit_code, "saved by transformers 5" in refused.output) == (1, True)
    assert not (tmp_path / "other" / "result.json").exists()
