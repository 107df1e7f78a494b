from __future__ import annotations

import itertools
import json
import math
import random
import re

import jsonschema
import numpy as np
import pytest

from tests.tiny import tiny_tokenizer_json
from toolace_edge.decode import Decoded, GivenUp, decode, finish, read_again
from toolace_edge.engines.scripted import ScriptedEngine
from toolace_edge.errors import BudgetError, Cancelled, EngineError, InputError
from toolace_edge.formats.base import Limits
from toolace_edge.formats.compact import Compact
from toolace_edge.grammar import compile_grammar
from toolace_edge.messages import Tool
from toolace_edge.sampling import Chooser, Mask, Sampling

TOKENIZER = tiny_tokenizer_json()
WEATHER = Tool(
    "get_weather",
    "Get the weather of a city.",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "unit": {"enum": ["celsius", "fahrenheit"]},
            "days": {"type": "integer", "minimum": 1, "maximum": 14},
        },
        "required": ["city"],
    },
)
HUGE = Tool(
    "huge",
    "Needs very much.",
    {
        "type": "object",
        "properties": {f"argument_{i}": {"type": "string", "minLength": 9} for i in range(12)},
        "required": [f"argument_{i}" for i in range(12)],
    },
)
PING = Tool("ping", "Takes nothing.", {"type": "object", "properties": {}, "required": []})
REPLY = '<|call|>{"name":"get_weather","arguments":{"city":"New York City","unit":"celsius"}}<|end|>'
REQUEST = "Tell me the weather in New York City in celsius, please."


def matcher(engine, *tools, choice="auto", **limits):
    return compile_grammar(tools or (WEATHER, PING), Compact(), choice, Limits(**limits), engine.tokenizer)


def replying(reply: str = REPLY, **options) -> ScriptedEngine:
    return ScriptedEngine.replies(TOKENIZER, [reply], **options)


def noise(seed: int, **options) -> ScriptedEngine:
    return ScriptedEngine.noise(TOKENIZER, seed=seed, **options)


def prompt_of(engine, request: str = REQUEST) -> list[int]:
    return engine.encode(f"<|begin|><|user|>{request}", special=True)


def text(decoded: Decoded) -> str:
    return decoded.text.decode()


def assert_valid(answer: str, *tools: Tool) -> None:
    """Finished, and every call obeys its schema, as jsonschema sees it."""
    assert answer.endswith("<|end|>")
    body = answer.removesuffix("<|end|>")
    if body.startswith("<|text|>"):
        return
    schemas = {tool.name: tool.parameters for tool in tools}
    for part in body.removeprefix("<|call|>").split("<|call|>{"):
        call = json.loads("{" + part.removeprefix("{"))
        jsonschema.validate(call["arguments"], schemas[call["name"]])


# One answer


def test_what_the_model_wants_comes_out() -> None:
    engine = replying()
    decoded = decode(engine, matcher(engine), prompt=prompt_of(engine))
    assert text(decoded) == REPLY
    assert engine.decode(decoded.tokens) == REPLY.encode()
    assert "".join(step.text for step in decoded.steps) == REPLY


def test_forced_tokens_cost_no_pass_and_the_counts_add_up() -> None:
    engine = replying()
    usage = decode(engine, matcher(engine), prompt=prompt_of(engine)).usage
    assert usage.call_tokens == usage.forced_tokens + usage.free_tokens
    assert usage.forced_tokens >= 9
    assert usage.forward_passes == len(engine.calls) <= usage.free_tokens
    assert usage.prompt_tokens == len(prompt_of(engine))


def test_names_keys_and_punctuation_are_forced() -> None:
    engine = replying()
    steps = decode(engine, matcher(engine, WEATHER, choice="required"), prompt=prompt_of(engine)).steps
    before_value = "".join(step.text for step in itertools.takewhile(lambda step: step.kind == "forced", steps))
    assert before_value == '<|call|>{"name":"get_weather","arguments":{"city":"'


def test_an_answer_without_a_choice_needs_no_pass_and_has_no_confidence() -> None:
    engine = noise(0)
    decoded = decode(engine, matcher(engine, PING, choice="required", max_calls=1), prompt=prompt_of(engine))
    assert text(decoded) == '<|call|>{"name":"ping","arguments":{}}<|end|>'
    assert engine.calls == []
    assert decoded.confidence is None


def test_the_matcher_that_was_given_is_left_as_it_is() -> None:
    engine = replying()
    grammar = matcher(engine)
    answers = {text(decode(engine, grammar, prompt=prompt_of(engine))) for _ in range(2)}
    assert answers == {REPLY}


def test_steps_are_seen_as_they_are_decided() -> None:
    engine, seen = replying(), []
    decoded = decode(engine, matcher(engine), prompt=prompt_of(engine), on_step=seen.append)
    assert tuple(seen) == decoded.steps


def test_what_the_cache_holds_of_a_prompt_is_not_read_again() -> None:
    engine = replying()
    prompt = prompt_of(engine)
    first = decode(engine, matcher(engine), prompt=prompt)
    again = decode(engine, matcher(engine), prompt=prompt)
    assert (first.usage.cached_tokens, again.usage.cached_tokens) == (0, len(prompt) - 2)
    assert again.tokens == first.tokens
    other = decode(engine, matcher(engine), prompt=prompt_of(engine, "Tell me a joke"))
    assert other.usage.cached_tokens == len(engine.encode("Tell me")) + 2


def test_confidence_is_made_of_free_choices_among_allowed_tokens() -> None:
    engine = ScriptedEngine(TOKENIZER, lambda tokens: np.zeros(420, np.float32))
    decoded = decode(engine, matcher(engine, PING, choice="auto", max_calls=1, max_text=0), prompt=prompt_of(engine))
    assert decoded.confidence is not None
    assert decoded.confidence.choices == 1
    assert np.exp(decoded.confidence.log_product) == pytest.approx(0.5)  # a call or text
    assert decoded.confidence.log_minimum == decoded.confidence.log_product
    assert [step.probability for step in decoded.steps if step.kind == "free"] == [pytest.approx(0.5)]


def test_a_model_that_gives_nan_is_an_error() -> None:
    engine = ScriptedEngine(TOKENIZER, lambda tokens: np.full(420, np.nan, np.float32))
    with pytest.raises(EngineError, match="nan"):
        decode(engine, matcher(engine), prompt=prompt_of(engine))


def test_a_cancel_leaves_a_cache_that_serves_the_next_request() -> None:
    engine = replying()
    engine.cancelled = lambda: len(engine.calls) >= 3
    with pytest.raises(Cancelled):
        decode(engine, matcher(engine), prompt=prompt_of(engine))
    engine.cancelled = None
    assert text(decode(engine, matcher(engine), prompt=prompt_of(engine))) == REPLY


# Drafts


def test_the_last_answer_as_draft_is_verified_in_one_pass() -> None:
    engine = replying()
    prompt = prompt_of(engine)
    first = decode(engine, matcher(engine), prompt=prompt)
    again = decode(engine, matcher(engine), prompt=prompt, draft=first.tokens)
    assert again.tokens == first.tokens
    assert again.usage.forward_passes == 1
    assert again.usage.accepted_tokens == again.usage.drafted_tokens == len(first.tokens) - 1


def test_a_draft_that_is_wrong_in_one_place_is_found_again_behind_it() -> None:
    engine = replying()
    prompt = prompt_of(engine)
    right = decode(engine, matcher(engine), prompt=prompt)
    wrong = engine.encode(REPLY.replace("York", "Delhi"), special=True)
    again = decode(engine, matcher(engine), prompt=prompt, draft=wrong)
    assert again.tokens == right.tokens
    assert again.usage.forward_passes < right.usage.forward_passes / 2


def test_a_value_is_copied_from_the_request_in_few_passes() -> None:
    engine = replying()
    plain = decode(engine, matcher(engine), prompt=prompt_of(engine))
    engine.rewind(0)
    copied = decode(engine, matcher(engine), prompt=prompt_of(engine), copy_from=engine.encode(REQUEST))
    assert copied.tokens == plain.tokens
    assert copied.usage.forward_passes <= plain.usage.forward_passes - 5


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.8, seed=3), Sampling(1.5, 0.9, 20, 0.01, 4)])
@pytest.mark.parametrize("seed", range(4))
def test_drafts_change_nothing_of_what_is_chosen(seed: int, sampling: Sampling) -> None:
    engine = noise(seed, scale=2.0)
    grammar, prompt = matcher(engine, WEATHER, HUGE, choice="required", max_string=12, max_calls=2), prompt_of(engine)
    plain = decode(engine, grammar, prompt=prompt, sampling=sampling, max_new_tokens=200)
    rng = random.Random(seed)
    for wrong in (0.0, 0.1, 0.5):
        draft = [rng.randrange(420) if rng.random() < wrong else token for token in plain.tokens]
        copy_from = list(plain.tokens) * 2
        rng.shuffle(copy_from)
        drafted = decode(
            engine, grammar, prompt=prompt, draft=draft, copy_from=copy_from, sampling=sampling, max_new_tokens=200
        )
        assert drafted.tokens == plain.tokens
        assert [step.probability for step in drafted.steps] == pytest.approx([step.probability for step in plain.steps])
        assert drafted.usage.forced_tokens == plain.usage.forced_tokens


def test_a_whole_draft_of_nonsense_does_no_harm() -> None:
    engine = replying()
    for draft in ([5, 4, 3], [419] * 300, engine.encode("<|text|>hello<|end|>", special=True)):
        engine.rewind(0)
        assert text(decode(engine, matcher(engine), prompt=prompt_of(engine), draft=draft)) == REPLY


# Masks


def test_masks_are_those_of_brute_force_over_every_answer() -> None:
    engine = noise(0)
    tool = Tool(
        "set",
        "",
        {
            "type": "object",
            "properties": {"on": {"type": "boolean"}, "at": {"enum": ["now", "noon", "no"]}},
            "required": ["on"],
        },
    )
    values = [
        f'{{"on":{on}{at}}}' for on in ("true", "false") for at in ("", ',"at":"now"', ',"at":"noon"', ',"at":"no"')
    ]
    calls = [f'<|call|>{{"name":"set","arguments":{value}}}' for value in values]
    language = [f"{one}{two}<|end|>".encode() for one in calls for two in ("", *calls)] + [b"<|text|><|end|>"]
    names = {token: engine.decode([token]) for token in range(420)}
    mask = Mask(420)
    for seed in range(15):
        rng, state, written = random.Random(seed), matcher(engine, tool, max_calls=2, max_text=0), b""
        while not state.is_stopped():
            rest = [answer[len(written) :] for answer in language if answer.startswith(written)]
            expected = [t for t, name in names.items() if name and any(tail.startswith(name) for tail in rest)]
            expected = [t for t in expected if t < 16 or not names[t].startswith(b"<")]  # "<" of a control token
            allowed = mask.allowed(state).tolist()
            assert allowed == expected or (state.compute_ff_tokens() and set(allowed) <= set(expected))
            token = rng.choice(allowed)
            assert state.consume_token(token)
            written += names[token]
        assert written in language


# Budgets


def test_every_budget_gives_a_finished_valid_answer_or_says_what_it_needs() -> None:
    tools = (WEATHER, HUGE, PING)
    finished, refused = 0, []
    for choice, budget in itertools.product(("auto", "required"), (1, 2, 5, 9, 13, 20, 30, 45, 70, 120)):
        for seed in range(2):
            engine = noise(seed, scale=4.0)
            grammar = matcher(engine, *tools, choice=choice, max_string=30)
            try:
                decoded = decode(engine, grammar, prompt=prompt_of(engine), max_new_tokens=budget)
            except BudgetError as error:
                needed, allowed = re.findall(r"\d+", str(error))
                refused.append(int(needed) > int(allowed) == budget)
                continue
            assert len(decoded.tokens) <= budget
            assert_valid(text(decoded), *tools)
            finished += 1
    assert finished >= 2 * 15
    assert all(refused)


def test_a_cheap_tool_is_called_where_the_wanted_one_does_not_fit() -> None:
    engine = replying('<|call|>{"name":"huge","arguments":{"argument_0":"')
    grammar = matcher(engine, HUGE, PING, choice="required", max_calls=1)
    decoded = decode(engine, grammar, prompt=prompt_of(engine), max_new_tokens=25)
    assert text(decoded) == '<|call|>{"name":"ping","arguments":{}}<|end|>'
    assert "closing" in {step.kind for step in decoded.steps}


def test_a_string_that_would_go_on_for_ever_is_closed_in_time() -> None:
    engine = replying('<|call|>{"name":"get_weather","arguments":{"city":"' + "go on " * 200)
    for budget in range(20, 50, 3):
        engine.rewind(0)
        decoded = decode(engine, matcher(engine), prompt=prompt_of(engine), max_new_tokens=budget)
        assert_valid(text(decoded), WEATHER)
        assert budget - 2 <= len(decoded.tokens) <= budget
        assert [step.kind for step in decoded.steps][-2:] == ["closing", "closing"]


def test_a_budget_is_shrunk_to_the_context_and_still_closes() -> None:
    engine = noise(1, n_ctx=60)
    prompt = prompt_of(engine)
    tools = (WEATHER, PING)
    decoded = decode(engine, matcher(engine, *tools, choice="required"), prompt=prompt, max_new_tokens=512)
    assert len(prompt) + len(decoded.tokens) <= 60
    assert_valid(text(decoded), *tools)


def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers() -> None:
    engine = noise(1, n_ctx=30)
    with pytest.raises(BudgetError, match=r"400 tokens.* 30 "):
        decode(engine, matcher(engine), prompt=[20] * 400)
    with pytest.raises(BudgetError, match=r"29 tokens.*about \d+.* 30 "):
        decode(engine, matcher(engine), prompt=[20] * 29)
    assert engine.calls == []


# Sampling


@pytest.mark.parametrize(
    "options",
    [{"temperature": -1}, {"temperature": float("nan")}, {"top_p": 0}, {"top_p": 2}, {"top_k": -1}, {"min_p": 1.5},
     {"seed": 1.5}, {"top_k": True}],
)  # fmt: skip
def test_sampling_refuses_what_makes_no_sense(options) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        Sampling(**options)


def frequencies(sampling: Sampling, logits: list[float], draws: int = 3000) -> np.ndarray:
    chooser, row = Chooser(sampling), np.asarray(logits, np.float32)
    allowed = np.arange(len(logits))
    tokens = [chooser.choose(row, allowed) for _ in range(draws)]
    return np.bincount(tokens, minlength=len(logits)) / draws


def test_sampling_follows_the_filtered_distribution() -> None:
    probabilities = np.asarray([0.5, 0.3, 0.15, 0.05])
    logits = np.log(probabilities).tolist()
    close = {"abs": 0.04}
    assert frequencies(Sampling(1.0), logits) == pytest.approx(probabilities, **close)
    assert frequencies(Sampling(1.0, top_k=2), logits) == pytest.approx([0.625, 0.375, 0, 0], **close)
    assert frequencies(Sampling(1.0, top_p=0.9), logits) == pytest.approx(
        [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0], **close
    )
    assert frequencies(Sampling(1.0, min_p=0.4), logits) == pytest.approx([0.625, 0.375, 0, 0], **close)
    squared = probabilities**2 / (probabilities**2).sum()
    assert frequencies(Sampling(0.5), logits) == pytest.approx(squared, **close)
    assert frequencies(Sampling(1.0, top_k=1), logits)[0] == 1.0
    assert frequencies(Sampling(0.0), logits)[0] == 1.0


def test_a_nucleus_wider_than_the_first_sort_is_exact() -> None:
    wide = np.zeros(5000)
    drawn = frequencies(Sampling(1.0, top_p=0.5), wide.tolist(), draws=200)
    assert np.count_nonzero(drawn) > 150
    assert drawn[np.argsort(-wide, kind="stable")].sum() == pytest.approx(1.0)


# Openings, and answers written again


def chance(engine, grammar, prompt, answer) -> float:
    """The log probability of the answer's bytes, choice by choice, from one row of logits at a time."""
    state, total, done = grammar.deep_copy(), 0.0, 0
    while done < len(answer):
        forced = state.compute_ff_tokens()
        if forced:
            assert list(answer[done : done + len(forced)]) == forced
            state.consume_tokens(forced)
            done += len(forced)
            continue
        allowed = Mask(engine.vocab_size).allowed(state)
        engine.rewind(0)
        scores = engine.forward([*prompt, *answer[:done]], 1)[0][allowed].astype(float)
        weights = np.exp(scores - scores.max())
        odds = dict(zip(allowed.tolist(), weights / weights.sum(), strict=True))
        text = state.compute_ff_bytes()
        same = [token for token in odds if text and text.startswith(engine.decode([token]))]
        total += np.log(sum(odds[token] for token in (same if answer[done] in same else [answer[done]])))
        state.consume_token(answer[done])
        done += 1
    return total


@pytest.mark.parametrize("seed", range(6))
def test_confidence_is_the_probability_of_the_answer_and_the_same_when_it_is_read_again(seed: int) -> None:
    engine = noise(seed, scale=2.0)
    grammar, prompt = matcher(engine, choice="required", max_string=12, max_calls=2), prompt_of(engine)
    first = decode(engine, grammar, prompt=prompt, max_new_tokens=200)
    assert first.confidence.log_product == pytest.approx(chance(engine, grammar, prompt, first.tokens), abs=1e-3)
    same = read_again(engine, grammar, prompt=prompt, answer=first.tokens)
    assert same.confidence == pytest.approx(first.confidence)
    assert (same.tokens, same.usage.forward_passes, same.openings) == (first.tokens, 1, ())
    other = prompt_of(engine, "Something else.")
    read = read_again(engine, grammar, prompt=other, answer=first.tokens)
    assert read.text == first.text
    assert read.confidence.log_product == pytest.approx(chance(engine, grammar, other, first.tokens), abs=1e-3)


@pytest.mark.parametrize("seed", range(6))
def test_an_opening_leaves_the_answer_at_a_close_choice_and_becomes_another_valid_one(seed: int) -> None:
    engine = noise(seed, scale=1.0)
    grammar, prompt = matcher(engine, choice="required", max_string=12, max_calls=2), prompt_of(engine)
    first = decode(engine, grammar, prompt=prompt, max_new_tokens=200)
    assert first.openings
    for opening in first.openings[:8]:
        begun = [step.token for step in opening.steps]
        assert begun[:-1] == list(first.tokens[: len(begun) - 1])
        assert begun[-1] != first.tokens[len(begun) - 1]
        other = finish(engine, grammar, prompt=prompt, opening=opening, least=-math.inf, max_new_tokens=200)
        assert list(other.tokens[: len(begun)]) == begun
        assert other.tokens == tuple(step.token for step in other.steps)
        assert_valid(text(other), WEATHER, PING)
        assert other.tokens != first.tokens
        assert other.confidence.log_product == pytest.approx(chance(engine, grammar, prompt, other.tokens), abs=1e-3)
        assert other.confidence.log_product <= opening.confidence.log_product
        least = other.confidence.log_product
        again = finish(engine, grammar, prompt=prompt, opening=opening, least=least, max_new_tokens=200)
        assert isinstance(again, GivenUp)
        engine.rewind(0)
        least = np.nextafter(least, -math.inf)
        assert (
            finish(engine, grammar, prompt=prompt, opening=opening, least=least, max_new_tokens=200).text == other.text
        )


def test_an_answer_may_open_with_its_end() -> None:
    """Where one more call was nearly written, the opening is a whole answer."""
    engine = noise(3, scale=0.5)
    grammar, prompt = matcher(engine, PING, choice="required", max_calls=2), prompt_of(engine)
    first = decode(engine, grammar, prompt=prompt)
    whole = [one for one in first.openings if one.steps[-1].text == "<|end|>"] or first.openings
    other = finish(engine, grammar, prompt=prompt, opening=whole[-1], least=-math.inf)
    assert {text(first).count("<|call|>"), text(other).count("<|call|>")} == {1, 2}


def test_what_is_drawn_at_random_or_sure_has_no_openings() -> None:
    engine = noise(1, scale=1.0)
    grammar, prompt = matcher(engine, choice="required", max_string=12), prompt_of(engine)
    drawn = decode(engine, grammar, prompt=prompt, sampling=Sampling(temperature=1.0), max_new_tokens=100)
    engine = replying()
    assert drawn.openings == decode(engine, matcher(engine), prompt=prompt).openings == ()


def test_an_answer_is_not_read_again_where_it_does_not_fit() -> None:
    engine = replying(n_ctx=120)
    prompt = prompt_of(engine)
    answer = decode(engine, matcher(engine), prompt=prompt).tokens
    for room in (1, len(answer) // 2, len(answer) - 1, len(answer) + 8):
        longer = [*prompt, *[20] * (engine.n_ctx - room - len(prompt))]
        try:
            read = read_again(engine, matcher(engine), prompt=longer, answer=answer)
        except BudgetError:
            read = None
        assert (read is not None) == (room > len(answer))


def test_a_cut_that_says_more_than_the_grammar_forces_is_a_choice() -> None:
    """After `"arguments":` comes `{` in any case; whether it is cut as `{` or as `{"` decides if there are any."""
    tool = Tool("set", "", {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": []})
    engine = noise(0)
    tokens = engine.encode("{"), engine.encode('{"')
    if tokens[1][:1] == tokens[0]:
        pytest.skip("the tiny vocabulary cuts both alike")
    grammar, prompt = matcher(engine, tool, choice="required", max_calls=1), prompt_of(engine)
    decoded = decode(engine, grammar, prompt=prompt)
    assert decoded.confidence.log_product == pytest.approx(chance(engine, grammar, prompt, decoded.tokens), abs=1e-3)
