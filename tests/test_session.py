from __future__ import annotations

import json
import threading

import jsonschema
import numpy as np
import pytest

from tests.tiny import tiny_tokenizer_json
from toolace_edge import formats
from toolace_edge.engines.scripted import ScriptedEngine
from toolace_edge.errors import BudgetError, Cancelled, InputError, SchemaError
from toolace_edge.formats.base import Limits
from toolace_edge.messages import Message, Tool, ToolCall
from toolace_edge.sampling import Sampling
from toolace_edge.session import Session, Watch
from toolace_edge.tools import load_tools

# Control tokens of every format, in the place of our unused ones.
TOKENIZER = tiny_tokenizer_json()
for i, name in enumerate(
    ("im_start", "im_end", "eot_id", "start_header_id", "end_header_id", "begin_of_text"),
):
    TOKENIZER = TOKENIZER.replace(f"<|r{i}|>", f"<|{name}|>")

TIMER = Tool(
    "set_timer",
    "Set a timer.",
    {
        "type": "object",
        "properties": {"minutes": {"type": "integer", "minimum": 0, "maximum": 600}, "label": {"type": "string"}},
        "required": ["minutes"],
    },
)
REPLY = '<|call|>{"name":"set_timer","arguments":{"minutes":%d}}<|end|>'
REQUEST = "Set a timer for ten minutes"


def session(engine: ScriptedEngine, tools=(TIMER,), fmt: str = "compact", **options) -> Session:
    return Session(engine, formats.get(fmt), tools, **options)


def replying(*replies: str, **options) -> Session:
    return session(ScriptedEngine.replies(TOKENIZER, replies), **options)


def test_a_request_becomes_a_call() -> None:
    answer = replying(REPLY % 10, rounds=0).complete(REQUEST)
    assert answer.calls == (ToolCall("set_timer", {"minutes": 10}),)
    assert (answer.text, answer.stop, answer.confidence) == ("", "max_rounds", None)
    assert len(answer.rounds) == 1
    assert answer.rounds[0].log_probability is not None


def test_a_request_may_get_text_and_several_calls() -> None:
    assert replying("<|text|>hello<|end|>").complete("hi").text == "hello"
    both = (REPLY % 1).removesuffix("<|end|>") + REPLY % 2
    calls = replying(both).complete(REQUEST).calls
    assert [call.arguments["minutes"] for call in calls] == [1, 2]


class Torn:
    """Logits of a model that is torn between whole answers: `first` are their chances, `again` those of being written
    after themselves. `longest` is the longest context that it has seen.
    """

    def __init__(self, first: dict[str, float], again: dict[str, float], n_ctx: int = 2048) -> None:
        self.first, self.again, self.longest = first, again, 0
        self.engine = ScriptedEngine(TOKENIZER, self, n_ctx=n_ctx)
        self.turn = "".join(piece.text for piece in formats.get("compact").refine_turn())

    def __call__(self, tokens) -> np.ndarray:
        self.longest = max(self.longest, len(tokens))
        said = self.engine.decode(tokens).decode(errors="replace").rpartition(REQUEST)[2]
        last, _, written = said.rpartition(self.turn)
        logits = np.full(self.engine.vocab_size, -30.0, np.float32)
        for answer, chance in self.first.items():
            if last:
                chance = self.again[last] if answer == last else (1 - self.again[last]) / (len(self.first) - 1)
            if answer.startswith(written) and answer != written:
                token = self.engine.encode(answer[len(written) :], special=True)[0]
                logits[token] = np.logaddexp(logits[token], np.log(chance))
        return logits


def torn(first: dict[str, float], again: dict[str, float], **options) -> Session:
    return session(Torn(first, again).engine, **options)


TWO = {REPLY % 20: 0.6, REPLY % 10: 0.4}


def test_an_answer_that_stands_costs_one_pass_over_it() -> None:
    served = torn(TWO, {REPLY % 20: 0.9, REPLY % 10: 0.9})
    answer = served.complete(REQUEST)
    assert answer.stop == "unchanged"
    assert [each.calls[0].arguments["minutes"] for each in answer.rounds] == [20, 20]
    first, second = (each.usage for each in answer.rounds)
    assert second.forward_passes == 1
    assert second.cached_tokens >= first.prompt_tokens
    assert sum(ids for ids, _ in served.engine.calls[-1:]) <= first.call_tokens + 2
    assert answer.usage.forward_passes == first.forward_passes + 1
    assert answer.confidence == answer.rounds[0].confidence


def test_a_sure_answer_is_not_refined() -> None:
    answer = replying(REPLY % 10).complete(REQUEST)
    assert (answer.stop, len(answer.rounds)) == ("unchanged", 1)


def test_a_refinement_may_correct_the_call_and_all_rounds_are_told() -> None:
    answer = torn(TWO, {REPLY % 20: 0.2, REPLY % 10: 0.9}, rounds=3).complete(REQUEST)
    assert [each.calls[0].arguments["minutes"] for each in answer.rounds] == [20, 10, 10]
    assert answer.calls == answer.rounds[-1].calls
    assert answer.stop == "unchanged"
    assert [np.exp(each.log_probability) for each in answer.rounds] == pytest.approx([0.6, 0.4, 0.4], abs=0.01)
    by_default = torn(TWO, {REPLY % 20: 0.2, REPLY % 10: 0.9}).complete(REQUEST)
    assert (by_default.calls, len(by_default.rounds), by_default.stop) == (answer.calls, 2, "max_rounds")


def test_the_call_that_is_right_may_be_another_tool_or_none() -> None:
    served = torn({REPLY % 20: 0.5, "<|text|><|end|>": 0.3}, {REPLY % 20: 0.1, "<|text|><|end|>": 0.9})
    answer = served.complete(REQUEST)
    assert (answer.rounds[0].calls != (), answer.calls) == (True, ())


def test_what_is_drawn_at_random_is_not_refined() -> None:
    served = torn(TWO, {REPLY % 20: 0.2, REPLY % 10: 0.9}, sampling=Sampling(temperature=1.0, seed=1))
    answer = served.complete(REQUEST)
    assert (answer.stop, len(answer.rounds)) == ("max_rounds", 1)


def test_the_context_does_not_grow_with_the_rounds() -> None:
    mind = Torn(
        {REPLY % 20: 0.5, REPLY % 30: 0.3, REPLY % 40: 0.2}, {REPLY % 20: 0.1, REPLY % 30: 0.2, REPLY % 40: 0.99}
    )
    answer = session(mind.engine).complete(REQUEST)
    first = answer.rounds[0].usage
    assert answer.calls[0].arguments["minutes"] == 40
    assert mind.longest < first.prompt_tokens + 2 * first.call_tokens + 4


def test_the_tools_are_read_once_for_all_requests() -> None:
    served = replying(REPLY % 10)
    served.complete(REQUEST)
    again = served.complete("What time is it?").rounds[0].usage
    prefix = formats.get("compact").render(served.tools, ()).prefix
    assert again.cached_tokens >= sum(len(served.engine.encode(piece.text, piece.special)) for piece in prefix)
    assert again.cached_tokens < again.prompt_tokens


def test_a_conversation_goes_on_after_a_result() -> None:
    call = ToolCall("set_timer", {"minutes": 10}, "1")
    messages = [
        Message("system", "Be brief."),
        Message("user", REQUEST),
        Message("assistant", calls=(call,)),
        Message("tool", "ringing", call_id="1"),
    ]
    answer = replying(REPLY % 10, "<|text|>done<|end|>").complete(messages)
    assert answer.text == "done"


def test_calibration_gives_a_confidence_and_the_gate() -> None:
    facts = {"kind": "logistic", "a": 1.0, "b": 9.0, "gate": 0.5}
    answer = replying(REPLY % 10, calibration=facts).complete(REQUEST)
    assert answer.stop == "confident"
    assert answer.confidence == answer.rounds[0].confidence == pytest.approx(1.0, abs=0.01)


def test_a_tool_choice_narrows_what_is_answered() -> None:
    for choice, calls in (("none", False), ("required", True), (("named", "set_timer"), True)):
        for seed in range(3):
            engine = ScriptedEngine.noise(TOKENIZER, seed=seed)
            answer = session(engine, tool_choice=choice, rounds=0, limits=Limits(max_text=20)).complete(REQUEST)
            assert bool(answer.calls) == calls


def test_a_tool_choice_may_be_for_one_request() -> None:
    other = Tool("ping", "Ping.")
    served = session(ScriptedEngine.noise(TOKENIZER, seed=2), (TIMER, other), rounds=0, limits=Limits(max_text=20))
    for choice, names in (("none", set()), ("ping", {"ping"}), (("named", "set_timer"), {"set_timer"})):
        assert {call.name for call in served.complete(REQUEST, tool_choice=choice).calls} == names
    assert served.complete(REQUEST, tool_choice="required").calls
    for i in range(9):  # more than grammars are kept
        name = ("set_timer", "ping")[i % 2]
        assert served.complete(REQUEST, tool_choice=("named", name)).calls[0].name == name
        assert not served.complete(REQUEST, tool_choice="none").calls
    with pytest.raises(InputError, match="there is no tool named 'pong'"):
        served.complete(REQUEST, tool_choice="pong")


def test_the_sessions_tool_choice_is_for_requests_without_one() -> None:
    served = replying(REPLY % 10, rounds=0, tool_choice="none")
    assert not served.complete(REQUEST).calls
    assert served.complete(REQUEST, tool_choice="auto").calls
    assert not served.complete(REQUEST).calls


def test_the_same_seed_gives_the_same_answer() -> None:
    def answer(seed: int):
        engine = ScriptedEngine.noise(TOKENIZER, seed=0, scale=1.0)
        return (
            session(engine, sampling=Sampling(1.0, seed=seed), rounds=0, tool_choice="required").complete(REQUEST).calls
        )

    assert answer(1) == answer(1) != answer(2)


def test_steps_are_told_with_their_round() -> None:
    seen = []
    answer = replying(REPLY % 10).complete(REQUEST, on_step=lambda number, step: seen.append((number, step)))
    assert seen == [(number, step) for number, each in enumerate(answer.rounds) for step in each.steps]


def test_cancel_from_another_thread_stops_and_the_session_goes_on() -> None:
    served = replying(REPLY % 10)
    begun, go_on = threading.Event(), threading.Event()

    def wait(number, step) -> None:
        begun.set()
        assert go_on.wait(10)

    def cancel() -> None:
        assert begun.wait(10)
        served.cancel()
        go_on.set()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    with pytest.raises(Cancelled):
        served.complete(REQUEST, on_step=wait)
    canceller.join()
    assert served.complete(REQUEST).calls == (ToolCall("set_timer", {"minutes": 10}),)


@pytest.mark.parametrize("request_", ["", "  \n", [], [Message("system", "x")]])
def test_nothing_to_answer_is_refused(request_) -> None:
    with pytest.raises(InputError):
        replying(REPLY % 1).complete(request_)


def test_after_an_assistants_own_words_the_model_goes_on() -> None:
    said = Message("assistant", "Sure, let me set that timer.")
    answer = replying(REPLY % 10).complete([Message("user", REQUEST), said])
    assert answer.calls == (ToolCall("set_timer", {"minutes": 10}),)


def test_a_request_that_is_not_text_is_refused() -> None:
    with pytest.raises(InputError, match="surrogate"):
        replying(REPLY % 1).complete("ten \ud800 minutes")


@pytest.mark.parametrize("options", [{"rounds": -1}, {"rounds": 1.5}, {"max_new_tokens": 0}])
def test_options_that_make_no_sense_are_refused_by_name(options) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        replying(REPLY % 1, **options)


def test_a_huge_request_is_refused_with_its_length() -> None:
    with pytest.raises(BudgetError, match=r"\d{6} tokens"):
        replying(REPLY % 1).complete("set a timer " * 90_000)


def test_refinement_stops_where_the_context_is_full() -> None:
    usage = replying(REPLY % 20, rounds=0).complete(REQUEST).usage
    mind = Torn(TWO, {REPLY % 20: 0.1, REPLY % 10: 0.9}, n_ctx=usage.prompt_tokens + usage.call_tokens + 4)
    answer = session(mind.engine).complete(REQUEST)
    assert answer.stop == "context"
    assert answer.calls[0].arguments == {"minutes": 20}


def test_a_schema_that_cannot_be_held_is_refused_with_its_path() -> None:
    tool = Tool("f", "", {"type": "object", "properties": {"x": {"not": {"type": "string"}}}, "required": []})
    with pytest.raises(SchemaError, match="x"):
        replying(REPLY % 1, tools=(tool,))


def record(required: list[str] | None = None, **properties) -> dict:
    """A schema of an object; all properties are required unless said otherwise."""
    return {"type": "object", "properties": properties, "required": list(properties) if required is None else required}


REAL_WORLD = {
    "flight": record(
        **{
            "from": {"type": "string", "pattern": "^[A-Z]{3}$"},
            "to": {"type": "string", "minLength": 3, "maxLength": 3},
            "date": {"type": "string", "format": "date"},
            "passengers": {
                "type": "array",
                "minItems": 1,
                "maxItems": 3,
                "items": record(name={"type": "string"}, age={"type": "integer", "minimum": 0, "maximum": 120}),
            },
            "class": {"enum": ["economy", "business", None]},
        },
        required=["from", "to", "date", "passengers"],
    ),
    "payment": record(
        amount={"type": "number", "minimum": 0.01, "maximum": 9999.99},
        currency={"type": "string", "enum": ["EUR", "USD", "GBP"]},
        to={"anyOf": [record(iban={"type": "string"}), record(email={"type": "string", "format": "email"})]},
        tags={"type": "array", "items": {"type": "string", "maxLength": 10}},
        required=["amount", "currency", "to"],
    ),
    "filter": {
        **record(
            where={"$ref": "#/$defs/condition"},
            limit={"type": ["integer", "null"], "minimum": 1},
            flags={"type": "object", "additionalProperties": {"type": "boolean"}},
            anything={},
            required=["where"],
        ),
        "$defs": {
            "condition": record(field={"type": "string"}, op={"enum": ["=", "<", ">"]}, value={"type": "number"}),
        },
    },
    "point": record(
        at={"type": "array", "prefixItems": [{"type": "number"}, {"type": "number"}], "minItems": 2, "maxItems": 2}
    ),
}


@pytest.mark.parametrize("fmt", formats.NAMES)
@pytest.mark.parametrize("name", REAL_WORLD)
def test_whatever_the_logits_say_every_answer_is_finished_and_valid(fmt: str, name: str) -> None:
    tools = load_tools([{"name": name, "parameters": schema} for name, schema in REAL_WORLD.items()])
    for seed, max_new_tokens in enumerate((150, 170, 200, 300)):
        engine = ScriptedEngine.noise(TOKENIZER, seed=seed, scale=5.0, n_ctx=10_000)
        options = {"tool_choice": ("named", name), "max_new_tokens": max_new_tokens}
        answer = session(engine, tools, fmt, rounds=1, **options).complete("Do it.")
        for each in answer.rounds:
            assert each.calls
            assert len(each.steps) <= max_new_tokens
            for call in each.calls:
                assert call.name == name
                jsonschema.validate(json.loads(json.dumps(call.arguments)), REAL_WORLD[name])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sampling": {"temperature": 0.5}}, "sampling is a Sampling, not dict"),
        ({"limits": {"max_calls": 2}}, "limits is a Limits, not dict"),
        ({"prompt_cache": 5}, "prompt_cache is a path, not int"),
    ],
)
def test_options_of_another_type_are_refused_at_once(options, words: str) -> None:
    with pytest.raises(InputError, match=words):
        replying(REPLY % 10, **options)


@pytest.mark.parametrize("options", [{"max_calls": 0}, {"max_string": -1}, {"max_items": "5"}, {"max_decimals": True}])
def test_limits_that_are_none_are_refused(options) -> None:
    with pytest.raises(InputError, match="whole number"):
        Limits(**options)


def test_on_step_stands_alone_or_in_a_watch() -> None:
    with pytest.raises(InputError, match="on_step stands beside watch"):
        replying(REPLY % 10).complete(REQUEST, on_step=lambda *_: None, watch=Watch())


@pytest.mark.parametrize("arguments", [{"n": float("nan")}, {"n": {1, 2}}])
def test_past_calls_hold_json_or_are_refused_with_their_place(arguments) -> None:
    past = [
        Message("user", "hi"),
        Message("assistant", calls=(ToolCall("set_timer", arguments),)),
        Message("tool", "x"),
    ]
    with pytest.raises(InputError, match=r"messages\[1\]\.calls\[0\]\.arguments: not JSON"):
        replying(REPLY % 10).complete(past)


@pytest.mark.parametrize("fmt", ["compact", "toolace", "hermes"])
def test_what_was_said_before_calls_is_in_the_prompt(fmt: str) -> None:
    call = ToolCall("set_timer", {"minutes": 3})
    said = [Message("user", "hi"), Message("assistant", "Your city is Oslo.", (call,)), Message("tool", "done")]
    rendered = formats.get(fmt).render([TIMER], said)
    text = "".join(piece.text for piece in rendered.rest)
    assert text.index("Your city is Oslo.") < text.index("set_timer", text.index("Oslo")) < text.index("done")
