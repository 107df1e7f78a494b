"""A published base becomes the folder that training starts from: nothing turns into something else on the way."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("llama_cpp")
gguf = pytest.importorskip("gguf")
transformers = pytest.importorskip("transformers")

from tokenizers import Tokenizer  # noqa: E402

from tests.checkpoints import write_checkpoint  # noqa: E402
from tests.tiny import tiny_tokenizer_json  # noqa: E402
from toolace_edge.convert.gguf import convert_gguf  # noqa: E402
from toolace_edge.errors import DataError, InputError, ModelError  # noqa: E402
from toolace_edge.formats.compact import SPECIAL_TOKENS  # noqa: E402
from toolace_edge.train import nano  # noqa: E402
from toolace_edge.train.base import make_base  # noqa: E402
from toolace_edge.train.base_gguf import read_base  # noqa: E402
from toolace_edge.train.cut_layers import Reader, cut, layers_to_keep  # noqa: E402
from toolace_edge.train.cut_vocabulary import cut_vocabulary, kept_merges, smollm_tokenizer  # noqa: E402
from toolace_edge.train.model import Llama, ModelConfig, from_hugging_face, to_hugging_face  # noqa: E402
from toolace_edge.train.nano import Run  # noqa: E402
from toolace_edge.train.optim import Optimizer, q4_0  # noqa: E402

SHAPE = ModelConfig(vocab_size=90, width=64, n_layers=5, n_heads=4, n_kv_heads=2, head_dim=16, ffn=96, n_ctx=64)


@pytest.fixture(scope="module")
def base_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SmolLM: GGUF out of a checkpoint that transformers reads."""
    folder = tmp_path_factory.mktemp("base")
    checkpoint = write_checkpoint(folder / "hf", tiny_tokenizer_json(pre="smollm"), num_hidden_layers=4)
    convert_gguf(checkpoint, folder / "base.gguf", kind="f32", name="base")
    return folder / "base.gguf"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    tool = {"name": "get_weather", "description": "Get the weather of a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}  # fmt: skip
    call = {"id": "0", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
    line = {"source": "x", "tools": [{"type": "function", "function": tool}],
            "messages": [{"role": "user", "content": "What is the weather in Paris, please?"},
                         {"role": "assistant", "content": "", "tool_calls": [call]}]}  # fmt: skip
    file = tmp_path / "train.jsonl"
    file.write_text((json.dumps(line) + "\n") * 5, "utf-8")
    return file


def test_a_gguf_comes_back_as_the_model_it_was_made_of(base_file: Path) -> None:
    base = read_base(base_file)
    oracle = transformers.AutoModelForCausalLM.from_pretrained(base_file.parent / "hf", dtype=torch.float32).eval()
    model = Llama(base.config)
    model.load_state_dict(base.state)
    ids = torch.randint(0, 400, (1, 40), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(40, 40, dtype=torch.bool).tril()[None, None]
    with torch.no_grad():
        ours = torch.nn.functional.linear(model.hidden(ids, torch.arange(40)[None], mask), model.embed.weight)
        theirs = oracle(ids).logits
    assert (ours - theirs).abs().max() < 1e-4
    vocab = json.loads((base_file.parent / "hf" / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    assert all(base.tokens[i] == token for token, i in vocab.items())


def test_what_is_no_base_is_refused(tmp_path: Path) -> None:
    for content in (b"GGUF" + bytes(100), b"GGUF", b""):
        (tmp_path / "x.gguf").write_bytes(content)
        with pytest.raises(ModelError, match=r"x\.gguf"):
            read_base(tmp_path / "x.gguf")
    checkpoint = write_checkpoint(tmp_path / "hf")
    convert_gguf(checkpoint, tmp_path / "llama.gguf", kind="f32", name="llama")
    with pytest.raises(ModelError, match="smollm"):
        read_base(tmp_path / "llama.gguf")


def test_the_folder_holds_a_checkpoint_and_its_tokenizer(base_file: Path, data: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.gz"
    more.write_bytes(gzip.compress(b"the quick brown fox\njumps over the lazy dog\n"))
    make_base(base_file, data, [more], tmp_path / "out", vocab_size=300, layers=2, ffn=64)
    config, state = from_hugging_face(tmp_path / "out")
    assert (config.vocab_size, config.n_layers, config.ffn) == (300, 2, 64)
    assert state["blocks.1.down.weight"].shape == (64, 64)
    tokenizer = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    for text in (
        '{"name":"get_weather","arguments":{"city":"Paris"}}',
        "naïve 東京 🙂\n\tx  12",
        "the weather in Paris",
    ):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text
    oracle = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert torch.equal(oracle.model.embed_tokens.weight, state["embed.weight"])


def test_a_base_that_cannot_be_made_leaves_no_folder_and_one_that_is_there_is_kept(
    base_file: Path, data: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text("{}\n", "utf-8")
    with pytest.raises(DataError):
        make_base(base_file, bad, [], tmp_path / "out", vocab_size=300, layers=2, ffn=32)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bad.jsonl", "train.jsonl"]
    for layers, ffn, says in (
        (5, 32, "--layers is 5; .* can be cut to 2 .. 4"),
        (1, 32, "--layers"),
        (2, 9999, "--ffn"),
    ):
        with pytest.raises(InputError, match=says):
            make_base(base_file, data, [], tmp_path / "out", vocab_size=300, layers=layers, ffn=ffn)
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="is there already"):
        make_base(base_file, data, [], tmp_path / "out", vocab_size=300, layers=2, ffn=32)
    assert not any((tmp_path / "out").iterdir())


def test_json_punctuation_is_a_token_of_its_own_but_for_the_joints() -> None:
    raw = json.loads(tiny_tokenizer_json(pre="smollm"))["model"]
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in raw["merges"]]
    tokens = sorted(raw["vocab"], key=raw["vocab"].__getitem__)
    tokenizer, origin = cut_vocabulary(tokens, kept_merges(merges), dict.fromkeys(tokens, 1.0), 400)  # type: ignore[arg-type]
    pieces = tokenizer.encode('{"city":"Paris","days":[3]}').tokens
    assert "".join(pieces) == '{"city":"Paris","days":[3]}'
    assert [piece for piece in pieces if '"' in piece] == ['{"', '":', '"', '"', ',"', '":']
    assert len(origin) == tokenizer.get_vocab_size()
    for token, old in zip(sorted(tokenizer.get_vocab(), key=tokenizer.token_to_id), origin, strict=True):
        assert token in SPECIAL_TOKENS or old in (token, None)


def test_a_kept_token_is_still_merged_as_before() -> None:
    vocab = {letter: i for i, letter in enumerate("abcdx")} | {"ab": 5, "abc": 6, "cd": 7}
    merges = [("a", "b"), ("ab", "c"), ("c", "d")]
    whole = smollm_tokenizer(vocab, merges)
    tokenizer, _ = cut_vocabulary(list(vocab), merges, {"abc": 2.0}, len(SPECIAL_TOKENS) + 256 + 3 + 2)
    assert whole.encode("abcd").tokens == tokenizer.encode("abcd").tokens == ["abc", "d"]
    assert tokenizer.encode("cd").tokens == ["c", "d"]


def test_the_layer_that_does_nothing_goes_first() -> None:
    torch.manual_seed(0)
    model = Llama(SHAPE)
    for number, block in enumerate(model.blocks):
        for weight in (block.out.weight, block.down.weight):
            torch.nn.init.normal_(weight, std=0.0 if number == 2 else 0.3)
    reader = Reader(model, torch.randint(0, 90, (2, 30)))
    assert reader.loss(range(5)) == pytest.approx(reader.loss([0, 1, 3, 4]), abs=1e-6)
    kept = layers_to_keep(reader, 4)
    assert reader.loss(kept) <= reader.loss([0, 1, 3, 4]) + 1e-6
    assert {0, 4} <= set(kept)


def test_channels_that_write_nothing_can_go(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Llama(SHAPE)
    for block in model.blocks:
        torch.nn.init.normal_(block.out.weight, std=0.3)
        torch.nn.init.normal_(block.down.weight, std=0.3)
        block.down.weight.data[:, ::3] = 0
    ids = torch.randint(0, 90, (2, 30))
    reader = Reader(model, ids)
    config, state = cut(SHAPE, dict(model.state_dict()), range(5), reader.channels(range(5)), 64)
    smaller = Llama(config)
    smaller.load_state_dict(state)
    assert Reader(smaller, ids).loss(range(5)) == pytest.approx(reader.loss(range(5)), abs=1e-5)
    to_hugging_face(state, config, tmp_path)
    again, loaded = from_hugging_face(tmp_path)
    assert again == config
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_q4_0_is_llama_cpp_s() -> None:
    weight = np.random.default_rng(0).normal(size=(30, 96)).astype(np.float32)
    weight[0], weight[1, :32] = 0, -1
    kind = gguf.GGMLQuantizationType.Q4_0
    expected = gguf.dequantize(gguf.quantize(weight, kind), kind)
    ours = q4_0(torch.from_numpy(weight))
    assert np.array_equal(ours.numpy(), expected)
    assert torch.equal(q4_0(ours), ours)


def test_where_the_largest_and_the_smallest_are_alike_rounding_twice_is_rounding_once() -> None:
    weight = torch.tensor([[0.7, -0.7] * 16, [-0.7, 0.7] * 16, [1e-9, -1e-9] * 16])
    ours = q4_0(weight)
    assert torch.equal(q4_0(ours), ours)
    assert (ours[:2] - weight[:2]).abs().max() <= 0.7 / 8 + 1e-3


@pytest.mark.slow
def test_q4_0_compiled_stays_on_its_grid() -> None:
    weight = torch.from_numpy(np.random.default_rng(1).normal(size=(64, 96)).astype(np.float32))
    ours = nano.q4_0(weight)
    assert torch.equal(nano.q4_0(ours), ours)
    assert torch.equal(q4_0(ours), ours)
    assert (ours == q4_0(weight)).float().mean() > 0.99


def test_adamw_is_torch_s_and_a_grid_rounds_what_is_used() -> None:
    torch.manual_seed(0)
    model, twin = Llama(SHAPE), Llama(SHAPE)
    twin.load_state_dict(model.state_dict())
    ours = Optimizer(model, matrix_lr=0, other_lr=1e-2)
    theirs = torch.optim.AdamW(twin.parameters(), lr=1e-2, betas=(0.9, 0.99), weight_decay=0.0)
    rng = random.Random(0)
    for _ in range(4):
        for one, two in zip(model.parameters(), twin.parameters(), strict=True):
            one.grad = torch.full_like(one, rng.uniform(-1, 1)) + torch.arange(one.shape[-1]) * 0.01
            two.grad = one.grad.clone()
        ours.step(1.0)
        theirs.step()
    for one, two in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(one, two, atol=1e-6)
    ours.grid = q4_0
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    ours.step(0.0)
    weight = model.blocks[0].down.weight
    assert torch.equal(weight, q4_0(weight))
    assert not torch.equal(weight, ours.masters["blocks.0.down.weight"])


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounding that is not compiled, which takes longer than these tests."""
    monkeypatch.setattr(nano, "q4_0", q4_0)


@pytest.mark.usefixtures("eager")
def test_a_run_resumed_on_the_grid_uses_the_weights_that_it_stopped_with(tmp_path: Path) -> None:
    run = Run(tmp_path, SHAPE, 10, 1, None, 0.5)
    for step in range(7):
        for parameter in run.model.parameters():
            parameter.grad = torch.full_like(parameter, 0.01)
        run.optimizer.grid = run._grid(step)
        run.optimizer.step(1.0)
    run.save(7)
    again = Run(tmp_path, SHAPE, 10, 1, None, 0.5)
    assert again.start == 7
    for name, parameter in run.model.named_parameters():
        assert torch.equal(parameter, dict(again.model.named_parameters())[name]), name
    for each in (run, again):
        each.log_file.close()


@pytest.mark.usefixtures("eager")
def test_on_the_grid_what_enters_a_matrix_has_the_bits_that_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    loss = nano.weighted_loss

    def watched(model: Llama, *args: Any) -> torch.Tensor:
        seen.append(model.bits)
        return loss(model, *args)

    monkeypatch.setattr(nano, "weighted_loss", watched)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    ids = np.arange(32)[None]
    batch = {"ids": ids, "positions": ids, "tree": 0 * ids, "branch": 0 * ids, "targets": ids + 1, "answers": 1}
    for bits in (6, 8):
        run = Run(tmp_path / str(bits), SHAPE, 4, 1, None, 0.5, bits)
        with run.log_file:
            stream = ({**batch, "weights": np.ones((1, 32), np.float32)} for _ in range(4))
            run.train(stream, [], every=9, minutes_a_save=9)
    assert seen == [0, 0, 6, 6, 0, 0, 8, 8]


def write_start(folder: Path) -> Path:
    """A checkpoint as `train base` writes it."""
    torch.manual_seed(0)
    to_hugging_face(dict(Llama(SHAPE).state_dict()), SHAPE, folder)
    (folder / "tokenizer.json").write_text(tiny_tokenizer_json(pre="smollm", special=SPECIAL_TOKENS), "utf-8")
    (folder / "tokenizer_config.json").write_text("{}")
    return folder


def train(out: Path, base: Path, data: Path, **more: Any) -> None:
    numbers: dict[str, Any] = {"steps": 3, "layers": 8, "width": 256, "seed": 1, "threads": 1, "eval_every": 9}
    numbers["q4_from"] = 0.0
    files: dict[str, Any] = {"dev": None, "drafts": None, "apis": None, "only": None}
    nano.train_model(data=data, base=base, out=out, **{**numbers, **files, **more})


def finished(out: Path, base: Path) -> None:
    """A run that was killed right after its last checkpoint."""
    (out / "hf").mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (out / "hf" / name).write_bytes((base / name).read_bytes())
    run = Run(out, SHAPE, 3, 1, base, 0.0)
    run.save(3)
    run.log_file.close()
    (out / "hf" / "model.safetensors").unlink()


@pytest.mark.usefixtures("eager")
def test_a_run_killed_before_its_last_export_exports(tmp_path: Path, data: Path) -> None:
    base, out = write_start(tmp_path / "base"), tmp_path / "run"
    finished(out, base)
    train(out, base, data)
    _, state = from_hugging_face(out / "hf")
    assert torch.equal(state["embed.weight"], q4_0(from_hugging_face(base)[1]["embed.weight"]))


@pytest.mark.usefixtures("eager")
def test_another_run_is_not_gone_on_with_and_keeps_its_tokenizer(tmp_path: Path, data: Path) -> None:
    base, out = write_start(tmp_path / "base"), tmp_path / "run"
    finished(out, base)
    train(out, base, data)
    before = (out / "hf" / "tokenizer.json").read_bytes()
    other = write_start(tmp_path / "other")
    (other / "tokenizer.json").write_bytes(before + b"\n")
    for change, what in (
        ({"steps": 4}, "steps"),
        ({"seed": 2}, "seed"),
        ({"base": other}, "base"),
        ({"activation_bits": 6}, "activation_bits"),
    ):
        with pytest.raises(InputError, match=f"another {what}"):
            train(out, **{"base": base, "data": data, **change})
    assert (out / "hf" / "tokenizer.json").read_bytes() == before
    (other / "tokenizer_config.json").unlink()
    with pytest.raises(InputError, match="has no tokenizer_config"):
        train(tmp_path / "new", other, data)
    assert not (tmp_path / "new").exists()
