"""A model in a GGUF file becomes a checkpoint again: its weights to the bit, its tokenizer to the token."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")
pytest.importorskip("llama_cpp")
pytest.importorskip("gguf")
transformers = pytest.importorskip("transformers")

from tokenizers import Tokenizer  # noqa: E402

from tests.checkpoints import write_checkpoint  # noqa: E402
from tests.tiny import tiny_tokenizer_json  # noqa: E402
from toolace_edge.cli import cli  # noqa: E402
from toolace_edge.convert.gguf import convert_gguf  # noqa: E402
from toolace_edge.engines.llama_cpp import LlamaCppEngine  # noqa: E402
from toolace_edge.errors import InputError, ModelError  # noqa: E402
from toolace_edge.train.model import from_hugging_face  # noqa: E402
from toolace_edge.train.unpack import unpack_gguf  # noqa: E402

MODELS = Path(str(files("toolace_edge.models")))
TEXT = (
    '<|begin|><|tool|>get_weather: Wie ist das Wetter?\n<|user|>in Köln, 東京 🙂 at 12:30<|call|>{"name":"get_weather"}'
)


def test_what_was_converted_comes_back_as_it_was(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "hf", tiny_tokenizer_json(pre="smollm"))
    convert_gguf(checkpoint, tmp_path / "small.gguf", kind="f32", name="small")
    unpack_gguf(tmp_path / "small.gguf", tmp_path / "out")
    config, state = from_hugging_face(tmp_path / "out")
    expected_config, expected = from_hugging_face(checkpoint)
    assert config == expected_config
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    before, after = (Tokenizer.from_file(str(folder / "tokenizer.json")) for folder in (checkpoint, tmp_path / "out"))
    assert after.encode(TEXT).ids == before.encode(TEXT).ids
    assert after.decode(after.encode(TEXT).ids) == before.decode(before.encode(TEXT).ids)
    with pytest.raises(InputError, match="is there already"):
        unpack_gguf(tmp_path / "small.gguf", tmp_path / "out")


def test_a_model_of_another_format_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    others = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    checkpoint = write_checkpoint(tmp_path / "hf", tiny_tokenizer_json(special=others, pre="smollm"))
    convert_gguf(checkpoint, tmp_path / "smol.gguf", kind="f32", name="smol")
    with pytest.raises(ModelError, match=r"smol\.gguf: has no token"):
        unpack_gguf(tmp_path / "smol.gguf", tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"hf", "smol.gguf"}


@pytest.mark.slow
def test_the_bundled_model_is_unpacked_by_default_and_answers_as_its_file(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["train", "unpack", "--out", str(tmp_path / "nano")])
    assert result.exit_code == 0, result.output
    ids = transformers.AutoTokenizer.from_pretrained(tmp_path / "nano")(TEXT, add_special_tokens=False)["input_ids"]
    assert ids == Tokenizer.from_file(str(MODELS / "nano" / "tokenizer.json")).encode(TEXT).ids
    oracle = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "nano", dtype=torch.float32).eval()
    with LlamaCppEngine(MODELS / "nano.gguf") as engine, torch.no_grad():
        theirs = torch.from_numpy(engine.forward(ids, len(ids))).softmax(-1)
        ours = oracle(torch.tensor([ids])).logits[0].softmax(-1)
    assert (ours - theirs).abs().sum(-1).mean() < 0.005
