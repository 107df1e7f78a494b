"""The ONNX graph of a decoder (families.py) with a key/value cache, built node by node: deterministic, no torch.

    inputs   input_ids int64 [1, n]
             logits_from int64 [1]: the first of the n positions whose logits are wanted
             total_sequence_length int32 []: tokens in the cache after this call; seqlens_k int32 [1]: one less
             past_key_values.{layer}.key|value float32 [1, n_kv_heads, capacity, head_dim]
    outputs  logits float32 [1, n - logits_from, vocab]
             present.{layer}.key|value, to be bound to the memory of the past

The heads, the rotation and the cache are one GroupQueryAttention a layer; query, key and value are one matrix, as are
gate and up. Where queries and keys are normalized (Qwen 3), they are split off first. A quantized weight is
MatMulNBits, and one that does not divide into blocks stays float32. With fp16 the weights are only stored so:
onnxruntime turns them into float32 once, as it loads them, and computes with that. Norms and biases are float32 always.
A tied embedding is stored once and read by both of its ends.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from toolace_edge.errors import ModelError

from .checkpoint import Checkpoint
from .config import ModelConfig
from .onnx_data import DataFile
from .quantize import BLOCK, quantizable, quantize_blocks

_BITS: dict[str, Literal[4, 8]] = {"int8": 8, "int4": 4}
MICROSOFT = "com.microsoft"
# MatMulNBits' accuracy_level, by what enters a matrix. In int8 each row of it is quantized by itself, a block at a
# time, so that a row's result does not depend on its neighbours. "head" is int8 but for the last matrix: its result is
# the logits, so that its rounding alone is half of what all of them do to a choice, and it is one matrix of many.
# No kernel multiplies eight bits with float32: onnxruntime widens such weights once, as it loads them.
_INT8, _FLOAT32 = 4, 1
ACTIVATIONS = {"int8": (_INT8, _INT8), "head": (_INT8, _FLOAT32), "float32": (_FLOAT32, _FLOAT32)}  # layers, head


def build_graph(
    checkpoint: Checkpoint,
    precision: str,
    n_ctx: int,
    name: str,
    data: DataFile | None = None,
    *,
    activations: str = "int8",
) -> onnx.ModelProto:
    """The whole model, weights inside or in `data`. `activations` (one of ACTIVATIONS) matters to quantized matrices.

    Raises ModelError where a weight is too large for fp16.
    """
    config = checkpoint.config
    graph = _Builder(precision, config, data, ACTIVATIONS[activations])
    graph.rotary_caches(n_ctx)
    hidden = graph.embed(checkpoint.tensor("model.embed_tokens.weight"))
    update = None
    for layer in range(config.n_layers):
        hidden, update = _layer(graph, checkpoint, layer, hidden, update)
    normed, _ = graph.norm("model.norm", checkpoint.tensor("model.norm.weight"), hidden, update)
    if config.tied:  # read again, as it is too large to be kept all the while
        graph.linear("model.embed_tokens", checkpoint.tensor("model.embed_tokens.weight"), normed, "logits")
    else:
        graph.linear("lm_head", checkpoint.tensor("lm_head.weight"), normed, "logits")
    return graph.model(name)


def _layer(graph: _Builder, checkpoint: Checkpoint, layer: int, hidden: str, update: str | None) -> tuple[str, str]:
    """One decoder layer. The residual stream is `hidden + update`, added where the next norm reads it."""
    at = f"model.layers.{layer}"
    attention, mlp = f"{at}.self_attn", f"{at}.mlp"

    def together(*names: str) -> NDArray[np.float32]:
        return np.concatenate([checkpoint.tensor(name) for name in names])

    norm = checkpoint.tensor(f"{at}.input_layernorm.weight")
    normed, hidden = graph.norm(f"{at}.input_layernorm", norm, hidden, update)
    projections = [f"{attention}.{part}_proj" for part in "qkv"]
    qkv = graph.linear(f"{attention}.qkv_proj", together(*(f"{name}.weight" for name in projections)), normed)
    if checkpoint.config.family.qkv_bias:
        qkv = graph.add(f"{attention}.qkv_proj.bias", together(*(f"{name}.bias" for name in projections)), qkv)
    if checkpoint.config.family.qk_norm:
        gains = [checkpoint.tensor(f"{attention}.{part}_norm.weight") for part in "qk"]
        heads = graph.attention(layer, *graph.normed_heads(attention, qkv, gains))
    else:
        heads = graph.attention(layer, qkv)
    if layer == checkpoint.config.n_layers - 1:  # behind the last keys and values, only the wanted positions matter
        heads, hidden = graph.wanted(f"{at}.heads", heads), graph.wanted(f"{at}.hidden", hidden)
    update = graph.linear(f"{attention}.o_proj", checkpoint.tensor(f"{attention}.o_proj.weight"), heads)
    norm = checkpoint.tensor(f"{at}.post_attention_layernorm.weight")
    normed, hidden = graph.norm(f"{at}.post_attention_layernorm", norm, hidden, update)
    gate_up = together(f"{mlp}.gate_proj.weight", f"{mlp}.up_proj.weight")
    activated = graph.gated(mlp, graph.linear(f"{mlp}.gate_up_proj", gate_up, normed))
    return hidden, graph.linear(f"{mlp}.down_proj", checkpoint.tensor(f"{mlp}.down_proj.weight"), activated)


class _Builder:
    """Nodes and weights so far. Methods take and give names of values; the name of a node is that of its output."""

    def __init__(self, precision: str, config: ModelConfig, data: DataFile | None, levels: tuple[int, int]) -> None:
        self.store = numpy_helper.from_array if data is None else data.add
        self.precision, self.bits, self.config = precision, _BITS.get(precision), config
        self.levels = levels
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, onnx.TensorProto] = {}

    def node(self, op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, outputs, name=outputs[0] or outputs[-1], **attributes))
        return outputs[0]

    def weight(self, name: str, values: NDArray[Any]) -> str:
        if name not in self.weights:
            self.weights[name] = self.store(np.ascontiguousarray(values), name)
        return name

    def matrix(self, name: str, values: NDArray[np.float32]) -> str:
        """A matrix that is not quantized, as float32."""
        if self.precision != "fp16":
            return self.weight(name, values)
        if f"{name}.half" not in self.weights:
            half = values.astype(np.float16)
            if not np.isfinite(half).all():
                raise ModelError(f"{name}: a weight is beyond what fp16 can hold.", hint="Convert to fp32.")
            self.node("Cast", [self.weight(f"{name}.half", half)], [name], to=TensorProto.FLOAT)
        return name

    def embed(self, table: NDArray[np.float32]) -> str:
        """Rows of the embedding, float32 [1, n, hidden_size]."""
        name = "model.embed_tokens"
        if self.bits is None or not quantizable(table):
            return self.node("Gather", [self.matrix(f"{name}.weight", table), "input_ids"], [f"{name}.out"])
        packed, scales = self._pack(name, table, self.bits)
        shape = self.weight(f"{name}.shape", np.array([table.shape[0], -1], np.int64))
        flat = self.node("Reshape", [packed, shape], [f"{name}.flat"])  # folded away when the model is loaded
        inputs, sizes = [flat, "input_ids", scales], {"bits": self.bits, "block_size": BLOCK}
        return self.node(
            "GatherBlockQuantized", inputs, [f"{name}.out"], domain=MICROSOFT, gather_axis=0, quantize_axis=1, **sizes
        )

    def linear(self, name: str, weight: NDArray[np.float32], x: str, out: str = "") -> str:
        """x @ weight.T; `weight` float32 [out_features, in_features]. A name that is stored already is not again."""
        out = out or f"{name}.out"
        if self.bits is None or not quantizable(weight):
            if {
                f"{name}.weight",
                f"{name}.weight.half",
            } & self.weights.keys():  # by the embedding
                turned = self.node("Transpose", [f"{name}.weight"], [f"{name}.turned"], perm=[1, 0])
            else:
                turned = self.matrix(f"{name}.weight", weight.T)
            return self.node("MatMul", [x, turned], [out])
        level = self.levels[out == "logits"]
        if self.bits == 8 and level == _FLOAT32:
            return self.node("MatMul", [x, self._widened(name, weight)], [out])
        inputs = [x, *self._pack(name, weight, self.bits)]
        sizes = {"N": weight.shape[0], "K": weight.shape[1], "bits": self.bits, "block_size": BLOCK}
        return self.node("MatMulNBits", inputs, [out], domain=MICROSOFT, accuracy_level=level, **sizes)

    def _pack(self, name: str, weight: NDArray[np.float32], bits: Literal[4, 8]) -> tuple[str, str]:
        """The names of the packed weight and of its scales, stored in fp16 and widened once as the model is loaded."""
        packed, scales = f"{name}.packed", f"{name}.scales"
        if packed not in self.weights:
            blocks = quantize_blocks(weight, bits)
            self.weight(packed, blocks.packed)
            if blocks.scales.dtype == np.float16:
                self.node("Cast", [self.weight(f"{scales}.half", blocks.scales)], [scales], to=TensorProto.FLOAT)
            else:
                self.weight(scales, blocks.scales)
        return packed, scales

    def _widened(self, name: str, weight: NDArray[np.float32]) -> str:
        """weight.T as float32, from its eight bits.

        All of it is folded away when the model is loaded, if the session takes no DequantizeLinear for a hint to round.
        """
        packed, scales = self._pack(name, weight, 8)
        shape = self.weight(f"{name}.whole", np.array(weight.shape, np.int64))
        flat = self.node("Reshape", [packed, shape], [f"{name}.rows"])
        turned = self.node("Transpose", [flat], [f"{name}.flat.turned"], perm=[1, 0])
        each = self.node("Transpose", [scales], [f"{name}.scales.turned"], perm=[1, 0])
        size = self.weight(f"{name}.blocks", np.array([weight.shape[1] // BLOCK, len(weight)], np.int64))
        zeros = self.node("Expand", [self.weight("int8.zero", np.array(128, np.uint8)), size], [f"{name}.zeros"])
        inputs, blocks = [turned, each, zeros], {"axis": 0, "block_size": BLOCK}
        return self.node("DequantizeLinear", inputs, [f"{name}.wide"], **blocks)

    def norm(self, name: str, gain: NDArray[np.float32], x: str, update: str | None) -> tuple[str, str]:
        """(RMS norm of x + update, x + update)."""
        weight, epsilon = self.weight(f"{name}.weight", gain), float(self.config.norm_eps)
        if update is None:
            return self.node("SimplifiedLayerNormalization", [x, weight], [f"{name}.out"], axis=-1, epsilon=epsilon), x
        outputs = [f"{name}.out", "", "", f"{name}.sum"]
        self.node("SkipSimplifiedLayerNormalization", [x, update, weight], outputs, domain=MICROSOFT, epsilon=epsilon)
        return outputs[0], outputs[3]

    def add(self, name: str, bias: NDArray[np.float32], x: str) -> str:
        """x + bias, which stays float32."""
        return self.node("Add", [x, self.weight(name, bias)], [f"{name}.out"])

    def normed_heads(self, name: str, qkv: str, gains: list[NDArray[np.float32]]) -> list[str]:
        """Query, key and value apart; each head of the first two normed over its own elements. `gains`: of both."""
        config = self.config
        parts = [f"{name}.{part}" for part in "qkv"]
        counts = [config.n_heads, config.n_kv_heads, config.n_kv_heads]
        sizes = self.weight("qkv.sizes", np.array([count * config.head_dim for count in counts], np.int64))
        self.node("Split", [qkv, sizes], parts, axis=-1)
        for i, gain in enumerate(gains):
            split = self.weight(f"heads.{counts[i]}", np.array([0, 0, counts[i], config.head_dim], np.int64))
            heads = self.node("Reshape", [parts[i], split], [f"{parts[i]}.heads"])
            normed, _ = self.norm(f"{parts[i]}_norm", gain, heads, None)
            joined = self.weight("heads.joined", np.array([0, 0, -1], np.int64))
            parts[i] = self.node("Reshape", [normed, joined], [f"{parts[i]}.normed"])
        return parts

    def attention(self, layer: int, query: str, key: str = "", value: str = "") -> str:
        """Without `key` and `value`, `query` is all three, one after the other."""
        past = [f"past_key_values.{layer}.{part}" for part in ("key", "value")]
        present = [f"present.{layer}.{part}" for part in ("key", "value")]
        inputs = [query, key, value, *past, "seqlens_k", "total_sequence_length", "rotary.cos", "rotary.sin"]
        outputs = [f"model.layers.{layer}.self_attn.out", *present]
        heads = {"num_heads": self.config.n_heads, "kv_num_heads": self.config.n_kv_heads}
        return self.node("GroupQueryAttention", inputs, outputs, domain=MICROSOFT, do_rotary=1, **heads)

    def gated(self, name: str, gate_up: str) -> str:
        gate, up = f"{name}.gate", f"{name}.up"
        self.node("Split", [gate_up], [gate, up], axis=-1, num_outputs=2)
        silu = self.node("QuickGelu", [gate], [f"{name}.silu"], domain=MICROSOFT, alpha=1.0)
        return self.node("Mul", [silu, up], [f"{name}.product"])

    def wanted(self, name: str, x: str) -> str:
        """The positions of x from `logits_from` on."""
        end = self.weight("wanted.end", np.array([np.iinfo(np.int64).max], np.int64))
        axis = self.weight("wanted.axis", np.array([1], np.int64))
        return self.node("Slice", [x, "logits_from", end, axis], [f"{name}.wanted"])

    def rotary_caches(self, n_ctx: int) -> None:
        angles = np.arange(n_ctx)[:, None] * self.config.rope_frequencies()[None]
        self.weight("rotary.cos", np.cos(angles).astype(np.float32))
        self.weight("rotary.sin", np.sin(angles).astype(np.float32))

    def model(self, name: str) -> onnx.ModelProto:
        cache = [1, self.config.n_kv_heads, "capacity", self.config.head_dim]
        parts = [f"{layer}.{part}" for layer in range(self.config.n_layers) for part in ("key", "value")]

        def floats(value: str, shape: list[Any]) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(value, TensorProto.FLOAT, shape)

        inputs = [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "n"]),
            helper.make_tensor_value_info("logits_from", TensorProto.INT64, [1]),
            helper.make_tensor_value_info("seqlens_k", TensorProto.INT32, [1]),
            helper.make_tensor_value_info("total_sequence_length", TensorProto.INT32, []),
            *(floats(f"past_key_values.{part}", cache) for part in parts),
        ]
        outputs = [floats("logits", [1, "n_logits", self.config.vocab_size])]
        outputs += [floats(f"present.{part}", cache) for part in parts]
        graph = helper.make_graph(self.nodes, name, inputs, outputs, list(self.weights.values()))
        blocks = "int8.zero" in self.weights  # DequantizeLinear has them since opset 21
        opsets = [helper.make_opsetid("", 21 if blocks else 18), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=10 if blocks else 9, producer_name="toolace-edge"
        )
