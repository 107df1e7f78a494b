"""The bundled model: its two files hold the same weights, and answer alike on their own engines."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from toolace_edge.builtin import BUILTIN_TOOLS
from toolace_edge.registry import load

ROOT = Path(__file__).parent.parent
REQUESTS = (
    "set a timer for 10 minutes",
    "what time is it in Tokyo",
    "convert 5 miles to kilometers",
    "add a note to buy milk",
    "calculate 17 times 23",
    "when does the sun rise in Rome",
    "show my notes",
    "write down that the plumber comes at nine",
    "start a 25 minute timer for the eggs",
    "what is the capital of France",
    "hello",
)


@pytest.mark.slow
def test_both_files_hold_the_same_weights() -> None:
    onnx = pytest.importorskip("onnx")
    gguf = pytest.importorskip("gguf")
    from toolace_edge.convert.quantize import BlockQuantized

    stored = {
        w.name: onnx.numpy_helper.to_array(w) for w in onnx.load(ROOT / "models/nano/model.onnx").graph.initializer
    }
    reader = gguf.GGUFReader(ROOT / "models/nano.gguf")
    theirs: dict[str, NDArray[np.float32]] = {
        tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors
    }
    facts = json.loads((ROOT / "models/nano/toolace.json").read_text("utf-8"))
    heads = {"q": theirs["blk.0.attn_q.weight"].shape[0] // facts["head_dim"], "k": facts["n_kv_heads"]}

    def halves(values: NDArray[np.float32], n: int) -> NDArray[np.float32]:
        """Neighbours, as llama.cpp turns them, back to halves of a head."""
        rows, columns = values.shape
        return values.reshape(n, rows // n // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)

    def same(name: str, *parts: NDArray[np.float32]) -> None:
        packed = stored[f"{name}.packed"]
        ours = BlockQuantized(
            4, packed.reshape(len(packed), -1, 16), stored[f"{name}.scales.half"].reshape(len(packed), -1)
        )
        np.testing.assert_array_equal(ours.dequantize(), np.concatenate(parts), err_msg=name)

    same("model.embed_tokens", theirs["token_embd.weight"])
    for i in range(facts["n_layers"]):
        at, block = f"model.layers.{i}", f"blk.{i}"
        q, k = (halves(theirs[f"{block}.attn_{part}.weight"], heads[part]) for part in "qk")
        same(f"{at}.self_attn.qkv_proj", q, k, theirs[f"{block}.attn_v.weight"])
        same(f"{at}.self_attn.o_proj", theirs[f"{block}.attn_output.weight"])
        same(f"{at}.mlp.gate_up_proj", theirs[f"{block}.ffn_gate.weight"], theirs[f"{block}.ffn_up.weight"])
        same(f"{at}.mlp.down_proj", theirs[f"{block}.ffn_down.weight"])
        for norm, name in (("attn_norm", "input_layernorm"), ("ffn_norm", "post_attention_layernorm")):
            np.testing.assert_array_equal(stored[f"{at}.{name}.weight"], theirs[f"{block}.{norm}.weight"])


@pytest.mark.slow
def test_both_engines_give_the_same_calls() -> None:
    pytest.importorskip("llama_cpp")
    answers = []
    for name in ("nano", "nano-gguf"):
        session = load(name, tools=BUILTIN_TOOLS)
        answers.append([[(c.name, c.arguments) for c in session.complete(text).calls] for text in REQUESTS])
    assert answers[0] == answers[1]
