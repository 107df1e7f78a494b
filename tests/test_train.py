"""Training against oracles: transformers for the network, the runtime's prompt for rows, jsonschema for made data."""

from __future__ import annotations

import gzip
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
jsonschema = pytest.importorskip("jsonschema")

from tokenizers import Tokenizer  # noqa: E402

from toolace_edge.errors import EngineError, InputError  # noqa: E402
from toolace_edge.formats.compact import SPECIAL_TOKENS, Compact  # noqa: E402
from toolace_edge.messages import Message, Tool, ToolCall  # noqa: E402
from toolace_edge.prompts import encode_pieces  # noqa: E402
from toolace_edge.train.augment import corrupt, restyle  # noqa: E402
from toolace_edge.train.bank import Bank  # noqa: E402
from toolace_edge.train.bank_format import read_families  # noqa: E402
from toolace_edge.train.batches import PLANS, Sources, batches, collate  # noqa: E402
from toolace_edge.train.batches import make_packer as rows_of  # noqa: E402
from toolace_edge.train.examples import Example, read_examples  # noqa: E402
from toolace_edge.train.grounding import is_grounded  # noqa: E402
from toolace_edge.train.mean import write_mean  # noqa: E402
from toolace_edge.train.model import (  # noqa: E402
    Block,
    Llama,
    ModelConfig,
    from_hugging_face,
    in_blocks,
    load_checkpoint,
    read_config,
    save_checkpoint,
    to_hugging_face,
)
from toolace_edge.train.nano import chosen_positions, look_mask, weighted_loss  # noqa: E402
from toolace_edge.train.optim import Optimizer, orthogonal, q4_0, warmup_stable_decay  # noqa: E402
from toolace_edge.train.own_tools import OwnTools  # noqa: E402
from toolace_edge.train.packs import Mix, Packer  # noqa: E402
from toolace_edge.train.rendering import DECISION_WEIGHT, FORCED_WEIGHT, Renderer  # noqa: E402
from toolace_edge.train.synth import Synthesizer  # noqa: E402
from toolace_edge.train.synth_values import ValueMaker  # noqa: E402
from toolace_edge.train.tokenizer import train_tokenizer  # noqa: E402

CORPUS = [
    "Set a timer for 10 minutes, please. What's the weather in New York today?",
    'get_current_weather getWeather {"name":"get_weather","arguments":{"city":"New York","days":12}}',
    "naïve café, Größe, 東京, emoji 🙂 and  double  spaces\nnew lines\ttabs",
] * 40
SMALL = ModelConfig(vocab_size=600, width=64, n_layers=3, n_heads=2, n_kv_heads=1, head_dim=32, ffn=96)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(CORPUS, 600)


@pytest.fixture(scope="module")
def renderer(tokenizer: Tokenizer) -> Renderer:
    return Renderer(tokenizer)


def weather(required: tuple[str, ...] = ("city",)) -> Tool:
    properties = {"city": {"type": "string"}, "days": {"type": "integer"}}
    return Tool(
        "get_weather", "Get the weather.", {"type": "object", "properties": properties, "required": list(required)}
    )


BANK = """
## doors
tool open_door: Open a door.
- door: string = front | back | garage ; Which door.
? open the {door} door
& Open the {door1} and the {door2} door.
! Who invented the door?
tool ring_bell: Ring a bell.
- times: integer = 1..5 ; How often.
? ring {times} times
+ Open the {open_door.door} door, then ring {ring_bell.times} times.
"""


def make_packer(renderer: Renderer, seed: int = 7) -> Packer:
    rng = random.Random(seed)
    synth = Synthesizer(rng, ["river", "lamp post", "contract"], ["blue suede shoes", "fix the roof"], ["Oslo", "tea"])
    call = ToolCall("get_weather", {"city": "New York"})
    found = Example("found", (weather(),), (Message("user", "weather in New York"),), (call,))
    bank = Bank(read_families(BANK.splitlines(), "a bank"), synth.values)
    return Packer(renderer, {"found": [found]}, {"found": 1.0}, synth, rng, bank)


# --- tokenizer -----------------------------------------------------------------------------------------------------


def test_a_word_is_the_same_tokens_wherever_it_stands(tokenizer: Tokenizer) -> None:
    def tokens(text: str) -> list[str]:
        return list(tokenizer.encode(text, add_special_tokens=False).tokens)

    word = tokens("weather")
    for text in (" weather", '"weather"', "get_weather", "(weather)", "weather:"):
        found = tokens(text)
        assert any(found[i : i + len(word)] == word for i in range(len(found))), (text, found)
    assert tokens("getWeather")[-len(tokens("Weather")) :] == tokens("Weather")


def test_digits_stand_alone_and_text_survives(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("12345", add_special_tokens=False).tokens == list("12345")
    for text in CORPUS[:3]:
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids) == text


def test_special_tokens_have_the_first_ids(tokenizer: Tokenizer) -> None:
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(16))


# --- rendering -----------------------------------------------------------------------------------------------------


def test_a_row_is_written_as_the_runtime_writes_the_prompt(tokenizer: Tokenizer, renderer: Renderer) -> None:
    class Encoder:
        def encode(self, text: str, special: bool = False) -> list[int]:
            return list(tokenizer.encode(text, add_special_tokens=False).ids)

    tools = (weather(), Tool("stop", "", {"type": "object", "properties": {}, "required": []}))
    calls = (ToolCall("get_weather", {"city": 'New "York"', "days": 3}), ToolCall("stop", {}))
    messages = (
        Message("system", "Today is Monday."),
        Message("user", "weather?"),
        Message("assistant", calls=calls),
        Message("tool", "sunny"),
        Message("user", "again"),
    )
    rendered = Compact().render(tools, messages)
    expected = encode_pieces(Encoder(), rendered.prefix) + encode_pieces(Encoder(), rendered.rest)
    assert renderer.tools(tools).ids + renderer.messages(messages, tools).ids == expected
    assert renderer.answer(calls, tools).ids == encode_pieces(Encoder(), Compact().render_answer(calls, ""))
    assert renderer.answer((), tools).ids == encode_pieces(Encoder(), Compact().render_answer((), ""))


def test_what_the_grammar_forces_counts_little(renderer: Renderer) -> None:
    call = ToolCall("get_weather", {"city": "New York"})
    alone = renderer.answer([call], [weather()])
    by_text = list(zip(renderer.tokenizer.decode_batch([[i] for i in alone.ids]), alone.weights, strict=True))
    assert dict(by_text)["name"] == FORCED_WEIGHT
    assert dict(by_text)["New"] == 1.0
    assert alone.weights[-1] == 1.0  # to end is a choice
    one_of_two = renderer.answer([call], [weather(), Tool("other")])
    assert sum(one_of_two.weights) > sum(alone.weights)  # the name is a choice now


def test_decisions_count_most_and_a_name_ends_where_it_is_clear(renderer: Renderer) -> None:
    tools = [weather(), Tool("get_time"), Tool("stop")]
    called = renderer.answer([ToolCall("get_weather", {"city": "New York"})], tools)
    refused = renderer.answer([], tools)
    assert called.weights[0] == refused.weights[0] == DECISION_WEIGHT  # to call or not
    texts = renderer.tokenizer.decode_batch([[i] for i in called.ids])
    start = "".join(texts).index("get_weather")
    at, weights = 0, {}
    for text, weight in zip(texts, called.weights, strict=True):
        weights.update(dict.fromkeys(range(at, at + len(text)), weight))
        at += len(text)
    assert weights[start] == weights[start + len("get_w") - 1] == DECISION_WEIGHT  # get_t or get_w
    assert weights[start + len("get_weather")] == FORCED_WEIGHT


# --- rows ----------------------------------------------------------------------------------------------------------


def test_rows_are_a_function_of_the_seed(renderer: Renderer) -> None:
    first, second, other = (make_packer(renderer, seed).row(Mix(length=256)) for seed in (3, 3, 4))
    assert (first.ids == second.ids).all()
    assert not (first.ids == other.ids).all()


def test_a_branch_predicts_what_it_would_predict_alone(renderer: Renderer) -> None:
    torch.manual_seed(0)
    model = Llama(SMALL)
    for block in model.blocks:  # a fresh model's blocks are the identity: give them something to do
        torch.nn.init.normal_(block.out.weight, std=0.1)
        torch.nn.init.normal_(block.down.weight, std=0.1)
    row = make_packer(renderer).row(Mix(length=1280, distractors=1, no_call=0.5))
    batch = {name: torch.from_numpy(array) for name, array in collate([row]).items()}
    together = model.hidden(batch["ids"], batch["positions"], look_mask(batch["tree"], batch["branch"]))[0]
    tree, branch = batch["tree"][0], batch["branch"][0]
    assert int(tree.max()) >= 1
    assert int(branch.max()) >= 2
    for number, part in {(int(t), int(b)) for t, b in zip(tree, branch, strict=True) if b > 0}:
        head, own = (tree == number) & (branch == 0), (tree == number) & (branch == part)
        ids = torch.cat([batch["ids"][0][head], batch["ids"][0][own]])[None]
        n = ids.shape[1]
        causal = torch.ones(n, n, dtype=torch.bool).tril()[None, None]
        alone = model.hidden(ids, torch.arange(n)[None], causal)[0]
        torch.testing.assert_close(together[own], alone[int(head.sum()) :], atol=1e-4, rtol=1e-4)


def test_only_answers_are_learned_and_each_ends(renderer: Renderer) -> None:
    packer, end = make_packer(renderer), renderer.special["<|end|>"]
    for _ in range(20):
        row = packer.row(Mix(length=256))
        assert row.weights[row.branch <= 0].max() == 0
        for number, part in {(t, b) for t, b in zip(row.tree, row.branch, strict=True) if b > 0}:
            at = ((row.tree == number) & (row.branch == part)).nonzero()[0]
            assert row.ids[at[-1]] == end
            assert row.targets[at[-2]] == end


def test_made_calls_obey_their_schemas_and_say_their_values() -> None:
    synth = Synthesizer(random.Random(5), ["river", "lamp"], ["blue suede shoes"], ["Oslo", "tea", "green"])
    for _ in range(300):
        example = synth.example()
        tools = {tool.name: tool for tool in example.tools}
        for call in example.calls:
            jsonschema.validate(dict(call.arguments), dict(tools[call.name].parameters))
            for value in call.arguments.values():
                if isinstance(value, str) and "-" not in value:
                    assert value.lower().replace("_", " ") in example.request.lower().replace("_", " ")
    made = synth.make_tool()
    lacking = synth.lacking(made)
    assert lacking is None or lacking.calls == ()


def test_a_near_tool_is_about_another_thing() -> None:
    synth = Synthesizer(random.Random(9), ["river"], ["blue suede shoes"], ["Oslo", "tea"])
    listed = {thing for _, things, _ in synth.actions for thing in things}
    for _ in range(200):
        made = synth.make_tool()
        near = synth.make_tool(made)
        if {made.thing, near.thing} <= listed:
            assert made.thing != near.thing
            assert any({made.thing, near.thing} <= set(things) for _, things, _ in synth.actions)


def test_requests_for_own_tools_obey_their_schemas_and_say_their_values() -> None:
    rng = random.Random(3)
    own = OwnTools(rng, ValueMaker(rng, ["blue suede shoes"], ["Oslo", "tea"]))
    for _ in range(300):
        example = own.asked(list(own.tools))
        for call in example.calls:
            jsonschema.validate(dict(call.arguments), dict(own.tools[call.name].parameters))
            for key, value in call.arguments.items():
                said = str(value)[:-1] if key == "unit" else str(value)  # one minute, ten minutes
                assert said.lower() in example.request.lower()
    assert {tool.name for tool in example.tools} == {call.name for call in example.calls}


def test_restyling_keeps_the_call_within_its_tool() -> None:
    rng = random.Random(2)
    call = ToolCall("get_weather", {"city": "Paris", "days": 2})
    for _ in range(100):
        (new,) = restyle([weather()], rng, keep_descriptions=0.5)
        again = new.call(call)
        jsonschema.validate(dict(again.arguments), dict(new.tool.parameters))
        assert again.name == new.tool.name
        assert list(again.arguments.values()) in (["Paris", 2], [2, "Paris"])


@pytest.mark.parametrize("names", [("userId", "user_id"), ("größe", "farbe"), ("user", "User"), ("a_b", "aB")])
def test_restyling_swaps_no_values_whatever_the_names_are(names: tuple[str, str]) -> None:
    rng = random.Random(3)
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in names}, "required": []}
    tools = [Tool("getIt", "", schema), Tool("get_it", "", schema)]
    for _ in range(100):
        new, other = restyle(tools, rng, keep_descriptions=0.5)
        assert new.tool.name != other.tool.name
        assert len(new.tool.parameters["properties"]) == 2
        arguments = new.call(ToolCall("getIt", dict.fromkeys(names, "") | {names[1]: "second"})).arguments
        assert arguments[new.names[names[1]]] == "second"
        assert list(arguments) == list(new.tool.parameters["properties"])
        assert "größe" not in names or set(arguments) == set(names)


def test_a_corrupted_draft_stays_within_the_tools() -> None:
    rng = random.Random(2)
    tools = (weather(), Tool("stop", "", {"type": "object", "properties": {}, "required": []}))
    gold = (ToolCall("get_weather", {"city": "Paris", "days": 2}),)
    drafts = [corrupt(gold, tools, "weather in Paris for 2 days, 3 people", rng) for _ in range(200)]
    assert () in drafts
    assert all(call.name in ("get_weather", "stop") for draft in drafts for call in draft)
    assert sum(draft != gold for draft in drafts) > 150


def test_a_value_that_nobody_said_is_not_grounded() -> None:
    def line(city: str, unit: str = "metric") -> Example:
        properties = {"city": {"type": "string"}, "unit": {"enum": ["metric", "imperial"]}}
        tool = Tool("get_weather", "", {"type": "object", "properties": properties, "required": []})
        call = ToolCall("get_weather", {"city": city, "unit": unit})
        return Example("x", (tool,), (Message("user", "Weather in new york?"),), (call,))

    assert is_grounded(line("New York"))
    assert not is_grounded(line("Oslo"))
    assert not is_grounded(line("New York", "kelvin"))


# --- the network ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_network_is_transformers_llama(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(1)
    model = Llama(SMALL)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=0.05, std=0.1)
    to_hugging_face(dict(model.state_dict()), SMALL, tmp_path)
    oracle = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = torch.randint(0, 600, (2, 50))
    mask = torch.ones(50, 50, dtype=torch.bool).tril()[None, None]
    with torch.no_grad():
        hidden = model.hidden(ids, torch.arange(50).expand(2, 50), mask)
        ours = torch.nn.functional.linear(hidden, model.embed.weight)
        theirs = oracle(ids).logits
    assert (ours - theirs).abs().max() < 1e-4


def test_what_enters_a_matrix_is_rounded_in_blocks_and_learned_through() -> None:
    torch.manual_seed(0)
    x = torch.randn(7, 64) * torch.tensor([1.0, 1000.0]).repeat_interleave(32)
    gguf = pytest.importorskip("gguf")
    q8_0 = gguf.GGMLQuantizationType.Q8_0
    theirs = torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(x.numpy(), q8_0), q8_0))
    assert ((in_blocks(x, 8) - theirs).abs() <= x.abs().view(7, 2, 32).amax(-1).repeat_interleave(32, 1) * 2e-3).all()
    for bits, steps in ((8, 127), (6, 31), (2, 1)):
        in_steps = in_blocks(x, bits).view(7, 2, 32) / x.view(7, 2, 32).abs().amax(-1, keepdim=True) * steps
        torch.testing.assert_close(in_steps, in_steps.round(), rtol=0, atol=1e-3)
        assert float(in_steps.abs().max()) == pytest.approx(steps)
    x.requires_grad_()
    in_blocks(x, 4).sum().backward()
    assert x.grad is not None
    assert (x.grad == 1).all()


def test_coarser_activations_cost_more() -> None:
    torch.manual_seed(1)
    model = Llama(SMALL)
    for block in model.blocks:
        assert isinstance(block, Block)
        torch.nn.init.normal_(block.out.weight, std=0.1)
        torch.nn.init.normal_(block.down.weight, std=0.1)
    ids, mask = torch.arange(12)[None], torch.ones(12, 12, dtype=torch.bool).tril()[None, None]
    with torch.no_grad():
        exact = model.hidden(ids, ids, mask)
        errors = []
        for bits in (8, 6, 4):
            model.bits = bits
            errors.append(float((model.hidden(ids, ids, mask) - exact).square().mean()))
    assert 0 < errors[0] < errors[1] < errors[2]


def test_orthogonal_gives_singular_values_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((32, 32), (64, 16), (16, 64)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
        assert float(values.min()) > 0.5
        assert float(values.max()) < 1.4


def test_the_schedule_rises_stays_and_falls() -> None:
    assert warmup_stable_decay(0.0) < warmup_stable_decay(0.005) < warmup_stable_decay(0.3) == 1.0
    assert warmup_stable_decay(0.99) < 0.1


def _steps(model: Llama, optimizer: Optimizer, renderer: Renderer, steps: range) -> list[float]:
    losses, generator, packer = [], torch.Generator(), make_packer(renderer)
    for step in steps:
        packer.rng.seed(step)
        batch = {
            name: torch.from_numpy(a) for name, a in collate([packer.row(Mix(length=192)) for _ in range(4)]).items()
        }
        generator.manual_seed(step)
        at = chosen_positions(batch["weights"], generator)
        loss = weighted_loss(
            model, batch["ids"], batch["positions"], look_mask(batch["tree"], batch["branch"]), at,
            batch["targets"].reshape(-1)[at], batch["weights"].reshape(-1)[at],
        )  # fmt: skip
        loss.backward()
        optimizer.step(1.0)
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.slow
def test_training_lowers_the_loss_and_resumes_where_it_was(tmp_path: Path, renderer: Renderer) -> None:
    torch.manual_seed(0)
    model = Llama(SMALL)
    optimizer = Optimizer(model)
    first = _steps(model, optimizer, renderer, range(12))
    assert first[-1] < first[0] - 1.0
    state = optimizer.state()
    tensors = {f"{group}/{k}": v for group in ("masters", "first", "second") for k, v in state[group].items()}
    save_checkpoint(tmp_path / "c.safetensors", SMALL, tensors, {"step": 12})
    unbroken = _steps(model, optimizer, renderer, range(12, 15))

    config, loaded, facts = load_checkpoint(tmp_path / "c.safetensors")
    resumed = Llama(config)
    again = Optimizer(resumed)
    groups: dict[str, dict[str, torch.Tensor]] = {"masters": {}, "first": {}, "second": {}}
    for key, value in loaded.items():
        group, name = key.split("/", 1)
        groups[group][name] = value
    again.load({**groups, "steps": facts["step"]})
    assert _steps(resumed, again, renderer, range(12, 15)) == pytest.approx(unbroken, abs=1e-4)


# --- data files ----------------------------------------------------------------------------------------------------


def test_a_bad_line_is_named_by_its_number(tmp_path: Path) -> None:
    from toolace_edge.errors import DataError

    good = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": ""}], "tools": []}
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(good) + "\n" + '{"messages": []}\n', encoding="utf-8")
    with pytest.raises(DataError, match="line 2"):
        list(read_examples(path))


def test_arguments_are_put_into_the_schema_s_order(tmp_path: Path) -> None:
    record = {
        "messages": [
            {"role": "user", "content": "x"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"function": {"name": "f", "arguments": {"b": 1, "a": 2}}}],
            },
        ],
        "tools": [{"function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {}, "b": {}}}}}],
    }
    (tmp_path / "d.jsonl").write_text(json.dumps(record), encoding="utf-8")
    (example,) = read_examples(tmp_path / "d.jsonl")
    assert list(example.calls[0].arguments) == ["a", "b"]


def test_what_the_runtime_reads_is_read_and_what_it_refuses_has_a_number(tmp_path: Path) -> None:
    """A mark of the byte order, blank lines, gzip by its content, bare functions, tools without properties."""
    turns = [{"role": "user", "content": "stop"}, {"role": "assistant", "tool_calls": [{"name": "stop"}]}]
    texts = [json.dumps({"messages": turns, "tools": [{"name": "stop", **more}]})
             for more in ({}, {"parameters": {"type": "object"}})]  # fmt: skip
    (tmp_path / "d.jsonl").write_bytes(gzip.compress(("\ufeff" + "\n\n".join(texts)).encode()))
    examples = list(read_examples(tmp_path / "d.jsonl"))
    assert [example.source for example in examples] == ["all", "all"]
    assert all(example.tools[0].parameters["properties"] == {} for example in examples)
    endless = {"name": "stop", "parameters": {"properties": {"a": {"$ref": "#"}}}}
    (tmp_path / "d.jsonl").write_text(texts[0] + "\n" + json.dumps({"messages": turns, "tools": [endless]}))
    with pytest.raises(InputError, match=r"line 2: .*refers to itself"):
        list(read_examples(tmp_path / "d.jsonl"))


def _file_of(tmp_path: Path, source: str, count: int = 6) -> Path:
    """Lines of that source with ids 0, 1 ..., whose tool takes nothing."""
    turns = [{"role": "user", "content": "stop it"}, {"role": "assistant", "tool_calls": [{"name": "stop"}]}]
    lines = [{"id": str(i), "source": source, "messages": turns, "tools": [{"name": "stop"}]} for i in range(count)]
    file = tmp_path / "d.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return file


@pytest.mark.parametrize("source", ["user", "bank", "snips"])
def test_lines_of_any_source_are_learned(
    source: str, tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packer = rows_of(Sources(_file_of(tmp_path, source)), tokenizer)
    assert packer.found().source == source
    assert f"6 lines; to learn by source: {source} 6; left out: none" in capsys.readouterr().err
    packer.rng.seed(1)
    assert packer.row(Mix(length=256, bank=0, own=0, synth=0.2)).answers > 0


def test_where_no_line_is_left_the_reason_is_said(tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("7\n", encoding="utf-8")
    sources = Sources(_file_of(tmp_path, "user"), only=tmp_path / "ids.txt")
    with pytest.raises(InputError, match="no line to learn from: 6 not among the wanted ids"):
        rows_of(sources, tokenizer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(InputError, match="no line to learn from"):
        next(batches(sources, tmp_path / "tokenizer.json", 0, range(2), 2, PLANS["base"]))


def test_when_the_process_that_draws_rows_dies_the_training_does_too(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("none", encoding="utf-8")
    plan = PLANS["base"]
    stream = batches(Sources(tmp_path / "no.jsonl"), tmp_path / "tokenizer.json", 0, range(2), 2, plan)
    with pytest.raises(EngineError, match="exit code 1"):
        next(stream)


def _run_of(
    folder: Path, config: ModelConfig, seed: int, tokenizer: str = "{}", *, smoothed: bool = False
) -> dict[str, torch.Tensor]:
    """A run's folder with a random checkpoint; its masters."""
    torch.manual_seed(seed)
    masters = {name: p.detach().float() for name, p in Llama(config).named_parameters()}
    masters = {name: one + 0.1 * torch.randn_like(one) for name, one in masters.items()}
    (folder / "hf").mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / "hf" / name).write_text(tokenizer)
    save_checkpoint(folder / "checkpoint.safetensors", config, {f"masters/{k}": v for k, v in masters.items()},
                    {"smoothed": smoothed})  # fmt: skip
    return masters


def test_the_mean_of_runs_is_that_of_their_weights(tmp_path: Path) -> None:
    one, two, three = (_run_of(tmp_path / str(i), SMALL, i) for i in range(3))
    write_mean([tmp_path / str(i) for i in range(3)], tmp_path / "mean", on_grid=False)
    _, state = from_hugging_face(tmp_path / "mean")
    for name in one:
        assert torch.allclose(state[name], (one[name] + two[name] + three[name]) / 3, atol=1e-6)
    write_mean([tmp_path / "0", tmp_path / "1"], tmp_path / "grid", on_grid=True)
    _, state = from_hugging_face(tmp_path / "grid")
    embed = (one["embed.weight"] + two["embed.weight"]) / 2
    assert torch.equal(state["embed.weight"], q4_0(embed))
    assert not torch.equal(state["embed.weight"], embed)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0", "1", "2", "grid", "mean"]


def test_runs_of_another_shape_or_tokenizer_have_no_mean(tmp_path: Path) -> None:
    _run_of(tmp_path / "a", SMALL, 0)
    _run_of(tmp_path / "b", replace(SMALL, ffn=128), 0)
    _run_of(tmp_path / "c", SMALL, 0, tokenizer='{"other": 1}')
    _run_of(tmp_path / "d", SMALL, 0, smoothed=True)
    for other, reason in (("b", "another shape"), ("c", "another tokenizer"), ("d", "moved outliers")):
        with pytest.raises(InputError, match=reason):
            write_mean([tmp_path / "a", tmp_path / other], tmp_path / "mean", on_grid=False)
    assert not (tmp_path / "mean").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"head_dim": None}, "cannot be read"),
        ({"rms_norm_eps": ...}, "has no 'rms_norm_eps'"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        ({"model_type": "qwen2"}, "model_type is 'qwen2'"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "rope_scaling"),
    ],
)
def test_a_base_that_is_computed_otherwise_is_refused(change: dict[str, Any], says: str, tmp_path: Path) -> None:
    to_hugging_face(Llama(SMALL).state_dict(), SMALL, tmp_path)
    assert read_config(tmp_path) == SMALL
    facts = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in facts.items() if v is not ...}))
    with pytest.raises(InputError, match=says):
        read_config(tmp_path)
