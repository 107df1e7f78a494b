"""The ONNX engine: onnxruntime on a model folder that convert/onnx.py wrote.

The names of a graph's inputs say how it keeps its cache: in place (onnx_in_place.py: what our converter builds), or
growing with each call (onnx_growing.py: what optimum exports). Rewinding is a shorter count, whichever it is. Threads
do not spin while they wait: spinning would take a core from everybody else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from toolace_edge.engines.base import check_forward, check_n_ctx, checked_threads, chunks
from toolace_edge.engines.cache_file import read_cache, write_cache
from toolace_edge.engines.onnx_folder import OnnxFolder, read_folder
from toolace_edge.engines.onnx_growing import GrowingGraph
from toolace_edge.engines.onnx_in_place import InPlaceGraph
from toolace_edge.engines.onnx_native import native
from toolace_edge.engines.turns import Turns
from toolace_edge.engines.vocabulary import Vocabulary
from toolace_edge.errors import BudgetError, EngineError, ModelError

if TYPE_CHECKING:
    import llguidance
    from typing_extensions import Self

_KINDS = (InPlaceGraph, GrowingGraph)
# A cancel waits for the native call that runs. With 64 tokens the bundled model's takes 40 ms on two cores, with 256
# 170 ms, and a whole prompt takes as long either way.
CHUNK = 64
_DEFAULT_N_CTX = 8192  # where the model allows more
_FATAL_ONLY = 4  # onnxruntime's log level: what fails is raised, and need not be printed too
_BESIDE = "session.model_external_initializers_file_folder_path"  # where weights lie that are not in the model's bytes


class Graph(Protocol):
    """A kind of graph with its cache, whose states are float32 [layers * 2, n_kv_heads, tokens, head_dim]."""

    def run(self, ids: NDArray[np.int64], past: int, rows: NDArray[np.float32]) -> None:
        """Append `ids` behind the first `past` cached tokens; the logits of the last ones go into `rows`."""

    def read(self, length: int) -> NDArray[np.float32]:
        """A copy of the first `length` tokens' states."""

    def write(self, states: NDArray[np.float32]) -> None:
        """Replace the cache by `states`."""


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
        chunk: int = CHUNK,
    ) -> None:
        folder = read_folder(Path(path))
        self._vocabulary = Vocabulary(
            folder.tokenizer_json, folder.vocab_size, str(folder.model_file.with_name("tokenizer.json"))
        )
        self._fingerprint = f"onnxruntime 1 {folder.sha256} f32"
        self._n_ctx = _choose_n_ctx(folder, n_ctx)
        self._chunk = chunk
        self._tokens: list[int] = []
        self.turns = Turns()
        self.cancelled: Callable[[], bool] | None = None
        session = _open_session(folder, checked_threads(threads))
        self._graph: Graph | None = _open_graph(session, folder, self._n_ctx)
        self._states_shape = (2 * folder.n_layers, folder.n_kv_heads, folder.head_dim)

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
        assert self._graph is not None  # closed
        try:
            self._graph.run(np.asarray(part, np.int64), len(self._tokens), rows)
        except _native_errors() as error:
            raise EngineError(f"onnxruntime could not run {len(part)} tokens: {error}.") from error
        self._tokens.extend(int(token) for token in part)

    def rewind(self, length: int) -> None:
        if not 0 <= length <= len(self._tokens):
            raise ValueError(f"rewind: {length} is not between 0 and {len(self._tokens)}")
        del self._tokens[length:]

    def save(self, path: str | Path) -> None:
        """States as float32 [layers * 2, n_kv_heads, tokens, head_dim], in the machine's byte order."""
        assert self._graph is not None
        write_cache(path, self.fingerprint, self._tokens, self._graph.read(len(self._tokens)).tobytes())

    def load(self, path: str | Path) -> None:
        assert self._graph is not None
        self.rewind(0)
        tokens, states = read_cache(path, self.fingerprint, self._n_ctx)
        n_states, n_kv_heads, head_dim = self._states_shape
        shape = (n_states, n_kv_heads, len(tokens), head_dim)
        values = np.frombuffer(states, np.float32) if len(states) % 4 == 0 else np.empty(0, np.float32)
        in_vocabulary = all(0 <= token < self.vocab_size for token in tokens)
        if values.size != np.prod(shape) or not in_vocabulary or not np.isfinite(values).all():
            raise ModelError(f"{path}: the saved cache is damaged.")
        self._graph.write(values.reshape(shape))
        self._tokens = tokens

    def close(self) -> None:
        self.turns.end(self._free)

    def _free(self) -> None:
        self._tokens = []
        self._graph = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _choose_n_ctx(folder: OnnxFolder, wanted: int | None) -> int:
    check_n_ctx(wanted)
    if wanted is not None and not 1 <= wanted <= folder.n_ctx:
        raise BudgetError(f"n_ctx is {wanted}, but {folder.model_file} was made for 1 to {folder.n_ctx} tokens.")
    return wanted or min(folder.n_ctx, _DEFAULT_N_CTX)


def _open_session(folder: OnnxFolder, threads: int) -> Any:
    onnxruntime = native()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    options.enable_mem_pattern = False  # would remember a plan for every chunk length
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # What a file dequantizes is float from then on, and no hint to round what it is multiplied with.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.add_session_config_entry(_BESIDE, str(folder.model_file.parent))
    try:
        session = onnxruntime.InferenceSession(folder.model, options, providers=["CPUExecutionProvider"])
    except _native_errors() as error:
        raise ModelError(f"{folder.model_file}: onnxruntime cannot load this model: {error}.") from error
    return session


def _open_graph(session: Any, folder: OnnxFolder, n_ctx: int) -> Graph:
    """The graph by the names of its inputs, whose shapes must be those that toolace.json promises."""
    shapes = {value.name: value.shape for value in (*session.get_inputs(), *session.get_outputs())}
    states = [f"{layer}.{part}" for layer in range(folder.n_layers) for part in ("key", "value")]
    past = [f"past_key_values.{name}" for name in states]
    others = {"logits", *past, *(f"present.{name}" for name in states)}
    kind = next((kind for kind in _KINDS if shapes.keys() == kind.INPUTS | others), None)
    if kind is None:
        raise ModelError(f"{folder.model_file} has other inputs or outputs than toolace.json says.")
    heads = {(shape[1], shape[3]) for shape in map(shapes.__getitem__, past) if len(shape) == 4}
    if heads != {(folder.n_kv_heads, folder.head_dim)} or shapes["logits"][-1:] != [folder.vocab_size]:
        raise ModelError(f"{folder.model_file} has other sizes than toolace.json says.")
    try:
        return kind(session, states, (folder.n_kv_heads, n_ctx, folder.head_dim))
    except (MemoryError, ValueError) as error:
        raise EngineError(f"There is no memory for a cache of {n_ctx} tokens.", hint="Give a smaller n_ctx.") from error


@cache
def _native_errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises: its own kinds, which share no base but Exception, and pybind11's."""
    state = native().capi.onnxruntime_pybind11_state
    kinds = [kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (*kinds, RuntimeError, ValueError)
