"""The importance matrix: how large the inputs of each linear layer are, measured on conversations with tool calls.

A quantizer that knows the mean square of every column of a layer's input spends its bits where they count. The
checkpoint runs in transformers one layer at a time over all the tokens, so that an 8B model needs the memory of a
layer and not of a model. The file is llama.cpp's own GGUF form, which its tools read too: for each tensor NAME the
sums `NAME.in_sum2`, float32 [columns], and the number of tokens `NAME.counts`, float32 [1].
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toolace_edge.engines.base import default_threads
from toolace_edge.engines.vocabulary import Vocabulary
from toolace_edge.errors import InputError, MissingDependency
from toolace_edge.examples import Example
from toolace_edge.formats.base import Format
from toolace_edge.prompts import build_prompt, encode_pieces

from .checkpoint import Checkpoint
from .child import Progress
from .torch_model import transformers_config

if TYPE_CHECKING:
    import torch

MAX_TOKENS = 32_768  # of all conversations together; more moves the means by little
_LAYER_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_HINT = "Give an importance matrix in llama.cpp's GGUF form, or a data file as for `toolace-edge eval`."


@dataclass(frozen=True, slots=True)
class Importance:
    """`sums`: by GGUF tensor name, the squared inputs of each column, float32 [columns], over `n_tokens`."""

    sums: Mapping[str, NDArray[np.float32]]
    n_tokens: int
    data: str

    @property
    def means(self) -> dict[str, NDArray[np.float32]]:
        """What the quantizer takes, float32 [columns]; the same from a file as before it was written."""
        return {name: np.asarray(total / np.float32(self.n_tokens), np.float32) for name, total in self.sums.items()}


def tool_call_sequences(checkpoint: Checkpoint, fmt: Format, examples: Iterable[Example]) -> list[list[int]]:
    """Token ids of prompt and right answer of each example, MAX_TOKENS in all. InputError where none can be used."""
    vocabulary = Vocabulary(checkpoint.tokenizer_json, checkpoint.config.vocab_size)
    sequences: list[list[int]] = []
    left = MAX_TOKENS
    for example in examples:
        if left <= 0:
            break
        if example.refused is None:
            ids = build_prompt(vocabulary, fmt, example.tools, example.messages).ids
            ids += encode_pieces(vocabulary, fmt.render_answer(example.gold, ""))
            sequences.append(ids[: min(left, checkpoint.config.n_ctx)])
            left -= len(sequences[-1])
    if not sequences:
        raise InputError("No line of the data can be used to measure importance: the tools of all are refused.")
    return sequences


def measure_importance(
    checkpoint: Checkpoint,
    sequences: Sequence[Sequence[int]],
    *,
    data: str = "",
    on_progress: Progress | None = None,
) -> Importance:
    """Run `sequences` of token ids through the checkpoint. A forward pass over each, in float32."""
    try:
        import torch
        import transformers
    except ImportError as error:
        raise MissingDependency("transformers", "convert") from error
    config = transformers_config(checkpoint)
    models: Any = transformers.AutoModelForCausalLM
    with torch.device("meta"):
        model = models.from_config(config, dtype=torch.float32, attn_implementation="sdpa")
    sums: dict[str, NDArray[np.float64]] = {}
    with _threads(torch), torch.inference_mode():
        embedding = torch.from_numpy(checkpoint.tensor("model.embed_tokens.weight"))
        states = [embedding[torch.tensor(list(ids))][None] for ids in sequences]
        rotary = type(model.model.rotary_emb)(config)
        places = [rotary(one, torch.arange(one.shape[1])[None]) for one in states]
        for i, layer in enumerate(model.model.layers):
            _load(checkpoint, layer, f"model.layers.{i}")
            with _recorded(layer, f"blk.{i}", sums):
                states = [_run(layer, one, place) for one, place in zip(states, places, strict=True)]
            layer.to("meta")  # frees it
            if on_progress is not None:
                on_progress(i + 1, checkpoint.config.n_layers)
        _load(checkpoint, model.model.norm, "model.norm")
        last = sum(_squares(model.model.norm(one)) for one in states)
    head = "token_embd.weight" if checkpoint.config.tied else "output.weight"
    totals = {name: total.astype(np.float32) for name, total in {**sums, head: np.asarray(last)}.items()}
    return Importance(totals, sum(map(len, sequences)), data)


def _load(checkpoint: Checkpoint, module: torch.nn.Module, prefix: str) -> None:
    """The checkpoint's weights into a module that has none yet."""
    import torch

    module.to_empty(device="cpu")
    module.eval()
    for name, parameter in module.named_parameters():
        parameter.copy_(torch.from_numpy(checkpoint.tensor(f"{prefix}.{name}")))


def _run(layer: Any, states: torch.Tensor, place: Any) -> torch.Tensor:
    """One layer over one sequence, float32 [1, n, width]; without a mask attention is causal."""
    out = layer(states, attention_mask=None, position_embeddings=place)
    result: torch.Tensor = out[0] if isinstance(out, tuple) else out
    return result


@contextmanager
def _recorded(layer: torch.nn.Module, prefix: str, sums: dict[str, NDArray[np.float64]]) -> Iterator[None]:
    """Adds up the squares of what goes into the linear layers of `layer` while it runs."""
    handles = []
    for name, module in layer.named_modules():
        if name not in _LAYER_NAMES:
            continue

        def hook(_module: Any, inputs: Any, name: str = f"{prefix}.{_LAYER_NAMES[name]}.weight") -> None:
            sums[name] = sums.get(name, 0) + _squares(inputs[0])

        handles.append(module.register_forward_pre_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _squares(states: torch.Tensor) -> NDArray[np.float64]:
    """float64 [columns]: the sum over all positions."""
    return np.asarray(states.double().square().flatten(0, -2).sum(0).numpy())


@contextmanager
def _threads(torch: Any) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(default_threads())
    try:
        yield
    finally:
        torch.set_num_threads(before)


def write_importance(file: Path, importance: Importance) -> Path:
    """In llama.cpp's GGUF form; written aside and renamed."""
    gguf = _gguf()
    aside = file.with_name(f".{file.name}.part")
    try:
        writer = gguf.GGUFWriter(aside, "imatrix")
        writer.add_type("imatrix")
        writer.add_array("imatrix.datasets", [importance.data])
        writer.add_uint32("imatrix.chunk_count", 1)
        writer.add_uint32("imatrix.chunk_size", importance.n_tokens)
        for name, total in importance.sums.items():
            writer.add_tensor(f"{name}.in_sum2", total)
            writer.add_tensor(f"{name}.counts", np.array([importance.n_tokens], np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)
    return file


def is_importance(file: Path) -> bool:
    """Whether it is such a file, and not data to measure on."""
    with file.open("rb") as stream:
        return stream.read(4) == b"GGUF"


def read_importance(file: Path) -> Importance:
    """A file as `write_importance` or llama.cpp's llama-imatrix writes it. InputError where it is not one."""
    gguf = _gguf()
    try:
        reader = gguf.GGUFReader(file)
        tensors = {tensor.name: np.array(tensor.data, np.float32) for tensor in reader.tensors}
    except (ValueError, KeyError, IndexError, TypeError, OSError, OverflowError, MemoryError) as error:
        raise InputError(f"{file} is not a readable importance matrix: {error}.", hint=_HINT) from error
    names = [name.removesuffix(".in_sum2") for name in tensors if name.endswith(".in_sum2")]
    counts = {name: tensors.get(f"{name}.counts", np.zeros(1, np.float32)) for name in names}
    for name in names:
        if counts[name].size != 1 or not counts[name].item() >= 1 or not np.isfinite(tensors[f"{name}.in_sum2"]).all():
            raise InputError(f"{file}: the entry {name!r} is damaged, or of a mixture of experts.", hint=_HINT)
    if not names:
        raise InputError(f"{file} is a GGUF file, but holds no importance matrix.", hint=_HINT)
    most = max(count.item() for count in counts.values())
    sums = {name: tensors[f"{name}.in_sum2"].ravel() * np.float32(most / counts[name].item()) for name in names}
    return Importance(sums, int(most), file.name)


def _gguf() -> Any:
    try:
        import gguf
    except ImportError as error:
        raise MissingDependency("gguf", "convert") from error
    return gguf
