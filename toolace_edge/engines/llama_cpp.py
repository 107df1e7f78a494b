"""The GGUF engine: llama.cpp through llama-cpp-python's low-level API, one model and one sequence.

llama.cpp owns the cache and overwrites its logits with each call, so rows are copied out. Flash attention is off: on a
CPU it makes the short batches of constrained decoding slower. Not thread-safe.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from ctypes import c_uint8
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from toolace_edge.engines.amx import amx_finding, has_amx
from toolace_edge.engines.base import (
    DEFAULT_CHUNK,
    EXACT_WEIGHTS,
    check_forward,
    check_n_ctx,
    checked_threads,
    chunks,
    default_threads,
)
from toolace_edge.engines.cache_file import read_cache, weights_sha256, write_cache
from toolace_edge.engines.gguf_header import GgufHeader, read_header
from toolace_edge.engines.llama_float import as_float16
from toolace_edge.engines.llama_native import forget_log, last_words, native
from toolace_edge.engines.llama_vocabulary import open_vocabulary
from toolace_edge.engines.own_thread import OwnThread
from toolace_edge.engines.turns import Turns
from toolace_edge.errors import BudgetError, Cancelled, EngineError, ModelError

if TYPE_CHECKING:
    import llguidance
    from typing_extensions import Self

KvType = Literal["f16", "f32"]

_GGML_TYPES = {"f32": 0, "f16": 1}
_DEFAULT_N_CTX = 8192  # where the model allows more: Llama 3.1's 131,072 would take 16 GB
_SEQUENCE = 0
_ABORTED = 2  # llama_decode's status
# A call that reads many tokens, or is slow anyway, is asked in its midst whether to go on: microseconds an operation.
_LONG_PART = 16
_SLOW_BYTES = 1 << 30
_F32_CACHE_BYTES = 1 << 28  # up to this size a cache is exact; a larger one is halved


class LlamaCppEngine:
    """Opens the GGUF file at `path`.

    `threads` is cores - 1 unless given, `n_ctx` what the model was made for but at most 8192. `kv` is the type of the
    cached states: f16 costs half the memory of f32 and a logit error of about 3e-3; None is f32 up to 256 MiB.
    `repack` lets llama.cpp lay quantized weights out for this CPU (faster, twice the memory); None does so where it is
    known not to crash. `float16` computes with quantized weights as float16, so that nothing that they are multiplied
    with is rounded (llama_float.py); None does so up to EXACT_WEIGHTS.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int | None = None,
        n_ctx: int | None = None,
        kv: KvType | None = None,
        chunk: int = DEFAULT_CHUNK,
        repack: bool | None = None,
        float16: bool | None = None,
    ) -> None:
        self._path = Path(path)
        header = read_header(self._path)
        self._native = native()
        self._vocabulary = open_vocabulary(self._path, header.metadata)
        self._chunk = chunk
        self._tokens: list[int] = []
        self.turns = Turns()
        self.cancelled: Callable[[], bool] | None = None
        self._raised: BaseException | None = None  # by `cancelled`, where llama.cpp asked it
        self._thread: OwnThread | None = None
        self._float16 = header.quantized and (header.n_weights <= EXACT_WEIGHTS if float16 is None else float16)
        with ExitStack() as stack:
            self._model = self._open_model(stack, header, repack)
            self._n_ctx = self._choose_n_ctx(n_ctx)
            self._kv = kv or self._choose_kv()
            self._context = self._open_context(stack, checked_threads(threads))
            self._memory = self._native.llama_get_memory(self._context)
            self._batch = self._native.llama_batch_init(chunk, 0, 1)
            stack.callback(self._native.llama_batch_free, self._batch)
            self._abort, self._no_abort = self._abort_callback(), self._native.ggml_abort_callback()
            self._always_abortable = self._path.stat().st_size >= _SLOW_BYTES
            self._free = weakref.finalize(self, stack.pop_all().close)
            self._free.atexit = False  # the process gives all back, and a thread may still be in the midst of an answer
        self._fill_batch()

    def _open_model(self, stack: ExitStack, header: GgufHeader, repack: bool | None) -> Any:
        parameters = self._native.llama_model_default_params()
        parameters.n_gpu_layers = 0
        quantized = header.quantized and not self._float16
        if repack is None:
            repack = not quantized or amx_finding().usable
        parameters.use_extra_bufts = repack
        if repack and quantized and has_amx():
            self._thread = OwnThread()
            stack.callback(self._thread.close)
        model = self._load_model(parameters)
        if not model:
            raise ModelError(f"{self._path}: llama.cpp cannot load this model{last_words()}.")
        stack.callback(self._native.llama_model_free, model)
        if self._native.llama_model_has_encoder(model) or not self._native.llama_model_has_decoder(model):
            raise ModelError(f"{self._path}: this model does not write text from left to right.")
        return model

    def _load_model(self, parameters: Any) -> Any:
        source: AbstractContextManager[Path] = nullcontext(self._path)
        if self._float16:
            source = as_float16(self._native, self._path, default_threads())
            parameters.use_mmap = os.name != "nt"  # Windows removes no file that is mapped
        with source as file:
            forget_log()
            return self._native.llama_model_load_from_file(os.fsencode(file), parameters)

    def _choose_n_ctx(self, wanted: int | None) -> int:
        check_n_ctx(wanted)
        made_for: int = self._native.llama_model_n_ctx_train(self._model)
        if wanted is not None and not 1 <= wanted <= made_for:
            raise BudgetError(f"n_ctx is {wanted}, but {self._path.name} was made for 1 to {made_for} tokens.")
        return wanted or min(made_for, _DEFAULT_N_CTX)

    def _choose_kv(self) -> KvType:
        native, model = self._native, self._model
        if not native.llama_model_n_head(model):
            raise ModelError(f"{self._path}: a model without attention heads cannot forget a part of what it has read.")
        head = native.llama_model_n_embd(model) // native.llama_model_n_head(model)
        states = native.llama_model_n_layer(model) * native.llama_model_n_head_kv(model) * head * 2
        return "f32" if states * 4 * self._n_ctx <= _F32_CACHE_BYTES else "f16"

    def _open_context(self, stack: ExitStack, threads: int) -> Any:
        parameters = self._native.llama_context_default_params()
        parameters.n_ctx = self._n_ctx
        parameters.n_batch = parameters.n_ubatch = self._chunk
        parameters.n_seq_max = 1
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.flash_attn_type = 0
        parameters.type_k = parameters.type_v = _GGML_TYPES[self._kv]
        forget_log()
        context = self._native.llama_init_from_model(self._model, parameters)
        if not context:
            raise EngineError(f"{self._path}: llama.cpp cannot make a context of {self._n_ctx} tokens{last_words()}.")
        stack.callback(self._native.llama_free, context)
        return context

    def _abort_callback(self) -> Any:
        """Asked by llama.cpp between the operations of a call. It must not keep the engine alive."""
        this = weakref.ref(self)

        def cancelled(_data: object) -> bool:
            engine = this()
            if engine is None or engine.cancelled is None:
                return False
            try:
                return engine.cancelled()
            except BaseException as error:  # Ctrl-C too arrives here; ctypes would print it and go on
                engine._raised = error
                return True

        return self._native.ggml_abort_callback(cancelled)

    def _fill_batch(self) -> None:
        """What never changes in the batch, and numpy views of what does."""
        batch, shape = self._batch, (self._chunk,)
        for i in range(self._chunk):
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = _SEQUENCE
        self._batch_tokens = np.ctypeslib.as_array(batch.token, shape)
        self._batch_positions = np.ctypeslib.as_array(batch.pos, shape)
        self._batch_wanted = np.ctypeslib.as_array(batch.logits, shape)

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

    @cached_property
    def fingerprint(self) -> str:
        return f"llama.cpp 1 {weights_sha256(self._path)} {self._kv}{' float16' if self._float16 else ''}"

    def encode(self, text: str, special: bool = False) -> list[int]:
        return self._vocabulary.encode(text, special)

    def decode(self, ids: Sequence[int]) -> bytes:
        return self._vocabulary.decode(ids)

    def forward(self, ids: Sequence[int], n_logits: int = 1) -> NDArray[np.float32]:
        check_forward(self, ids, n_logits)
        rows = np.empty((n_logits, self.vocab_size), np.float32)
        first = len(self._tokens) + len(ids) - n_logits  # where the first row's id comes to lie
        for part in chunks(self, ids, self._chunk):
            silent = min(max(first - len(self._tokens), 0), len(part))
            row = len(self._tokens) + silent - first
            self._decode_part(part, silent)
            if wanted := len(part) - silent:
                logits = self._native.llama_get_logits(self._context)
                rows[row : row + wanted] = np.ctypeslib.as_array(logits, (wanted, self.vocab_size))
        return rows

    def _decode_part(self, part: Sequence[int], silent: int) -> None:
        """One native call; the first `silent` ids get no logits."""
        start, count = len(self._tokens), len(part)
        if min(part) < 0 or max(part) >= self.vocab_size:
            raise ValueError(f"forward: a token id is not between 0 and {self.vocab_size - 1}")
        self._batch.n_tokens = count
        self._batch_tokens[:count] = part
        self._batch_positions[:count] = np.arange(start, start + count)
        self._batch_wanted[:count] = np.arange(count) >= silent
        forget_log()
        abortable = self.cancelled is not None and (self._always_abortable or count >= _LONG_PART)
        callback = self._abort if abortable else self._no_abort
        self._native.llama_set_abort_callback(self._context, callback, None)
        self._raised = None
        status = None
        try:
            status = self._run_batch()
        finally:
            if status != 0:  # an interrupt leaves what was read unknown
                self._native.llama_memory_seq_rm(self._memory, _SEQUENCE, start, -1)
        if self._raised is not None:
            raise self._raised
        if status != 0:
            if status == _ABORTED:
                raise Cancelled("Cancelled while the model was running.")
            raise EngineError(f"llama.cpp could not run {count} tokens (status {status}){last_words()}.")
        self._tokens.extend(int(token) for token in part)

    def _run_batch(self) -> int:
        """What llama.cpp says of it."""
        decode, context, batch = self._native.llama_decode, self._context, self._batch
        status: int = decode(context, batch) if self._thread is None else self._thread.run(decode, context, batch)
        return status

    def rewind(self, length: int) -> None:
        if not 0 <= length <= len(self._tokens):
            raise ValueError(f"rewind: {length} is not between 0 and {len(self._tokens)}")
        if length == len(self._tokens):
            return
        if not self._native.llama_memory_seq_rm(self._memory, _SEQUENCE, length, -1):
            raise EngineError(f"{self._path.name}: this kind of model cannot forget a part of what it has read.")
        del self._tokens[length:]

    def save(self, path: str | Path) -> None:
        size = self._native.llama_state_seq_get_size(self._context, _SEQUENCE)
        states = (c_uint8 * size)()
        written = self._native.llama_state_seq_get_data(self._context, states, size, _SEQUENCE)
        if not written:
            raise EngineError("llama.cpp cannot give out the cached states.")
        write_cache(path, self.fingerprint, self._tokens, memoryview(states).cast("B")[:written])

    def load(self, path: str | Path) -> None:
        self.rewind(0)
        tokens, states = read_cache(path, self.fingerprint, self._n_ctx)
        buffer = (c_uint8 * len(states)).from_buffer_copy(states)
        forget_log()
        if not self._native.llama_state_seq_set_data(self._context, buffer, len(states), _SEQUENCE):
            self._native.llama_memory_clear(self._memory, True)
            raise ModelError(f"{path}: llama.cpp cannot take this saved cache{last_words()}.")
        self._tokens = tokens

    def close(self) -> None:
        self.turns.end(self._free)
        self._tokens = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
