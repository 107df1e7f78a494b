"""What the benchmarks make their models of is a checkpoint like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolace_edge.convert.checkpoint import read_checkpoint
from toolace_edge.engines.vocabulary import Vocabulary


@pytest.fixture
def write(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "bench"))
    from random_checkpoint import write_random_checkpoint

    return write_random_checkpoint


def test_it_opens_from_its_shards(write: Any, tmp_path: Path) -> None:
    write(tmp_path, "tiny", layers=2, shard_bytes=2_000_000)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint.config.n_layers == 2
    down, norm = (checkpoint.tensor(f"model.{name}.weight") for name in ("layers.1.mlp.down_proj", "norm"))
    assert down.std() == pytest.approx(0.0197, rel=0.02)  # 31 of 32 steps of -7 to 7, the other one 8 or -8
    assert norm.mean() == pytest.approx(1.0, abs=0.01)
    assert not np.array_equal(down[0], checkpoint.tensor("model.layers.0.mlp.down_proj.weight")[0])
    vocabulary = Vocabulary(checkpoint.tokenizer_json, checkpoint.config.vocab_size)
    assert vocabulary.decode(vocabulary.encode("the Ünï 日本 {}\n")) == "the Ünï 日本 {}\n".encode()


def test_matrices_are_what_4_bits_can_hold(write: Any, tmp_path: Path) -> None:
    write(tmp_path, "tiny", layers=1)
    checkpoint = read_checkpoint(tmp_path)
    for name in ("model.embed_tokens", "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj", "lm_head"):
        steps = checkpoint.tensor(f"{name}.weight").reshape(-1, 32) / (9 / 2048)
        assert np.array_equal(steps, np.round(steps))
        assert (np.sort(np.abs(steps))[:, -2:] == [7, 8]).mean() > 0.9
        assert (np.abs(steps).max(1) == 8).all()


def test_what_is_there_is_not_written_again_and_what_is_half_there_is(write: Any, tmp_path: Path) -> None:
    write(tmp_path, "tiny", layers=1)
    (shard,) = tmp_path.glob("model-*.safetensors")
    content, written = shard.read_bytes(), shard.stat().st_mtime_ns
    write(tmp_path, "tiny", layers=1)
    assert shard.stat().st_mtime_ns == written
    (tmp_path / "model.safetensors.index.json").unlink()
    shard.write_bytes(b"half")
    write(tmp_path, "tiny", layers=1)
    assert shard.read_bytes() == content
