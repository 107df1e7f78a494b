"""The right tools are found among many, the same ones each time, and whoever asked is told that they were chosen."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from toolace_edge import formats, retrieval
from toolace_edge.engines.scripted import ScriptedEngine
from toolace_edge.errors import BudgetError, InputError, ModelError, SchemaError
from toolace_edge.evaluate import evaluate
from toolace_edge.meanings import read, write
from toolace_edge.messages import Answer, Message, Tool, ToolCall
from toolace_edge.prompts import build_prompt
from toolace_edge.retrieval import ToolIndex, Weights, parts_of, ranking
from toolace_edge.session import Session
from toolace_edge.terms import stem, words

from .test_cli import failed, run
from .test_evaluate import examples, line, scripted
from .tiny import tiny_tokenizer_json

TOKENIZER = tiny_tokenizer_json()


def tool(name: str, description: str = "", **parameters: dict) -> Tool:
    return Tool(name, description, {"type": "object", "properties": parameters, "required": []})


def text(description: str = "", **more: object) -> dict:
    return {"type": "string", **({"description": description} if description else {}), **more}


CATALOGUE = (
    tool("get_weather", "Get the forecast for a place.", city=text("Name of the city")),
    tool("setAlarm", "Wake somebody up.", time=text("When to ring")),
    tool("timezone_of", "Which zone a city is in.", city=text()),
    tool("play_music", "Play songs.", artist=text("Who sings"), genre=text(enum=["jazz", "rock", "classical"])),
    tool("book_flight", "Reserve a seat on a plane.", origin=text("Airport"), destination=text("Airport")),
    tool("HTTPGet", "Fetch the content of an address on the web.", url=text()),
    tool("translate", "Say a text in another language.", target=text("Language to say it in")),
    tool("send_email", "Send a message.", recipient=text("E-mail address"), subject=text()),
    tool("currency.convert", "Exchange rates between currencies.", amount=text(), to=text("Currency code")),
    tool("search_recipes", "Find something to cook.", ingredients=text("What is in the kitchen")),
    tool("reserver_hotel", "Réserver une chambre d'hôtel.", ville=text("La ville")),
    tool("tianqi", "查询城市的天气预报", city=text("城市名称")),
    tool("lock_door", "Lock or unlock a door.", door=text(enum=["front door", "garage"])),
    tool("stock_price", "What a share costs.", symbol=text("Ticker")),
)


@pytest.fixture(scope="module")
def index() -> ToolIndex:
    return ToolIndex(CATALOGUE)


@pytest.mark.parametrize(
    ("request_text", "name"),
    [
        ("what's the weather in Oslo?", "get_weather"),
        ("Will it be sunny? Show the forecasts", "get_weather"),  # a plural
        ("two alarms please", "setAlarm"),  # a plural, and half of a name
        ("in which time zone is Lima", "timezone_of"),  # two words for one
        ("put on some classical", "play_music"),  # the value of an enum
        ("flights from Oslo to Rome", "book_flight"),
        ("do an http request", "HTTPGet"),  # capitals that are one word
        ("what is 'cheese' in another language", "translate"),
        ("converting dollars", "currency.convert"),  # a stem
        ("I need a recipe", "search_recipes"),
        ("une chambre à réserver", "reserver_hotel"),  # accents
        ("reserver chambre hotel", "reserver_hotel"),  # and none
        ("北京天气怎么样", "tianqi"),  # no spaces
        ("is the garage shut", "lock_door"),
        ("stocks", "stock_price"),
        ("the wether in Oslo", "get_weather"),  # a slip
        ("which timezone", "timezone_of"),
        ("will it rain", "get_weather"),  # what words mean
        ("wake me", "setAlarm"),
    ],
)
def test_the_tool_that_a_request_is_about_is_the_first(index: ToolIndex, request_text: str, name: str) -> None:
    assert [one.name for one, _ in index.top(request_text, 1)] == [name]


def test_scores_are_those_of_the_formula() -> None:
    """Against a dense reading of BM25F as the module's docstring states it."""
    rng = random.Random(7)
    vocabulary = ["alarm", "cloud", "doctor", "rain", "rocket", "wind", "yacht", "zebra"]

    def some(most: int) -> str:
        return " ".join(rng.choices(vocabulary, k=rng.randint(0, most)))

    tools = [
        tool(f"{some(2)} a{i}", some(6), **{f"p {some(1)}{j}": text(some(3), enum=[some(2)]) for j in range(i % 3)})
        for i in range(25)
    ]
    fields = [[words(one) for one in retrieval.texts(described)] for described in tools]

    def score(documents: list[list[list[str]]], asked: dict[str, float], i: int) -> float:
        means = [max(1, sum(len(one[f]) for one in documents)) / len(documents) for f in range(5)]
        total = 0.0
        for term, weight in asked.items():
            n = sum(any(term in field for field in one) for one in documents)
            x = 0.0
            for field, field_weight, mean in zip(documents[i], retrieval.FIELD_WEIGHTS, means, strict=True):
                x += field_weight * field.count(term) / (1 - retrieval.B + retrieval.B * len(field) / mean)
            total += weight * math.log(1 + (len(documents) - n + 0.5) / (n + 0.5)) * x / (retrieval.K1 + x)
        return total

    expected = [score(fields, {"cloud": 1.0, "zebra": 1.0}, i) for i in range(len(tools))]
    assert min(expected) < max(expected)
    words_alone = Weights(spellings=0, meanings=0)
    assert ToolIndex(tools).scores("a cloud and the zebra", words_alone) == pytest.approx(expected)
    assert Weights().words == Weights().spellings == 1


def test_what_words_mean_counts_by_the_cosine_of_their_sums() -> None:
    """Against the table itself: a stem's numbers, times what the field counts over the root of its length."""
    with np.load(Path(str(files("toolace_edge.models"))) / "meanings.npz") as table:
        rows = {word: row for row, word in enumerate(table["words"].tobytes().decode().split("\n"))}
        vectors = table["vectors"].astype(np.float64) * table["factors"].astype(np.float64)[:, None]

    def vector(**weights: float) -> np.ndarray:
        total = sum(weight * vectors[rows[stem(word)]] for word, weight in weights.items())
        return total / np.linalg.norm(total)

    about = tool("rain_rain", "forecast umbrella umbrella", city=text("xyzzyplugh"))
    asked = vector(sunny=1.0, tomorrow=retrieval.COMMON)
    root = math.sqrt
    offered = vector(rain=2 * 2 / root(2), forecast=2 / root(3), umbrella=2 * 2 / root(3), city=0.5)
    both = [about, tool("quaffle")]
    near, unknown = ToolIndex(both).scores("will it be sunny tomorrow", Weights(words=0, spellings=0))
    assert near == pytest.approx(Weights().meanings * float(asked @ offered), abs=1e-3)
    assert near > 1
    assert unknown == 0


def test_a_table_of_meanings_comes_back_as_it_was_written(tmp_path: Path) -> None:
    vectors = np.random.default_rng(3).normal(size=(3, 8)).astype(np.float32) * [[1e-3], [1.0], [30.0]]
    write(tmp_path / "m.npz", ["rain", "snow", "été"], vectors.astype(np.float32))
    table = read(tmp_path / "m.npz")
    mixed = vectors[0] * 2 + vectors[2] * 0.5
    assert table.of({"rain": 2, "été": 0.5, "unheard": 9}) == pytest.approx(mixed / np.linalg.norm(mixed), abs=0.01)
    assert not table.of({"unheard": 1}).any()
    assert [path.name for path in tmp_path.iterdir()] == ["m.npz"]


def test_the_same_request_gets_the_same_tools_in_catalogue_order(index: ToolIndex) -> None:
    chosen = index.top("play a song about the weather", 5)
    assert chosen == ToolIndex(CATALOGUE).top("play a song about the weather", 5)
    places = [CATALOGUE.index(one) for one, _ in chosen]
    assert places == sorted(places)


def test_scores_are_the_same_in_another_process() -> None:
    """Sets of strings have another order in each: no sum may depend on it."""
    program = (
        "from tests.test_retrieval import CATALOGUE; from toolace_edge.retrieval import ToolIndex;"
        "print(ToolIndex(CATALOGUE).scores('the wether forcast in Lissabon, and musik for a flyght'))"
    )
    printed = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert printed[0] == printed[1]
    assert any(json.loads(printed[0]))


def test_equals_are_taken_in_catalogue_order() -> None:
    alike = [tool(f"quaffle{i}", "Water the plants.") for i in range(6)]
    assert [one.name for one, _ in ToolIndex(alike).top("water the plants", 3)] == ["quaffle0", "quaffle1", "quaffle2"]
    assert [one.name for one, _ in ToolIndex(alike).top("xyzzy", 2)] == ["quaffle0", "quaffle1"]


def test_a_conversation_leads_on_and_its_last_turn_leads(index: ToolIndex) -> None:
    weather = Message("user", "what's the weather in Oslo?")
    said = Message("assistant", "Do you want to hear some music by a jazz artist, or send an email?")
    assert index.top([weather, said, Message("user", "and in Bergen?")], 1)[0][0].name == "get_weather"
    assert index.top([weather, said, Message("user", "lock the door")], 1)[0][0].name == "lock_door"


def test_a_turn_keeps_its_tools_while_it_goes_on(index: ToolIndex) -> None:
    asked = [Message("user", "what's the weather in Oslo?")]
    called = Message("assistant", calls=(ToolCall("get_weather", {"city": "Oslo"}),))
    assert index.top([*asked, called, Message("tool", "play music, send email")], 4) == index.top(asked, 4)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("getHTTPResponseCode2", ["get", "http", "respons", "code2"]),
        ("sgd_seen-v1.list", ["sgd", "seen", "v1", "list"]),
        ("10 Cities' stops", ["cit", "stop"]),
        ("city playing played reservations reserve", ["cit", "play", "play", "reserv", "reserv"]),
        ("Café", ["caf"]),
        ("天气好", ["天气", "气好"]),
        ("", []),
    ],
)
def test_words_are_split_by_case_and_punctuation(written: str, expected: list[str]) -> None:
    assert words(written) == expected


def test_a_request_is_cut_where_what_is_asked_for_is_joined() -> None:
    said = "Lock the door. Then play 1.5 hours of jazz and tell Ann about it; finally sandpaper the land, also"
    parts = ["Lock the door", "play 1.5 hours of jazz", "tell Ann about it", "sandpaper the land,"]
    assert [part.strip() for part in parts_of(said)] == parts
    assert parts_of([Message("user", said), Message("user", "wake me"), Message("assistant", "now. Or")]) == ["wake me"]
    assert parts_of([Message("assistant", "hello there")]) == []


SEVERAL = "Play some music by a jazz artist. Then lock the front door and wake me up at six"


def test_each_part_of_a_request_brings_in_tools_that_suit_it(index: ToolIndex) -> None:
    scores = index.scores(SEVERAL)
    wanted = {"play_music", "lock_door", "setAlarm"}
    assert {CATALOGUE[i].name for i in index.best(SEVERAL, scores, 2)} >= wanted
    assert {CATALOGUE[i].name for i in ranking(scores)[:2]} < wanted
    assert index.best(SEVERAL, scores, 99) == ranking(scores)
    one_part = "lock the front door of the garage"
    scores = index.scores(one_part)
    assert index.best(one_part, scores, 2) == ranking(scores)[:2]


# In a session


MANY = [*CATALOGUE, *(tool(f"filler_{i}", f"Does job {i} of the machine.", level=text("How much")) for i in range(60))]
CALL = '<|call|>{"name":"%s","arguments":{}}<|end|>'


def session(tools: list[Tool] | tuple[Tool, ...] = MANY, reply: str = "get_weather", **options: object) -> Session:
    n_ctx = options.pop("n_ctx", 900)
    engine = ScriptedEngine.replies(TOKENIZER, [CALL % reply], n_ctx=n_ctx)
    return Session(engine, formats.get("compact"), tools, rounds=0, **options)


def offered(answer: Answer) -> list[str]:
    assert answer.retrieval is not None
    return [name for name, _ in answer.retrieval.tools]


def tokens(tools: list[Tool] | tuple[Tool, ...], request: str) -> int:
    engine = ScriptedEngine.noise(TOKENIZER)
    return len(build_prompt(engine, formats.get("compact"), tools, [Message("user", request)]).ids)


def test_a_model_may_name_its_own_number_of_tools() -> None:
    calibration = {"kind": "logistic", "a": 1.0, "b": 0.0, "top_k": 3}
    assert len(offered(session(calibration=calibration).complete("what's the weather in Oslo?"))) == 3
    assert len(offered(session(calibration=calibration, top_k=5).complete("what's the weather in Oslo?"))) == 5
    assert session(CATALOGUE[:4], calibration=calibration).complete("weather").retrieval is None  # they fit


def test_a_request_of_several_parts_is_offered_more_tools_unless_their_number_is_given() -> None:
    calibration = {"kind": "logistic", "a": 1.0, "b": 0.0, "top_k": 2}
    assert {"play_music", "lock_door", "setAlarm"} <= set(offered(session(calibration=calibration).complete(SEVERAL)))
    assert len(offered(session(calibration=calibration, top_k=2).complete(SEVERAL))) == 2


def test_a_model_may_say_from_how_many_tokens_of_tools_it_chooses_well() -> None:
    request, few = "what's the weather in Oslo?", MANY[:12]
    calibration = {"kind": "logistic", "a": 1.0, "b": 0.0, "top_k": 3}
    most = tokens(few, request)
    for tools_tokens, shown in ((10, 3), (most, 12)):
        own = {**calibration, "tools_tokens": tools_tokens}
        answer = session(few, n_ctx=4096, calibration=own).complete(request)
        assert (3 if answer.retrieval else 12) == shown
        if answer.retrieval is not None:
            assert "get_weather" in offered(answer)
            assert "this model chooses best from tools of up to 10 tokens, and all take more" in str(answer.retrieval)
        assert session(few, n_ctx=4096, calibration=own, top_k=0).complete(request).retrieval is None
        assert session(few[:3], n_ctx=4096, calibration=own).complete(request).retrieval is None
    with pytest.raises(ModelError, match="tools_tokens"):
        session(few, calibration={**calibration, "tools_tokens": 0})


def test_too_many_tools_are_chosen_from_and_the_answer_says_so() -> None:
    request = "what's the weather in Oslo?"
    answer = session().complete(request)
    assert answer.calls == (ToolCall("get_weather", {}),)
    assert len(offered(answer)) == 8
    assert "get_weather" in offered(answer)
    assert (answer.retrieval.total, answer.retrieval.n_ctx) == (74, 900)
    assert answer.retrieval.needed_tokens == tokens(MANY, request)
    assert f"8 of 74 tools were offered, the best for this request: all take {tokens(MANY, request)} tokens" in str(
        answer.retrieval
    )


def test_the_model_reads_the_offered_tools_and_no_other() -> None:
    served = session(top_k=2)
    answer = served.complete("what's the weather in Oslo?")
    prompt = served.engine.decode(served.engine.tokens).decode()
    assert all((f"<|tool|>{one.name}" in prompt) == (one.name in offered(answer)) for one in MANY)


def test_tools_that_fit_are_all_offered_and_nothing_is_said() -> None:
    assert session(n_ctx=16384).complete("weather").retrieval is None
    assert session(CATALOGUE[:4], top_k=4).complete("weather").retrieval is None


def test_each_request_of_a_session_has_a_choice_of_its_own() -> None:
    served = session(top_k=1)
    assert [offered(served.complete(said)) for said in ("weather", "lock the door", "weather")] == [
        ["get_weather"],
        ["lock_door"],
        ["get_weather"],
    ]


def test_fewer_are_offered_where_top_k_do_not_fit_and_it_is_said() -> None:
    answer = session(top_k=40, n_ctx=400).complete("what's the weather in Oslo?")
    assert 1 <= len(offered(answer)) < 40
    assert "top_k is 40, but more do not fit into the context of 400 tokens" in str(answer.retrieval)
    assert answer.rounds[0].usage.prompt_tokens < 400


def test_where_retrieval_is_forbidden_an_overflow_names_the_numbers() -> None:
    request = "what's the weather in Oslo?"
    with pytest.raises(BudgetError) as raised:
        session(top_k=0).complete(request)
    assert str(raised.value) == (
        f"The 74 tools and the conversation take {tokens(MANY, request)} tokens, and the context holds 900 (n_ctx)."
    )
    assert session(top_k=0, n_ctx=16384).complete(request).retrieval is None


def test_a_conversation_or_a_tool_that_alone_is_too_long_is_an_error_with_numbers() -> None:
    with pytest.raises(BudgetError, match=r"conversation alone takes \d{4} tokens; the context holds 900"):
        session().complete("weather " * 5000)
    huge = [tool("a", "long " * 900), tool("b", "long " * 900)]
    with pytest.raises(BudgetError, match=r"1 of 2 tools and the conversation take \d{4} tokens already; .* 900"):
        session(huge).complete("long")


def test_the_tool_that_must_be_called_is_offered_whatever_is_asked() -> None:
    answer = session(tool_choice=("named", "stock_price"), reply="stock_price", top_k=2).complete("lock the door")
    assert offered(answer) == ["lock_door", "stock_price"]
    assert answer.calls[0].name == "stock_price"
    answer = session(reply="stock_price", top_k=2).complete("lock the door", tool_choice="stock_price")
    assert offered(answer) == ["lock_door", "stock_price"]


def test_a_bad_tool_among_many_is_refused_before_any_request() -> None:
    bad = tool("bad", "", x={"not": {"type": "string"}})
    with pytest.raises(SchemaError, match=r"tools\[74\]\.parameters"):
        session([*MANY, bad])


@pytest.mark.parametrize("top_k", [-1, 1.5, True, "8"])
def test_a_top_k_that_is_no_number_is_refused(top_k: object) -> None:
    with pytest.raises(InputError, match="top_k"):
        session(top_k=top_k)


# On the command line


@pytest.fixture
def many(tmp_path: Path) -> Path:
    path = tmp_path / "many.json"
    entries = [{"name": one.name, "description": one.description, "parameters": one.parameters} for one in MANY]
    path.write_text(json.dumps(entries), "utf-8")
    return path


def test_run_says_on_stderr_and_in_json_what_was_offered(many: Path) -> None:
    result = run("run", "weather in Oslo", "--tools", many, "--top-k", "2", "--json", replies=(CALL % "get_weather",))
    facts = json.loads(result.stdout)["retrieval"]
    assert (len(facts["tools"]), facts["total"], facts["top_k"]) == (2, 74, 2)
    assert "get_weather" in [one["name"] for one in facts["tools"]]
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("2 of 74 tools were offered")


def test_run_chooses_by_itself_and_top_k_0_forbids_it(many: Path) -> None:
    asked = ("run", "weather in Oslo", "--tools", many, "--rounds", "0")
    chosen = run(*asked, n_ctx=900, replies=(CALL % "get_weather",))
    assert (chosen.stdout, chosen.exit_code) == ("get_weather()\n", 0)
    assert "8 of 74 tools were offered" in chosen.stderr
    assert "The 74 tools and the conversation take" in failed(run(*asked, "--top-k", "0", n_ctx=900), 2)
    everything = run(*asked, "--json", n_ctx=16384, replies=(CALL % "get_weather",))
    assert (everything.stderr, "retrieval" in json.loads(everything.stdout)) == ("", False)


def test_eval_counts_how_often_the_right_tool_was_offered(tmp_path: Path) -> None:
    others = [{"name": f"other_{i}", "description": "Water the plants."} for i in range(4)]
    lines = [line("set a timer for ten minutes"), line("water the plants")]
    lines = [{**one, "tools": [*one["tools"], *others]} for one in lines]
    report = evaluate(scripted('<|call|>{"name":"set_timer","arguments":{"minutes":10}}<|end|>'),
                      examples(tmp_path, *lines), top_k=2, rounds=0)  # fmt: skip
    assert report["retrieval"] == {"n": 2, "tools_mean": 2.0, "kept": 0.5}
    assert "retrieval" not in evaluate(scripted("<|text|><|end|>"), examples(tmp_path, line()), rounds=0)


def test_as_many_as_fit_are_offered_where_top_k_is_all_of_them() -> None:
    answer = session(MANY, top_k=len(MANY), n_ctx=900).complete("what's the weather in Oslo?")
    assert 1 <= len(offered(answer)) < len(MANY)
    assert "get_weather" in offered(answer)
