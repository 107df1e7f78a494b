"""ToolACE-R's rounds: when they stop, what is chosen and kept, and that a kill costs nothing that was finished."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.test_any_base import kill_once, tune
from tests.training import line, write_base, write_recipe
from toolace_edge.errors import DataError, EngineError, InputError
from toolace_edge.examples import Example, read_examples
from toolace_edge.messages import ToolCall
from toolace_edge.train.learner import Lessons, RecipeLearner, ServedModel
from toolace_edge.train.recipes import Endpoint, Launch, Nano, Rounds, RoundsRecipe, read_rounds
from toolace_edge.train.sampling import Calls
from toolace_edge.train.toolace_r import run_rounds

LINES = 40
ROUNDS = Rounds(most=6, k=4, solved=0.0, hopeless=0.0, growth=0.0)


class Killed(BaseException):
    """As kill -9 is: nothing of ours handles it."""


@dataclass
class Pupil:
    """A model that is the number of lines it has learned, in a file. It learns what it is shown, and the lines up to
    eight beyond become learnable: half of their samples are right. `dies_at` steps of work it is killed.
    """

    dies_at: int | None = None
    asked: list[str] = field(default_factory=list)
    trained: list[Lessons] = field(default_factory=list)
    at_once: int = 1
    level: int = 0

    def _work(self) -> None:
        if self.dies_at is not None:
            self.dies_at -= 1
            if self.dies_at < 0:
                raise Killed

    @property
    def answerer(self) -> Pupil:
        return self

    def answers(self, example: Example, k: int) -> list[Calls | None]:
        self._work()
        number = int(example.id)
        self.asked.append(example.id)
        right = k if number < self.level else k // 2 if number < self.level + 8 else 0
        return [example.gold if i < right else (ToolCall("add", {"a": -1}),) for i in range(k)]

    def measure(self, examples: Iterator[Example]) -> dict[str, Any]:
        self._work()
        right = [int(example.id) < self.level for example in examples]
        return {"n": len(right), "accuracy": sum(right) / len(right)}

    @contextmanager
    def opened(self, checkpoint: Path, place: Path) -> Iterator[Pupil]:
        self.level = int((checkpoint / "config.json").read_text())
        yield self

    def train(self, checkpoint: Path, lessons: Lessons, place: Path) -> Path:
        """In two steps of work, with a file in between, as a checkpoint is."""
        out = place / "training"
        out.mkdir(exist_ok=True)
        if not (out / "half").exists():
            self._work()
            (out / "half").touch()
        self._work()
        self.trained.append(lessons)
        ids = [int(text) for text in lessons.ids.read_text().split()]
        (out / "config.json").write_text(str(max(ids) + 1 if max(ids) < 24 else 24))
        (out / "log.jsonl").write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "loss": 1.5}\n')
        return out


def files_of(tmp_path: Path, name: str = "run") -> dict[str, Path]:
    base, data = tmp_path / "base", tmp_path / "d.jsonl"
    base.mkdir(exist_ok=True)
    (base / "config.json").write_text("0")
    data.write_text("".join(line(f"add {i}", {"name": "add", "arguments": {"a": i}}, id=str(i)) + "\n"
                            for i in range(LINES)))  # fmt: skip
    return {"base": base, "data": data, "dev": data, "out": tmp_path / name}


def run(files: dict[str, Path], pupil: Pupil, **numbers: Any) -> dict[str, Any]:
    recipe = RoundsRecipe(rounds=replace(ROUNDS, **numbers))
    return run_rounds(recipe, pupil, **files, say=lambda _: None)


def log(files: dict[str, Path]) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (files["out"] / "log.jsonl").read_text().splitlines()]


def test_rounds_go_on_while_the_selection_grows(tmp_path: Path) -> None:
    files, pupil = files_of(tmp_path), Pupil()
    result = run(files, pupil)
    entries = log(files)
    # 8 lines more in each round, till what can be learned (24 lines) is: those beyond stay half right for ever.
    assert [entry["chosen"] for entry in entries] == [8, 16, 24, 32, 32]
    assert [entry["histogram"] for entry in entries[:2]] == [[32, 0, 8, 0, 0], [24, 0, 8, 0, 8]]
    assert [entry["stop"] for entry in entries] == [None, None, None, None, "no growth"]
    assert [entry["dev"]["accuracy"] for entry in entries] == [0.0, 0.2, 0.4, 0.6, 0.6]
    assert entries[0]["losses"] == [[1, 2.5], [2, 1.5]]
    assert result == {
        "stop": "no growth", "trainings": 4, "best": 4, "checkpoint": "round-3/training", "accuracy": 0.6,
    }  # fmt: skip
    assert len(pupil.asked) == 5 * LINES
    ElementTree.parse(files["out"] / "rounds.svg")


@pytest.mark.parametrize(
    ("numbers", "chosen", "stop"),
    [
        ({"most": 1}, [8, 16], "most rounds"),
        ({"growth": 0.6}, [8, 16, 24], "no growth"),  # 24 is half more than 16
        ({"growth": 1.0}, [8, 16], "no growth"),
        ({"cumulative": False}, [8, 8], "no growth"),
        ({"cumulative": False, "solved": 0.5}, [8, 16, 16], "no growth"),
        ({"selection": "random", "most": 1}, [8, 16], "most rounds"),
    ],
)
def test_what_is_chosen_and_when_it_ends_are_the_recipes(
    numbers: dict[str, Any], chosen: list[int], stop: str, tmp_path: Path
) -> None:
    files = files_of(tmp_path)
    if numbers.get("selection") == "random":  # the pupil learns up to the last line that it was shown
        assert run(files, Pupil(), **numbers)["stop"] == stop
        ids = [int(text) for text in (files["out"] / "round-0" / "ids.txt").read_text().split()]
        assert len(ids) == chosen[0]
        assert max(ids) >= 8
        return
    assert run(files, Pupil(), **numbers)["stop"] == stop
    assert [entry["chosen"] for entry in log(files)] == chosen


def test_lines_drawn_blindly_are_as_many_as_the_model_chose_and_stay(tmp_path: Path) -> None:
    files, pupil = files_of(tmp_path), Pupil()
    run(files, pupil, selection="random", most=4)
    chosen = [entry["chosen"] for entry in log(files)]
    by_model: set[str] = set()
    for number, count in enumerate(chosen):
        place = files["out"] / f"round-{number}"
        records = [json.loads(text) for text in (place / "samples.jsonl").read_text().splitlines()[1:]]
        right = {record["id"]: sum(sample["right"] for sample in record["samples"]) for record in records}
        by_model |= {name for name, k in right.items() if 0 < k < 4}
        ids = set((place / "ids.txt").read_text().split())
        assert len(ids) == count == len(by_model)
        assert number == 0 or ids >= set((files["out"] / f"round-{number - 1}" / "ids.txt").read_text().split())
    assert len(chosen) > 2


def test_drafts_are_the_chosen_lines_first_answers(tmp_path: Path) -> None:
    files, pupil = files_of(tmp_path), Pupil()
    run(files, pupil, most=2)
    drafts = [json.loads(text) for text in (files["out"] / "round-1" / "drafts.jsonl").read_text().splitlines()]
    # Of 16 chosen lines the first sample is right everywhere, so there is nothing wrong to balance with.
    assert drafts == []
    other = files_of(tmp_path, "all")
    run(other, Pupil(), most=2, unchanged=1.0)
    drafts = [json.loads(text) for text in (other["out"] / "round-1" / "drafts.jsonl").read_text().splitlines()]
    assert {draft["id"] for draft in drafts} == {str(i) for i in range(16)}
    none = files_of(tmp_path, "none")
    without = Pupil()
    run(none, without, most=1, refinement=False)
    assert without.trained[0].drafts is None


def test_each_round_starts_from_the_last_model_or_from_the_base(tmp_path: Path) -> None:
    for start, wanted in (("last", ["base", "training"]), ("base", ["base", "base"])):
        files, seen = files_of(tmp_path, start), list[str]()

        class Recording(Pupil):
            def train(self, checkpoint: Path, lessons: Lessons, place: Path) -> Path:
                seen.append(checkpoint.name)  # noqa: B023
                return super().train(checkpoint, lessons, place)

        run(files, Recording(), most=2, start=start)
        assert seen == wanted


def snapshot(out: Path) -> dict[str, bytes]:
    return {str(file.relative_to(out)): file.read_bytes() for file in sorted(out.rglob("*")) if file.is_file()}


def test_killed_after_any_step_it_goes_on_and_repeats_nothing(tmp_path: Path) -> None:
    whole, unbroken = files_of(tmp_path, "whole"), Pupil()
    run(whole, unbroken, most=2)
    wanted = snapshot(whole["out"])
    steps = 3 * LINES + 3 + 2 * 2  # answers, dev figures, trainings
    for dies_at in range(0, steps, 7):
        files, first, second = files_of(tmp_path, f"killed{dies_at}"), Pupil(dies_at), Pupil()
        with pytest.raises(Killed):
            run(files, first, most=2)
        run(files, second, most=2)
        assert snapshot(files["out"]) == wanted
        assert first.asked + second.asked == unbroken.asked
        assert len(first.trained) + len(second.trained) == 2
    with pytest.raises(Killed):
        run(files_of(tmp_path, "last"), Pupil(steps - 1), most=2)


def test_a_finished_run_is_not_done_again_and_another_is_refused(tmp_path: Path) -> None:
    files = files_of(tmp_path)
    first = run(files, Pupil())
    again = Pupil(dies_at=0)
    assert run(files, again) == first
    with pytest.raises(InputError, match="another recipe"):
        run(files, Pupil(), most=2)
    files["data"].write_text(files["data"].read_text() + "\n")
    with pytest.raises(InputError, match="another data"):
        run(files, Pupil())


def test_lines_are_checked_before_any_work(tmp_path: Path) -> None:
    files = files_of(tmp_path)
    text = files["data"].read_text()
    files["data"].write_text(text + line("x", {"name": "add", "arguments": {"a": 1}}, id="7"))
    with pytest.raises(DataError, match="line 41: the id '7' is that of line 8"):
        run(files, Pupil(dies_at=0))
    files["data"].write_text(text + line("x", {"name": "add", "arguments": {"a": "one"}}))
    with pytest.raises(DataError, match="line 41"):
        run(files, Pupil(dies_at=0))
    assert not files["out"].exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[rounds]\nk = 1", "the least is 2"),
        ("[rounds]\nsolved = 0.6\nhopeless = 0.4", "no room"),
        ("[nano]\nsteps = 5", "compact"),
        ("[nano]\nwidth = 256", "nano.width is no key"),  # the base has one
        ("[training]\nbatch = 5\nmicro_batch = 2", "multiple of training.micro_batch"),
        ('[nano]\n[lora]\n[rendering]\nformat = "compact"', "neither"),
        ('[endpoint]\nurl = "http://x/v1"', "needs model, deploy"),
        ("[lora]\nmerge = false", "lora.merge must be true"),
    ],
)
def test_a_wrong_recipe_is_a_sentence(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=says) as raised:
        read_rounds(file)
    assert "r.toml" in str(raised.value)


# --- what trains and answers ---------------------------------------------------------------------------------------


def recording_launcher(tmp_path: Path) -> tuple[list[str], Path]:
    """A command that writes down what it is given."""
    said = tmp_path / "said.json"
    code = f"import json, sys; open({str(said)!r}, 'w').write(json.dumps(sys.argv[1:]))"
    return [sys.executable, "-c", code], said


def test_a_model_of_our_own_is_trained_by_train_model(tmp_path: Path) -> None:
    command, said = recording_launcher(tmp_path)
    learner = RecipeLearner(RoundsRecipe(nano=Nano(steps=7), launch=Launch(command)))
    made = learner.train(tmp_path / "base", Lessons(tmp_path / "d", tmp_path / "ids", None, tmp_path / "v"), tmp_path)
    assert made == tmp_path / "training" / "hf"
    told = json.loads(said.read_text())
    assert told[:5] == ["-m", "toolace_edge.train", "model", "--steps", "7"]
    assert told[told.index("--only") + 1] == str(tmp_path / "ids")
    assert told[told.index("--dev") + 1] == str(tmp_path / "v")  # whose tools are not to be learned
    from toolace_edge.train.command import model

    flags = {flag for parameter in model.params for flag in parameter.opts}
    assert {part for part in told if part.startswith("--")} <= flags


def test_a_training_that_fails_ends_the_loop_with_a_sentence(tmp_path: Path) -> None:
    fails = [sys.executable, "-c", "import sys; sys.exit(3)"]
    learner = RecipeLearner(RoundsRecipe(launch=Launch(fails)))
    with pytest.raises(EngineError, match=r"training failed \(exit code 3\)"):
        learner.train(tmp_path, Lessons(tmp_path / "d", tmp_path / "ids", None), tmp_path)
    missing = RecipeLearner(RoundsRecipe(launch=Launch(["no-such-program"])))
    with pytest.raises(EngineError, match="no-such-program cannot be run"):
        missing.train(tmp_path, Lessons(tmp_path / "d", tmp_path / "ids", None), tmp_path)


def test_a_server_is_given_the_checkpoint_before_it_is_asked(tmp_path: Path) -> None:
    command, said = recording_launcher(tmp_path)
    endpoint = Endpoint("http://127.0.0.1:9/v1", "m", [*command, "--load", "{checkpoint}"], in_flight=5)
    with RecipeLearner(RoundsRecipe(endpoint=endpoint)).opened(tmp_path / "made", tmp_path) as asked:
        assert asked.answerer.at_once == 5
    assert json.loads(said.read_text()) == ["--load", str(tmp_path / "made")]


def test_a_servers_figures_are_those_of_first_answers(tmp_path: Path) -> None:
    examples = read_examples(files_of(tmp_path)["data"])
    assert ServedModel(Pupil(level=3)).measure(examples) == {"n": LINES, "accuracy": 3 / LINES}


@pytest.mark.skipif(sys.platform == "win32", reason="no such pipes")
def test_a_training_ends_with_the_loop_that_started_it(tmp_path: Path) -> None:
    """Its standard input ends, however its parent did. The work here is to read lines that never come."""
    lines = tmp_path / "lines.jsonl"
    os.mkfifo(lines)
    command = [sys.executable, "-m", "toolace_edge.train", "check", str(lines)]
    environment = {**os.environ, "TOOLACE_EDGE_WITH_PARENT": "1"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) as process:
        writer = os.open(lines, os.O_WRONLY)  # returns once it reads
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=300) == 1
        os.close(writer)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_killed_in_sampling_and_in_training_it_ends_as_if_unbroken(tmp_path: Path) -> None:
    for package in ("torch", "transformers", "accelerate", "peft", "onnx"):
        pytest.importorskip(package)
    data = tmp_path / "d.jsonl"
    right = {"name": "add", "arguments": {"a": 1}}
    asks = ("add 1", "add 1 now", "please add 1", "add the 1", "1: add", "and add 1")
    data.write_text("".join(line(ask, right) + "\n" + line(f"{ask}?", says="Hi.") + "\n" for ask in asks))
    # Random weights call nothing; some training on the same lines, and they are right sometimes.
    begun = write_recipe(tmp_path / "b.toml", steps=45, learning_rate=0.003, save_every=45)
    assert tune(begun, write_base(tmp_path / "base"), data, tmp_path / "begun").exit_code == 0
    base = tmp_path / "begun" / "model"
    more = '[runtime]\nprecision = "fp32"\n[rounds]\nmost = 1\nk = 6\n'
    recipe = write_recipe(tmp_path / "r.toml", lora=True, steps=12, learning_rate=0.001, more=more)

    def start(out: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "toolace_edge.train", "rounds", str(recipe), "--base", str(base)]
        command += ["--data", str(data), "--dev", str(data), "--out", str(out)]
        return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert start(whole).wait() == 0
    first = broken / "round-0"

    def sampled(count: int) -> bool:
        samples = first / "samples.jsonl"
        return samples.exists() and samples.read_bytes().count(b"\n") >= count

    kill_once(start(broken), lambda: sampled(4))
    assert not (first / "sampled.json").exists()
    kill_once(start(broken), (first / "training" / "checkpoints" / "checkpoint-4" / "complete").exists)
    assert not (first / "trained.json").exists()
    assert start(broken).wait() == 0
    wanted, got = snapshot(whole), snapshot(broken)
    assert wanted.keys() == got.keys()
    same = [name for name in wanted if not name.endswith((".onnx", "tune.toml", "toolace.json"))]
    assert [name for name in same if wanted[name] != got[name]] == []
    assert "round-0/training/model/model.safetensors" in same
