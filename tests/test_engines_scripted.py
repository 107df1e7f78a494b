from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests import engine_contract
from tests.tiny import tiny_tokenizer_json
from toolace_edge.engines import open_engine
from toolace_edge.engines.scripted import ScriptedEngine
from toolace_edge.engines.vocabulary import Vocabulary
from toolace_edge.errors import ModelError

TOKENIZER = tiny_tokenizer_json()


def noise(seed: int = 0) -> ScriptedEngine:
    return ScriptedEngine.noise(TOKENIZER, seed=seed, n_ctx=300)


def replies(_: int = 0) -> ScriptedEngine:
    return ScriptedEngine.replies(TOKENIZER, ["<|text|>hello<|end|>"], n_ctx=300)


@pytest.mark.parametrize("check", engine_contract.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("make", [noise, replies])
def test_contract(make, check, tmp_path: Path) -> None:
    check(make(), tmp_path)


def play(engine: ScriptedEngine, text: str, most: int = 30) -> str:
    """Greedy text after `text`, up to the end token, with no grammar."""
    end = engine.encode("<|end|>", special=True)[0]
    out: list[int] = []
    ids = engine.encode(text, special=True)
    while len(out) < most and out[-1:] != [end]:
        ids = [int(engine.forward(ids)[0].argmax())]
        out += ids
    return engine.decode(out).decode()


def test_replies_are_played_one_after_another_and_the_last_again() -> None:
    engine = ScriptedEngine.replies(TOKENIZER, ["<|text|>one<|end|>", "<|text|>two<|end|>"])
    assert play(engine, "<|user|>hello") == "<|text|>one<|end|>"
    for _ in range(2):
        assert play(engine, "<|end|><|refine|>") == "<|text|>two<|end|>"


def test_noise_depends_on_the_seed_and_the_tokens_alone() -> None:
    first = noise(1).forward([3, 4, 5]).copy()
    assert np.array_equal(first, noise(1).forward([3, 4, 5]))
    assert not np.array_equal(first, noise(2).forward([3, 4, 5]))
    assert not np.array_equal(first, noise(1).forward([3, 4, 6]))


def test_logits_kept_past_their_time_turn_into_nan() -> None:
    engine = noise()
    kept = engine.forward([1, 2])
    engine.forward([3])
    assert np.isnan(kept).all()


def test_a_cache_of_other_weights_is_refused(tmp_path: Path) -> None:
    noise(1).save(tmp_path / "cache")
    with pytest.raises(ModelError, match="another model"):
        noise(2).load(tmp_path / "cache")


def test_a_prompt_is_read_in_chunks_and_a_cancel_is_heard_between_them() -> None:
    engine = ScriptedEngine(TOKENIZER, lambda tokens: np.zeros(420, np.float32), chunk=10)
    engine.cancelled = lambda: len(engine.tokens) >= 20
    with pytest.raises(Exception, match="Cancelled"):
        engine.forward(list(range(50)))
    assert list(engine.tokens) == list(range(20))


@pytest.mark.parametrize("name", ["nothing.gguf", "model.bin"])
def test_a_path_that_holds_no_model_is_refused_by_name(tmp_path: Path, name: str) -> None:
    if name.endswith(".bin"):
        (tmp_path / name).touch()
    with pytest.raises(ModelError, match=name):
        open_engine(tmp_path / name)


def test_a_damaged_tokenizer_is_refused() -> None:
    with pytest.raises(ModelError, match="not a tokenizer that can be read"):
        Vocabulary("{")
    with pytest.raises(ModelError, match="420"):
        Vocabulary(TOKENIZER, size=100)
