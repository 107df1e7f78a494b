"""A byte-level BPE tokenizer of a few hundred tokens, with our special tokens, made in milliseconds."""

from __future__ import annotations

from functools import lru_cache

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from toolace_edge.formats.compact import SPECIAL_TOKENS

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CORPUS = (
    '{"name":"get_weather","arguments":{"city":"Paris","unit":"celsius","days":3}}',
    '{"name":"set_timer","arguments":{"minutes":10,"label":"tea"}}{"name":"search","arguments":{"query":"news"}}',
    'get_weather: Get the weather of a city. city string: Name of the city unit? "celsius"|"fahrenheit": Unit',
    "What is the weather in Paris today? Set a timer for ten minutes and search the news about it, please.",
    'true false null [1,2,3] {"a":{"b":[]}} 3.14 -1.5e10 "arguments":{"name":"query":"',
    "the quick brown fox jumps over the lazy dog and then reads a message about the house",
)


QWEN2_SPLIT = LLAMA3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")


BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
WORDS = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
# By llama.cpp's names for them.
PRE_TOKENIZERS = {
    "llama-bpe": [pre_tokenizers.Split(Regex(LLAMA3_SPLIT), behavior="isolated"), BYTES],
    "dbrx": [pre_tokenizers.Split(Regex(LLAMA3_SPLIT), behavior="isolated"), BYTES],
    "qwen2": [pre_tokenizers.Split(Regex(QWEN2_SPLIT), behavior="isolated"), BYTES],
    "gpt-2": [WORDS],
    "smollm": [pre_tokenizers.Digits(individual_digits=True), WORDS],
}


@lru_cache
def tiny_tokenizer_json(
    vocab_size: int = 420,
    special: tuple[str, ...] = SPECIAL_TOKENS,
    tags: tuple[str, ...] = (),
    *,
    pre: str = "llama-bpe",
    corpus: tuple[str, ...] = (),
) -> str:
    """tokenizer.json as text: special tokens first, then 256 bytes, then merges; split like llama-3's, or by `pre`.

    `tags` are added at the end as ordinary tokens. With a `corpus`, merges reach across words, as the pre-tokenizer
    comes after the training: a text that is cut elsewhere becomes other tokens.
    """
    tokenizer = Tokenizer.from_str(_trained(vocab_size, special, "" if corpus else pre, corpus or CORPUS))
    steps = PRE_TOKENIZERS[pre]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps) if len(steps) > 1 else steps[0]
    tokenizer.model.ignore_merges = pre == "llama-bpe"
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in tags])
    return tokenizer.to_str()


@lru_cache
def _trained(vocab_size: int, special: tuple[str, ...], pre: str, corpus: tuple[str, ...]) -> str:
    """Without `pre` every text is one word."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(PRE_TOKENIZERS[pre] if pre else [BYTES])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer.to_str()
