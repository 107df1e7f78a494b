"""A byte-level BPE tokenizer for small tool-calling models, readable by llama.cpp as `llama-bpe`.

A small model calls tools by copying, so a word must be the same tokens wherever it stands: after a space in the
request, after a quote in the JSON, inside `snake_case` and `camelCase`. So no merge crosses a boundary between
letters, digits, spaces and punctuation, nor a change from lower to upper case, and every digit stands alone.
The file itself names Llama 3's pre-tokenizer, which cuts more coarsely; as no merge crosses the finer cuts, llama.cpp,
`tokenizers` and this module agree.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE

from toolace_edge.formats.compact import SPECIAL_TOKENS

# Llama 3's pre-tokenizer, as llama.cpp's `llama-bpe` has it built in.
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CLASSES = r"\p{Lu}?[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|\p{Lu}+(?!\p{Ll})|\p{L}|\p{N}|\s|[^\s\p{L}\p{N}]"
# The joints of compact JSON. Both sides of each are certain, so one token costs nothing in choice.
_JSON_MERGES = (('"', ":"), (",", '"'), ("{", '"'))


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learns merges from `texts`; about a minute for 100 MB. `vocab_size` counts special tokens and JSON joints."""
    learner = Tokenizer(BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    learner.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(_CLASSES), "isolated"), byte_level])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(_JSON_MERGES),
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    return _with_joints(learner)


def _with_joints(learner: Tokenizer) -> Tokenizer:
    state = json.loads(learner.to_str())
    vocab: dict[str, int] = state["model"]["vocab"]
    merges = [tuple(pair) for pair in state["model"]["merges"]]
    for left, right in _JSON_MERGES:
        vocab[left + right] = len(vocab)
        merges.append((left, right))
    tokenizer = Tokenizer(BPE(vocab=vocab, merges=merges, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes `tokenizer.json` and the small `tokenizer_config.json` that transformers wants beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|begin|>",
        "eos_token": "<|end|>",
        "pad_token": "<|pad|>",
        "model_max_length": 2048,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
