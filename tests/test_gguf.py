"""A checkpoint becomes a GGUF file that llama.cpp runs as transformers runs the checkpoint."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests import engine_contract
from tests.checkpoints import FAMILIES, write_checkpoint
from tests.tiny import tiny_tokenizer_json

pytest.importorskip("llama_cpp")
gguf = pytest.importorskip("gguf")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tokenizers import Tokenizer  # noqa: E402

from tests.reference_logits import compare_logits  # noqa: E402
from toolace_edge.convert.gguf import convert_gguf  # noqa: E402
from toolace_edge.convert.gguf_quantize import quantize  # noqa: E402
from toolace_edge.engines import open_engine  # noqa: E402
from toolace_edge.engines.gguf_header import read_header  # noqa: E402
from toolace_edge.engines.llama_cpp import LlamaCppEngine  # noqa: E402
from toolace_edge.engines.llama_vocabulary import open_vocabulary  # noqa: E402
from toolace_edge.errors import (  # noqa: E402
    BudgetError,
    Cancelled,
    EngineError,
    InputError,
    MissingDependency,
    ModelError,
)

LLAMA3_SCALING = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
SHAPES = {
    "nano": {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 8, "num_key_value_heads": 2},
    "wide": {"hidden_size": 384, "intermediate_size": 768, "num_attention_heads": 12, "num_key_value_heads": 4},
    "scaled": {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 48,
        "rope_theta": 5000.0,
        "rope_scaling": LLAMA3_SCALING,
        "tie_word_embeddings": False,
    },
}


def make_checkpoint(folder: Path, **shape: object) -> Path:
    """A Llama with random weights and the tiny tokenizer; its vocabulary is padded."""
    settings = {"vocab_size": 448, "num_hidden_layers": 2, "max_position_embeddings": 512, "initializer_range": 0.1}
    settings |= {"tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2, **shape}
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings))
    with torch.no_grad():  # norms of 1 would hide a norm in the wrong place
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.uniform_(0.5, 1.5)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tiny_tokenizer_json(), "utf-8")
    return folder


def reference(checkpoint: Path, ids: list[int]) -> np.ndarray:
    model = transformers.LlamaForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].numpy()


def some_ids(count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(16, 420, count).tolist()


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    return {name: make_checkpoint(root / name, **shape) for name, shape in SHAPES.items()}


@pytest.fixture(scope="module")
def f32_file(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("gguf") / "nano.gguf"
    return convert_gguf(checkpoints["nano"], out, kind="f32", name="nano", calibration={"a": [1, 2]}, licence="mit")


@pytest.fixture
def engine(f32_file: Path) -> Iterator[LlamaCppEngine]:
    with LlamaCppEngine(f32_file, kv="f32", threads=1, n_ctx=96, chunk=16) as engine:
        yield engine


@pytest.mark.parametrize("check", engine_contract.CHECKS)
def test_the_engine_keeps_the_contract(check, engine, tmp_path):
    check(engine, tmp_path)


def test_a_cancel_is_heard_in_the_midst_of_a_native_call(engine):
    ids = some_ids(16)  # one call
    expected = engine.forward(ids).copy()
    engine.rewind(0)
    asked = []

    def at_the_twentieth_time() -> bool:
        asked.append(len(engine.tokens))
        return len(asked) == 20

    engine.cancelled = at_the_twentieth_time
    with pytest.raises(Cancelled):
        engine.forward(ids)
    engine.cancelled = None
    assert (asked, list(engine.tokens)) == ([0] * 20, [])
    np.testing.assert_array_equal(engine.forward(ids), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_f32_logits_are_those_of_transformers(shape, checkpoints, tmp_path):
    path = convert_gguf(checkpoints[shape], tmp_path / "m.gguf", kind="f32", name=shape)
    ids = some_ids(200)
    expected = reference(checkpoints[shape], ids)
    with LlamaCppEngine(path, kv="f32", threads=1, chunk=64) as engine:
        assert engine.n_ctx == 512
        assert np.abs(engine.forward(ids, n_logits=200) - expected).max() <= 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_f32_logits_of_every_family_are_those_of_transformers(family, tmp_path):
    source = write_checkpoint(tmp_path / family, **FAMILIES[family])
    path = convert_gguf(source, tmp_path / "m.gguf", kind="f32", name=family)
    with LlamaCppEngine(path, kv="f32", threads=1) as engine:
        comparison = compare_logits(source, engine, [some_ids(250), some_ids(50, seed=1)])
    assert comparison.max_error <= 1e-3, comparison
    assert comparison.top1_agreement >= 0.995, comparison


def test_what_llama_cpp_has_no_layers_for_is_refused_for_gguf_alone(tmp_path):
    scaled = write_checkpoint(tmp_path / "scaled", **FAMILIES["qwen3"], rope_scaling=LLAMA3_SCALING)
    wide = write_checkpoint(tmp_path / "wide", **{**FAMILIES["qwen2"], "head_dim": 32})
    for source, says in ((scaled, "stretch the rotary frequencies"), (wide, "4 heads of 32 on 64")):
        with pytest.raises(ModelError, match=says):
            convert_gguf(source, tmp_path / "out" / "m.gguf", name="m")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("kind", "tolerance"), [("f16", 0.02), ("bf16", 0.2)])
def test_half_precision_logits_are_near_those_of_transformers(kind, tolerance, checkpoints, tmp_path):
    path = convert_gguf(checkpoints["nano"], tmp_path / "m.gguf", kind=kind, name="nano")
    ids = some_ids(64)
    with LlamaCppEngine(path, threads=1) as engine:
        rows = engine.forward(ids, n_logits=64)
    expected = reference(checkpoints["nano"], ids)
    assert np.abs(rows - expected).max() <= tolerance * expected.std()


def test_bf16_is_rounded_as_the_gguf_library_does_wherever_the_parts_end(checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr("toolace_edge.convert.gguf._AT_ONCE", 1000)
    files = (
        convert_gguf(checkpoints["nano"], tmp_path / f"{kind}.gguf", kind=kind, name="n") for kind in ("f32", "bf16")
    )
    whole, rounded = ({one.name: one for one in gguf.GGUFReader(file).tensors} for file in files)
    kind = gguf.GGMLQuantizationType.BF16
    matrices = [name for name, one in rounded.items() if one.tensor_type == kind]
    assert max(whole[name].data.size for name in matrices) > 1000
    for name in matrices:
        assert np.array_equal(rounded[name].data, gguf.quantize(whole[name].data, kind)), name


@pytest.mark.parametrize("shape", ["nano", "wide"])
@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q4_K_M", "Q6_K"])
def test_quantized_files_run_and_keep_to_the_reference(kind, shape, checkpoints, tmp_path):
    source = convert_gguf(checkpoints[shape], tmp_path / "f32.gguf", kind="f32", name=shape)
    path = quantize(source, tmp_path / "q.gguf", kind)
    ids = some_ids(40)
    with LlamaCppEngine(path, threads=1) as engine:
        rows = engine.forward(ids, n_logits=40)
    expected = reference(checkpoints[shape], ids)
    assert np.corrcoef(rows.ravel(), expected.ravel())[0, 1] > {"Q8_0": 0.998, "Q6_K": 0.99}.get(kind, 0.85)
    assert path.stat().st_size < source.stat().st_size / 3
    assert read_header(path).quantized
    assert read_header(path).metadata["toolace.format"] == "compact"
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_what_is_quantized_is_not_quantized_again(f32_file, tmp_path):
    path = quantize(f32_file, tmp_path / "q8.gguf", "Q8_0")
    with pytest.raises(EngineError, match="quantized already"):
        quantize(path, tmp_path / "q4.gguf", "Q4_0")
    with pytest.raises(ValueError, match="Q9"):
        quantize(f32_file, tmp_path / "q9.gguf", "Q9")


def test_metadata_says_what_the_model_is(f32_file):
    metadata = read_header(f32_file).metadata
    assert metadata["general.name"] == "nano"
    assert metadata["general.license"] == "mit"
    assert metadata["llama.context_length"] == 512
    assert metadata["tokenizer.ggml.pre"] == "llama-bpe"
    assert metadata["toolace.format"] == "compact"
    assert json.loads(metadata["toolace.calibration"]) == {"a": [1, 2]}
    assert metadata["toolace.normalizer"] == "none"
    assert metadata["tokenizer.ggml.token_type"][:17] == (3,) * 16 + (1,)


CARD = "---\nlicense: apache-2.0\nbase_model:\n- Qwen/Qwen2.5-7B\n- not a repository\n---\n# Model\n---\nlicense: mit\n"


def test_metadata_says_where_the_model_is_from(tmp_path):
    source = tmp_path / "models--Team-ACE--ToolACE-8B" / "snapshots" / "0123abc"
    write_checkpoint(source)
    (source / "README.md").write_text(CARD)
    (source / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": "old", "eos_token": {"content": "<|text|>"}})
    )
    (source / "chat_template.jinja").write_text("{{ messages }}é")
    metadata = read_header(convert_gguf(source, tmp_path / "m.gguf", kind="f16", name="m")).metadata
    assert metadata["general.license"] == "apache-2.0"
    assert metadata["general.source.repo_url"] == "https://huggingface.co/Team-ACE/ToolACE-8B"
    assert metadata["general.base_model.count"] == 1
    assert metadata["general.base_model.0.repo_url"] == "https://huggingface.co/Qwen/Qwen2.5-7B"
    assert (metadata["general.base_model.0.organization"], metadata["general.base_model.0.name"]) == (
        "Qwen",
        "Qwen2.5-7B",
    )
    assert metadata["tokenizer.chat_template"] == "{{ messages }}é".encode().decode("utf-8", "surrogateescape")
    assert metadata["tokenizer.ggml.tokens"][metadata["tokenizer.ggml.eos_token_id"]] == "<|text|>"


def test_several_chat_templates_are_kept_by_name(tmp_path):
    source = write_checkpoint(tmp_path / "model")
    templates = [{"name": "default", "template": "a"}, {"name": "tool use", "template": "b"}, {"name": 3}]
    (source / "tokenizer_config.json").write_text(json.dumps({"chat_template": templates}))
    (source / "README.md").write_text("---\n: [\n---\n")
    metadata = read_header(convert_gguf(source, tmp_path / "m.gguf", name="m", source_repository="a/b")).metadata
    assert (metadata["tokenizer.chat_template"], metadata["tokenizer.chat_template.tool_use"]) == ("a", "b")
    assert metadata["tokenizer.chat_templates"] == ("tool_use",)
    assert metadata["general.source.repo_url"] == "https://huggingface.co/a/b"
    assert "general.license" not in metadata


SCRIPTS = (
    *("abc XYZ", "0123456789", " \t\n\r", '{}[]":,<|>_-./\\', "äöüßéñçøł", "αβγδΩ", "бгджщЯ", "אבגש", "ابتثج"),
    *("नमस्ते", "ไทยกขค", "日本語漢字かなカナ", "한국어", "🙂🚀👩‍👩‍👧🇩🇪", "½²Ⅷ٣", "\u00a0\u2003\u200b\u3000", "e\u0301"),
)
WORDS = ("it's", "I'LL", " the", '{"name":"get_weather"', "<|call|>", "<|end|>", "  ", "\n\n", "get_weather", "don't")


def some_texts(count: int) -> list[str]:
    dice = random.Random(0)
    texts = ["", " ", "<|call|><|end|>"]
    while len(texts) < count:
        scripts = dice.choices(SCRIPTS, k=dice.randint(1, 4))
        parts = [dice.choice(WORDS) if dice.random() < 0.2 else dice.choice(dice.choice(scripts)) for _ in range(40)]
        texts.append("".join(parts[: dice.randint(1, 40)]))
    return texts


def test_encode_is_that_of_tokenizers(f32_file):
    vocabulary = open_vocabulary(f32_file, read_header(f32_file).metadata)
    special, plain = (Tokenizer.from_str(tiny_tokenizer_json()) for _ in range(2))
    plain.encode_special_tokens = True
    for text in some_texts(2000):
        assert vocabulary.encode(text) == plain.encode(text, add_special_tokens=False).ids, repr(text)
        assert vocabulary.encode(text, special=True) == special.encode(text, add_special_tokens=False).ids, repr(text)
        assert vocabulary.decode(vocabulary.encode(text)) == text.encode()


def test_llguidance_encodes_as_the_engine_does(engine):
    for text in some_texts(200):
        assert engine.tokenizer.tokenize_str(text) == engine.encode(text), repr(text)
    assert engine.tokenizer.eos_token == 2


def test_half_a_surrogate_pair_is_refused_with_its_place(engine):
    with pytest.raises(InputError, match="character 3"):
        engine.encode("abc\ud800")


def test_a_text_of_a_megabyte_is_encoded(engine):
    for text in ("a" * 1_000_000, "ab 1\n" * 200_000, " " * 1_000_000):
        assert engine.decode(engine.encode(text)) == text.encode()


def test_chunked_rows_are_those_of_one_call(f32_file):
    ids = some_ids(90)
    with LlamaCppEngine(f32_file, kv="f32", threads=1, chunk=256) as whole:
        expected = whole.forward(ids, n_logits=50)
    with LlamaCppEngine(f32_file, kv="f32", threads=1, chunk=16) as parts:
        assert np.abs(parts.forward(ids, n_logits=50) - expected).max() <= 1e-4


def test_rewind_and_load_give_bit_equal_logits(engine, tmp_path):
    ids = some_ids(40)
    engine.forward(ids)
    expected = engine.forward([20, 21], n_logits=2)
    engine.rewind(40)
    assert np.array_equal(engine.forward([20, 21], n_logits=2), expected)
    engine.rewind(40)
    engine.save(tmp_path / "cache")
    engine.rewind(3)
    engine.load(tmp_path / "cache")
    assert np.array_equal(engine.forward([20, 21], n_logits=2), expected)


def test_after_load_the_last_token_is_decoded_again(engine, tmp_path):
    ids = some_ids(40)
    engine.forward(ids[:-1])
    expected = engine.forward(ids[-1:])
    engine.save(tmp_path / "cache")
    engine.load(tmp_path / "cache")
    engine.rewind(39)
    assert np.array_equal(engine.forward(ids[-1:]), expected)


def test_a_cache_moves_between_contexts_that_hold_it(engine, f32_file, tmp_path):
    ids = some_ids(40)
    engine.forward(ids)
    engine.save(tmp_path / "cache")
    expected = engine.forward([20])
    with LlamaCppEngine(f32_file, kv="f32", threads=1, n_ctx=48, chunk=8) as other:
        other.load(tmp_path / "cache")
        assert np.abs(other.forward([20]) - expected).max() <= 1e-4
    with LlamaCppEngine(f32_file, kv="f32", threads=1, n_ctx=30) as small, pytest.raises(ModelError, match="30"):
        small.load(tmp_path / "cache")
    with LlamaCppEngine(f32_file, kv="f16", threads=1) as half, pytest.raises(ModelError, match="other settings"):
        half.load(tmp_path / "cache")


def test_a_damaged_cache_is_refused_and_the_engine_goes_on(engine, tmp_path):
    engine.forward(some_ids(20))
    engine.save(tmp_path / "cache")
    content = bytearray((tmp_path / "cache").read_bytes())
    content[-5] ^= 1
    (tmp_path / "cache").write_bytes(content)
    with pytest.raises(ModelError, match="damaged"):
        engine.load(tmp_path / "cache")
    assert len(engine.tokens) == 0
    assert np.isfinite(engine.forward([20])).all()


def test_a_cancel_stops_between_chunks(engine):
    engine.cancelled = lambda: len(engine.tokens) == 32
    with pytest.raises(Cancelled):
        engine.forward(some_ids(60))
    assert len(engine.tokens) == 32  # two chunks of 16


def test_a_context_beyond_the_model_is_refused(f32_file):
    with pytest.raises(BudgetError, match="512"):
        LlamaCppEngine(f32_file, n_ctx=513)


def test_an_id_outside_the_vocabulary_is_refused(engine):
    for token in (-1, engine.vocab_size):
        with pytest.raises(ValueError, match="token id"):
            engine.forward([5, token])
    assert len(engine.tokens) == 0


def test_grammars_may_outlive_the_engine(f32_file):
    from llguidance import LLMatcher

    engine = LlamaCppEngine(f32_file, threads=1)
    tokenizer = engine.tokenizer
    engine.close()
    matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_lark('start: "{" /[a-z]+/ "}"'))
    assert matcher.compute_ff_tokens() == engine.encode("{")


def test_engines_in_two_threads_do_not_disturb_each_other(f32_file):
    ids = some_ids(64)
    results: list[np.ndarray] = []

    def work() -> None:
        with LlamaCppEngine(f32_file, kv="f32", threads=1) as engine:
            results.append(engine.forward(ids))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.array_equal(results[0], results[1])


def test_a_missing_library_names_the_extra(monkeypatch, f32_file):
    from toolace_edge.engines import llama_native

    llama_native.native.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "llama_cpp.llama_cpp", None)
    with pytest.raises(MissingDependency) as caught:
        open_engine(f32_file)
    assert "toolace-edge[gguf]" in caught.value.hint
    monkeypatch.undo()
    llama_native.native.cache_clear()
    open_engine(f32_file, threads=1, n_ctx=32).close()


def test_what_cancelled_raises_passes_through_llama_cpp(engine):
    """Ctrl-C arrives where Python happens to run, and in a native call that is the callback."""
    ids = some_ids(16)
    expected = engine.forward(ids).copy()
    engine.rewind(0)
    asked = []

    def interrupt() -> bool:
        asked.append(True)
        if len(asked) == 20:
            raise KeyboardInterrupt
        return False

    engine.cancelled = interrupt
    with pytest.raises(KeyboardInterrupt):
        engine.forward(ids)
    engine.cancelled = None
    assert list(engine.tokens) == []
    np.testing.assert_array_equal(engine.forward(ids), expected)


def test_after_an_interrupt_the_cache_holds_what_tokens_say(engine, monkeypatch):
    ids = some_ids(16)
    expected = engine.forward(ids).copy()
    engine.rewind(0)
    run = engine._run_batch

    def interrupted() -> int:
        run()
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "_run_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.forward(ids)
    monkeypatch.undo()
    np.testing.assert_array_equal(engine.forward(ids), expected)


def test_a_library_that_does_not_load_is_a_sentence(monkeypatch, f32_file):
    from toolace_edge.engines import llama_native

    class Broken:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "llama_cpp.llama_cpp":
                raise RuntimeError("Failed to load shared library")

    llama_native.native.cache_clear()
    monkeypatch.delitem(sys.modules, "llama_cpp.llama_cpp")
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(EngineError, match=r"does not load: Failed to load") as caught:
        open_engine(f32_file)
    assert "Redistributable" in caught.value.hint
    monkeypatch.undo()
    llama_native.native.cache_clear()
    open_engine(f32_file, threads=1, n_ctx=32).close()


@pytest.mark.parametrize(
    "options", [{"threads": "4"}, {"threads": 0}, {"threads": True}, {"n_ctx": "96"}, {"n_ctx": True}]
)
def test_numbers_that_are_none_are_refused(options, f32_file):
    with pytest.raises(InputError, match="whole number"):
        LlamaCppEngine(f32_file, **options)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_not_utf_8_is_opened(f32_file, tmp_path):
    path = tmp_path / os.fsdecode(b"m\xff.gguf")
    shutil.copy(f32_file, path)
    with LlamaCppEngine(path, threads=1, n_ctx=32) as engine:
        assert engine.fingerprint
