"""What every engine promises, as checks that take an open engine: the tests of each engine run all of them.

    @pytest.mark.parametrize("check", engine_contract.CHECKS)
    def test_contract(check, engine, tmp_path):
        check(engine, tmp_path)

`engine` needs our control tokens and a context of at least 64 tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from toolace_edge.engines.base import Engine
from toolace_edge.errors import BudgetError, Cancelled, ModelError

# Native kernels round differently for one row and for many (int8 activations more so than floats).
TOLERANCE = 0.25
TEXT = "What is the weather in Paris today?"


def _close(left: np.ndarray, right: np.ndarray) -> bool:
    return bool(np.abs(left - right).max() <= TOLERANCE)


def forward_appends_and_gives_rows(engine: Engine, tmp_path: Path) -> None:
    ids = engine.encode(TEXT)
    logits = engine.forward(ids, n_logits=3)
    assert logits.shape == (3, engine.vocab_size)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    assert list(engine.tokens) == ids


def one_by_one_is_the_same_as_at_once(engine: Engine, tmp_path: Path) -> None:
    ids = engine.encode(TEXT)
    at_once = engine.forward(ids, n_logits=len(ids)).copy()
    engine.rewind(0)
    for i, token in enumerate(ids):
        assert _close(engine.forward([token])[0], at_once[i])


def rewind_forgets_what_came_after(engine: Engine, tmp_path: Path) -> None:
    ids = engine.encode(TEXT)
    expected = engine.forward(ids).copy()
    engine.rewind(3)
    assert list(engine.tokens) == ids[:3]
    engine.forward(engine.encode("something else"))
    engine.rewind(3)
    assert _close(engine.forward(ids[3:]), expected)


def rewind_refuses_lengths_outside_the_cache(engine: Engine, tmp_path: Path) -> None:
    engine.forward(engine.encode(TEXT))
    for length in (-1, len(engine.tokens) + 1):
        with pytest.raises(ValueError, match="rewind"):
            engine.rewind(length)


def forward_refuses_wrong_numbers_of_rows(engine: Engine, tmp_path: Path) -> None:
    for ids, n_logits in (([], 1), ([1, 2], 3), ([1, 2], 0)):
        with pytest.raises(ValueError, match="n_logits"):
            engine.forward(ids, n_logits)
    assert len(engine.tokens) == 0


def past_the_context_nothing_is_appended(engine: Engine, tmp_path: Path) -> None:
    engine.forward([1, 2, 3])
    with pytest.raises(BudgetError, match=str(engine.n_ctx)):
        engine.forward([1] * (engine.n_ctx - 2))
    assert list(engine.tokens) == [1, 2, 3]


def the_last_place_of_the_context_can_be_used(engine: Engine, tmp_path: Path) -> None:
    engine.forward([1 + i % 7 for i in range(engine.n_ctx)])
    assert len(engine.tokens) == engine.n_ctx


def a_cancel_leaves_the_engine_usable(engine: Engine, tmp_path: Path) -> None:
    ids = engine.encode(TEXT)
    expected = engine.forward(ids).copy()
    engine.rewind(0)
    engine.cancelled = lambda: True
    with pytest.raises(Cancelled):
        engine.forward(ids)
    engine.cancelled = None
    assert list(engine.tokens) == ids[: len(engine.tokens)]
    engine.rewind(0)
    assert _close(engine.forward(ids), expected)


def a_saved_cache_goes_on_where_it_was(engine: Engine, tmp_path: Path) -> None:
    ids = engine.encode(TEXT)
    engine.forward(ids)
    engine.save(tmp_path / "cache")
    expected = engine.forward([5]).copy()
    engine.rewind(0)
    engine.forward(engine.encode("something else"))
    engine.load(tmp_path / "cache")
    assert list(engine.tokens) == ids
    assert _close(engine.forward([5]), expected)


def a_file_that_is_no_cache_is_refused(engine: Engine, tmp_path: Path) -> None:
    engine.forward([1, 2])
    (tmp_path / "junk").write_bytes(b"\x00junk" * 100)
    for name in ("junk", "missing"):
        with pytest.raises(ModelError, match=name):
            engine.load(tmp_path / name)
    assert len(engine.tokens) == 0


def control_tokens_count_only_where_asked_for(engine: Engine, tmp_path: Path) -> None:
    assert len(engine.encode("<|call|>", special=True)) == 1
    plain = engine.encode("<|call|>")
    assert len(plain) > 1
    assert engine.encode("<|call|>", special=True)[0] not in plain
    assert engine.decode(plain) == b"<|call|>" == engine.decode(engine.encode("<|call|>", special=True))


def text_comes_back_byte_by_byte(engine: Engine, tmp_path: Path) -> None:
    for text in ("", "plain", 'Zürich, 東京 🙂 \n\t\\"', "  two  spaces 12345"):
        ids = engine.encode(text)
        assert engine.decode(ids) == text.encode()
        assert b"".join(engine.decode([token]) for token in ids) == text.encode()


def llguidance_sees_the_same_vocabulary(engine: Engine, tmp_path: Path) -> None:
    assert engine.tokenizer.vocab_size == engine.vocab_size
    assert engine.tokenizer is engine.tokenizer
    assert engine.tokenizer.tokenize_str(TEXT) == engine.encode(TEXT)


def close_may_be_called_twice(engine: Engine, tmp_path: Path) -> None:
    engine.close()
    engine.close()


CHECKS: tuple[Callable[[Engine, Path], None], ...] = (
    forward_appends_and_gives_rows,
    one_by_one_is_the_same_as_at_once,
    rewind_forgets_what_came_after,
    rewind_refuses_lengths_outside_the_cache,
    forward_refuses_wrong_numbers_of_rows,
    past_the_context_nothing_is_appended,
    the_last_place_of_the_context_can_be_used,
    a_cancel_leaves_the_engine_usable,
    a_saved_cache_goes_on_where_it_was,
    a_file_that_is_no_cache_is_refused,
    control_tokens_count_only_where_asked_for,
    text_comes_back_byte_by_byte,
    llguidance_sees_the_same_vocabulary,
    close_may_be_called_twice,
)
