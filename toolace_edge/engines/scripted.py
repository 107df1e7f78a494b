"""An engine without a model: any function from tokens to logits, behind the whole Engine contract. For tests and docs.

    ScriptedEngine.replies(tokenizer_json, ["<|call|>{...}<|end|>"])   plays what it is given, reply after reply
    ScriptedEngine.noise(tokenizer_json, seed=1)                       random logits, the same for the same tokens
    ScriptedEngine(tokenizer_json, logits_of)                          anything else

Each is a pure function of the tokens in the cache.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from toolace_edge.engines.base import DEFAULT_CHUNK, check_forward, chunks
from toolace_edge.engines.turns import Turns
from toolace_edge.engines.vocabulary import Vocabulary
from toolace_edge.errors import ModelError

if TYPE_CHECKING:
    import llguidance
    from typing_extensions import Self

Logits = NDArray[np.float32]
LogitsOf = Callable[[Sequence[int]], Logits]
_FORMAT = "toolace-edge scripted cache 1"
_FIRST = 50.0  # the logit of what is said next


class ScriptedEngine:
    """`logits_of(tokens)` gives float32 [vocab_size] for the token after `tokens`; it must depend on them alone.

    `calls` records every `forward` as (number of ids, n_logits): what a real engine would have computed.
    """

    def __init__(
        self,
        tokenizer_json: str,
        logits_of: LogitsOf,
        *,
        n_ctx: int = 2048,
        chunk: int = DEFAULT_CHUNK,
        name: str = "scripted",
    ) -> None:
        self._vocabulary = Vocabulary(tokenizer_json)
        self._logits_of = logits_of
        self._n_ctx = n_ctx
        self._chunk = chunk
        self._name = name
        self._tokens: list[int] = []
        self._rows: Logits = np.zeros((0, self.vocab_size), np.float32)
        self.turns = Turns()
        self.cancelled: Callable[[], bool] | None = None
        self.calls: list[tuple[int, int]] = []

    @classmethod
    def noise(cls, tokenizer_json: str, *, seed: int = 0, scale: float = 3.0, n_ctx: int = 2048) -> ScriptedEngine:
        """Normal noise of deviation `scale`, a function of the seed and the last 16 tokens and their number."""
        size = Vocabulary(tokenizer_json).size

        def logits_of(tokens: Sequence[int]) -> Logits:
            key = crc32(np.asarray([len(tokens), *tokens[-16:]], np.int64).tobytes())
            return np.random.default_rng((seed, key)).normal(0.0, scale, size).astype(np.float32)

        return cls(tokenizer_json, logits_of, n_ctx=n_ctx, name=f"noise {seed} {scale}")

    @classmethod
    def replies(cls, tokenizer_json: str, replies: Sequence[str], *, n_ctx: int = 2048) -> ScriptedEngine:
        """Plays reply 0, and reply i + 1 where the reply that stands last in the context is i; the last one again.

        So a refinement of reply 0 gets reply 1, as does the next turn of a conversation. Replies are text with
        control tokens in it, end token included.
        """
        return cls(tokenizer_json, _Player(Vocabulary(tokenizer_json), replies), n_ctx=n_ctx, name=f"{list(replies)}")

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
        return f"{_FORMAT}: {self._name}"

    def encode(self, text: str, special: bool = False) -> list[int]:
        return self._vocabulary.encode(text, special)

    def decode(self, ids: Sequence[int]) -> bytes:
        return self._vocabulary.decode(ids)

    def forward(self, ids: Sequence[int], n_logits: int = 1) -> Logits:
        check_forward(self, ids, n_logits)
        self._rows.fill(np.nan)  # the old rows are no longer valid: whoever kept them shall notice
        rows = []
        first_row = len(self._tokens) + len(ids) - n_logits
        for part in chunks(self, ids, self._chunk):
            for token in part:
                self._tokens.append(int(token))
                if len(self._tokens) > first_row:
                    rows.append(self._logits_of(self._tokens))
        self.calls.append((len(ids), n_logits))
        self._rows = np.stack(rows).astype(np.float32)
        return self._rows

    def rewind(self, length: int) -> None:
        if not 0 <= length <= len(self._tokens):
            raise ValueError(f"rewind: {length} is not between 0 and {len(self._tokens)}")
        self._rows.fill(np.nan)
        del self._tokens[length:]

    def save(self, path: str | Path) -> None:
        content = {"fingerprint": self.fingerprint, "tokens": self._tokens}
        Path(path).write_text(json.dumps(content), encoding="utf-8")

    def load(self, path: str | Path) -> None:
        self.rewind(0)
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            fingerprint, tokens = content["fingerprint"], [int(token) for token in content["tokens"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{path}: this is not a saved cache: {error}.") from error
        if fingerprint != self.fingerprint or len(tokens) > self._n_ctx:
            raise ModelError(f"{path}: this cache was saved by another model or with other settings.")
        self._tokens = tokens

    def close(self) -> None:
        self.turns.end(self._tokens.clear)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _Player:
    """Logits that point at the token with which the reply whose turn it is goes on. Later ones are runners-up, as is
    the reply that stands last in the context; the first of all is the least likely to be written again.
    """

    def __init__(self, vocabulary: Vocabulary, replies: Sequence[str]) -> None:
        self._vocabulary = vocabulary
        self._replies = [reply.encode() for reply in replies]
        self._ids = {vocabulary.decode([token]): token for token in range(vocabulary.size)}

    def __call__(self, tokens: Sequence[int]) -> Logits:
        logits = np.zeros(self._vocabulary.size, np.float32)
        for rest, logit in self._rests(self._vocabulary.decode(tokens)):
            for length in range(1, min(len(rest), 32) + 1):  # where the grammar forbids one token, a shorter will do
                if logit == _FIRST and rest[:length] in self._ids:
                    logits[self._ids[rest[:length]]] = 10 + length
            token = self._vocabulary.encode(rest.decode(errors="replace"), special=True)[0]
            logits[token] = max(float(logits[token]), logit)
        return logits

    def _rests(self, context: bytes) -> list[tuple[bytes, float]]:
        """What is still to be written of each reply that may be meant, going by what the context ends with."""
        ends = [context.rfind(reply) for reply in self._replies]
        stands = ends.index(max(ends)) if max(ends) >= 0 else -1
        turn = min(stands + 1, len(ends) - 1)
        likely = {reply: _FIRST - 1.5 * place for place, reply in reversed([*enumerate(self._replies[turn:])])}
        if stands >= 0:
            likely.setdefault(self._replies[stands], _FIRST - (0.5 if stands else 3.0))
        written = max((_begun(reply, context) for reply in likely), key=len)
        rests = ((reply[len(written) :], logit) for reply, logit in likely.items() if reply.startswith(written))
        return sorted((one for one in rests if one[0]), key=lambda one: -one[1])


def _begun(reply: bytes, context: bytes) -> bytes:
    """As much of the reply as the context ends with."""
    return next(reply[:k] for k in range(len(reply), -1, -1) if k == 0 or context.endswith(reply[:k]))
