"""Fewer tokens for a base: those that tool calling needs, our special ones, and the merges among them.

A tenth of a small model's file is its embedding, most of it words that no request says. A token stays if it is used
often enough, and whatever it is merged from stays with it, so that the rest of the rules still apply as they did.
Tokens in which JSON's punctuation sticks to something else go, all but three joints: a string's end is then one
token, and a choice of its own. Bytes that the base had no token for get one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from torch import Tensor

from toolace_edge.formats import compact

_JSON = frozenset('"{}[]:,')
_JOINTS = ('":', ',"', '{"')
# What a base has that comes nearest to a marker of ours; its embedding starts from there.
_NEAREST = {
    compact.BEGIN: "<|im_start|>",
    compact.END: "<|im_end|>",
    compact.USER: "user",
    compact.SYSTEM: "system",
    compact.TOOL: "<file_sep>",
    compact.CALL: "<jupyter_code>",
    compact.RESULT: "<jupyter_output>",
    compact.REFINE: "<issue_comment>",
}


def smollm_tokenizer(vocab: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> Tokenizer:
    """Byte-level BPE with SmolLM's cuts: each digit alone, then GPT-2's words."""
    tokenizer = Tokenizer(BPE(vocab=dict(vocab), merges=list(merges)))
    digits = pre_tokenizers.Digits(individual_digits=True)
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def usage(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[str]:
    """How often each token occurs."""
    counts: Counter[str] = Counter()
    part: list[str] = []
    for text in texts:
        part.append(text)
        if len(part) == 2000:
            _count(tokenizer, part, counts)
            part.clear()
    _count(tokenizer, part, counts)
    return counts


def _count(tokenizer: Tokenizer, texts: Sequence[str], counts: Counter[str]) -> None:
    for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False):
        counts.update(encoding.tokens)


def kept_merges(merges: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Without those that make JSON's punctuation part of a longer token, but for the joints."""
    return [(a, b) for a, b in merges if a + b in _JOINTS or not _JSON & set(a + b)]


def cut_vocabulary(
    tokens: Sequence[str], merges: Sequence[tuple[str, str]], worth: Mapping[str, float], size: int
) -> tuple[Tokenizer, list[str | None]]:
    """The tokenizer of `size` tokens that keeps what is worth most, and for each new id the old token that it is.

    None stands for what the base has nothing near to.
    """
    parents: dict[str, tuple[str, str]] = {}
    for left, right in merges:
        parents.setdefault(left + right, (left, right))
    kept = {*pre_tokenizers.ByteLevel.alphabet(), *_JOINTS}
    room = size - len(compact.SPECIAL_TOKENS)
    for token in sorted(worth.keys() - set(compact.SPECIAL_TOKENS), key=lambda token: (-worth[token], token)):
        family = _family(token, parents) - kept
        if len(kept) + len(family) <= room:
            kept |= family
    place = {token: i for i, token in enumerate(tokens)}
    ordered = [*compact.SPECIAL_TOKENS, *sorted(kept, key=lambda token: (place.get(token, len(place)), token))]
    vocab = {token: i for i, token in enumerate(ordered)}
    tokenizer = smollm_tokenizer(vocab, [(a, b) for a, b in merges if {a, b, a + b} <= vocab.keys()])
    tokenizer.add_special_tokens(list(compact.SPECIAL_TOKENS))
    old = [_NEAREST.get(t) if t in compact.SPECIAL_TOKENS else t for t in ordered]
    return tokenizer, [token if token in place else None for token in old]


def _family(token: str, parents: Mapping[str, tuple[str, str]]) -> set[str]:
    """The token and all that it is merged from."""
    family, waiting = set(), [token]
    while waiting:
        one = waiting.pop()
        if one not in family:
            family.add(one)
            waiting += parents.get(one, ())
    return family


def cut_embedding(embedding: Tensor, tokens: Sequence[str], origin: Sequence[str | None]) -> Tensor:
    """The rows of `embedding` [tokens, width] in the new order; new tokens start near the mean."""
    place = {token: i for i, token in enumerate(tokens)}
    noise = torch.Generator().manual_seed(0)
    mean, spread = embedding.mean(0), float(embedding.std()) * 0.3
    fresh = (mean + torch.randn(embedding.shape[1], generator=noise) * spread for _ in origin)
    return torch.stack([next(fresh) if token is None else embedding[place[token]] for token in origin])
