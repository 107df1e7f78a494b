"""The ONNX engine: onnxruntime on a model folder that convert/onnx.py wrote (onnx_graph.py there names the inputs).

The cache is one float32 array [1, n_kv_heads, n_ctx, head_dim] for the keys and one for the values of each layer,
bound once as the graph's past and its present: a call writes its own positions in place, and rewinding is a shorter
count. Threads do not spin while they wait: spinning would take a core from everybody else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toolace_edge.engines.base import DEFAULT_CHUNK, check_forward, chunks, default_threads
from toolace_edge.engines.cache_file import read_cache, write_cache
from toolace_edge.engines.onnx_folder import OnnxFolder, read_folder
from toolace_edge.engines.vocabulary import Vocabulary
from toolace_edge.errors import BudgetError, EngineError, ModelError

if TYPE_CHECKING:
    import llguidance
    from typing_extensions import Self

_INPUTS = ("input_ids", "logits_from", "seqlens_k", "total_sequence_length")
_DEFAULT_N_CTX = 8192  # where the model allows more
_FATAL_ONLY = 4  # onnxruntime's log level: what fails is raised, and need not be printed too


class OnnxEngine:
    """Opens the model folder `path`, or the one that the file `path` lies in.

    `threads` is cores - 1 unless given, `n_ctx` what the model was made for but at most 8192.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int | None = None,
        n_ctx: int | None = None,
        chunk: int = DEFAULT_CHUNK,
    ) -> None:
        folder = read_folder(Path(path))
        self._vocabulary = Vocabulary(
            folder.tokenizer_json, folder.vocab_size, str(folder.model_file.with_name("tokenizer.json"))
        )
        self._fingerprint = f"onnxruntime 1 {folder.sha256} f32"
        self._n_ctx = _choose_n_ctx(folder, n_ctx)
        self._chunk = chunk
        self._tokens: list[int] = []
        self.cancelled: Callable[[], bool] | None = None
        self._session = _open_session(folder, threads or default_threads())
        self._states = _allocate(folder, self._n_ctx)
        self._binding = self._bind()

    def _bind(self) -> Any:
        """Past and present to the same memory, once and for all. The values keep the arrays alive."""
        import onnxruntime

        binding = self._session.io_binding()
        self._values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in self._states.values()]
        for name, value in zip(self._states, self._values, strict=True):
            binding.bind_ortvalue_input(f"past_key_values.{name}", value)
            binding.bind_ortvalue_output(f"present.{name}", value)
        return binding

    @property
    def vocab_size(self) -> int:
        return self._vocabulary.size

    @property
    def n_ctx(self) -> int:
        return self._n_ctx

    @property
    def tokens(self) -> Sequence[int]:
        return self._tokens

    @property
    def tokenizer(self) -> llguidance.LLTokenizer:
        return self._vocabulary.llguidance

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def encode(self, text: str, special: bool = False) -> list[int]:
        return self._vocabulary.encode(text, special)

    def decode(self, ids: Sequence[int]) -> bytes:
        return self._vocabulary.decode(ids)

    def forward(self, ids: Sequence[int], n_logits: int = 1) -> NDArray[np.float32]:
        check_forward(self, ids, n_logits)
        if min(ids) < 0 or max(ids) >= self.vocab_size:
            raise ValueError(f"forward: a token id is not between 0 and {self.vocab_size - 1}")
        rows = np.empty((n_logits, self.vocab_size), np.float32)
        first = len(self._tokens) + len(ids) - n_logits  # where the first row's id comes to lie
        for part in chunks(self, ids, self._chunk):
            end = len(self._tokens) + len(part)
            # The graph gives one row at least. A chunk without a wanted one writes to row 0, which is written later.
            wanted = max(min(end - first, len(part)), 1)
            row = max(end - first - wanted, 0)
            self._run(part, rows[row : row + wanted])
        return rows

    def _run(self, part: Sequence[int], rows: NDArray[np.float32]) -> None:
        """One native call: append `part`, write the logits of its last positions into `rows`."""
        binding, count = self._binding, len(part)
        length = len(self._tokens) + count
        binding.bind_cpu_input("input_ids", np.asarray(part, np.int64).reshape(1, count))
        binding.bind_cpu_input("logits_from", np.asarray([count - len(rows)], np.int64))
        binding.bind_cpu_input("seqlens_k", np.asarray([length - 1], np.int32))
        binding.bind_cpu_input("total_sequence_length", np.asarray(length, np.int32))
        binding.bind_output("logits", "cpu", 0, np.float32, (1, *rows.shape), rows.ctypes.data)
        try:
            self._session.run_with_iobinding(binding)
        except _native_errors() as error:
            raise EngineError(f"onnxruntime could not run {count} tokens: {error}.") from error
        self._tokens.extend(int(token) for token in part)

    def rewind(self, length: int) -> None:
        if not 0 <= length <= len(self._tokens):
            raise ValueError(f"rewind: {length} is not between 0 and {len(self._tokens)}")
        del self._tokens[length:]

    def save(self, path: str | Path) -> None:
        """States as float32 [layers * 2, n_kv_heads, tokens, head_dim], in the machine's byte order."""
        length = len(self._tokens)
        states = np.stack([array[0, :, :length] for array in self._states.values()])
        write_cache(path, self.fingerprint, self._tokens, states.tobytes())

    def load(self, path: str | Path) -> None:
        self.rewind(0)
        tokens, states = read_cache(path, self.fingerprint, self._n_ctx)
        arrays = list(self._states.values())
        _, n_kv_heads, _, head_dim = arrays[0].shape
        shape = (len(arrays), n_kv_heads, len(tokens), head_dim)
        values = np.frombuffer(states, np.float32) if len(states) % 4 == 0 else np.empty(0, np.float32)
        in_vocabulary = all(0 <= token < self.vocab_size for token in tokens)
        if values.size != np.prod(shape) or not in_vocabulary or not np.isfinite(values).all():
            raise ModelError(f"{path}: the saved cache is damaged.")
        for array, saved in zip(arrays, values.reshape(shape), strict=True):
            array[0, :, : len(tokens)] = saved
        self._tokens = tokens

    def close(self) -> None:
        self._tokens = []
        self._binding = self._session = None
        self._values = []
        self._states = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _choose_n_ctx(folder: OnnxFolder, wanted: int | None) -> int:
    if wanted is not None and not 1 <= wanted <= folder.n_ctx:
        raise BudgetError(f"n_ctx is {wanted}, but {folder.model_file} was made for 1 to {folder.n_ctx} tokens.")
    return wanted or min(folder.n_ctx, _DEFAULT_N_CTX)


def _allocate(folder: OnnxFolder, n_ctx: int) -> dict[str, NDArray[np.float32]]:
    """The cache, by `{layer}.key` and `{layer}.value`; the system hands out its memory as it is first written."""
    shape = (1, folder.n_kv_heads, n_ctx, folder.head_dim)
    try:
        return {name: np.zeros(shape, np.float32) for name in _state_names(folder)}
    except (MemoryError, ValueError) as error:
        raise EngineError(f"There is no memory for a cache of {n_ctx} tokens.", hint="Give a smaller n_ctx.") from error


def _state_names(folder: OnnxFolder) -> list[str]:
    return [f"{layer}.{part}" for layer in range(folder.n_layers) for part in ("key", "value")]


def _open_session(folder: OnnxFolder, threads: int) -> Any:
    """A session whose inputs have the shapes that toolace.json promises, as the cache is laid out by it."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # Windows builds report to the system unless told not to
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    options.enable_mem_pattern = False  # would remember a plan for every chunk length
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(folder.model, options, providers=["CPUExecutionProvider"])
    except _native_errors() as error:
        raise ModelError(f"{folder.model_file}: onnxruntime cannot load this model: {error}.") from error
    shapes = {value.name: value.shape for value in (*session.get_inputs(), *session.get_outputs())}
    states = [f"past_key_values.{name}" for name in _state_names(folder)]
    outputs = ["logits", *(f"present.{name}" for name in _state_names(folder))]
    if shapes.keys() != {*_INPUTS, *states, *outputs}:
        raise ModelError(f"{folder.model_file} has other inputs or outputs than toolace.json says.")
    heads = {(shape[1], shape[3]) for shape in map(shapes.__getitem__, states)}
    if heads != {(folder.n_kv_heads, folder.head_dim)} or shapes["logits"][-1] != folder.vocab_size:
        raise ModelError(f"{folder.model_file} has other sizes than toolace.json says.")
    return session


@cache
def _native_errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises: its own kinds, which share no base but Exception, and pybind11's."""
    from onnxruntime.capi import onnxruntime_pybind11_state as native

    kinds = [kind for kind in vars(native).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (*kinds, RuntimeError, ValueError)
