"""Proves that llama.cpp cuts text as tokenizers does, before anything large is written.

A vocabulary that loads may still cut otherwise, and its model would answer worse and never say why. So some hundred
texts in many scripts go through both; where a token may depend on how merges are treated, so does every token.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from toolace_edge.engines.gguf_header import read_header
from toolace_edge.engines.llama_vocabulary import borrowed_vocabulary
from toolace_edge.engines.vocabulary import Vocabulary

from .checkpoint import Checkpoint
from .weights import refused

_SCRIPTS = (
    *("The quick brown fox", "JUMPS over", "it's I'LL we've don't", "camelCase snake_case kebab-case CONST_2"),
    *("0 12 345 6789 1234567890", "3.14e-10 0xFF 1,000.00 50%", "½ ² Ⅷ ٣٤ १२ 𝟘𝟙 ①"),
    *(
        "äöüßéñçøłőğ ÅÆŒ",
        "αβγδ ΩΨ",
        "бгджщЯ Ёё",
        "אבגש עִבְרִית",
        "ابتثج العَرَبِيَّة",
        "नमस्ते क्षि",
        "ไทยกขค",
        "ქართული",
        "հայերեն",
    ),
    *("日本語漢字かなカナ", "中文，测试。", "한국어 각", "Tiếng Việt", "🙂🚀👩‍👩‍👧🇩🇪👍🏽", "∑∫√≠≤∞ →⇒ €£¥"),
    *("e\u0301 o\u0308 A\u030a n\u0303", "\ufb01 \u212b \u2126", "\u1e9b\u0323 d\u0323\u0307", "x\u0300\u0301\u0302"),
    *(
        '{"name":"f","arguments":{"a":1,"b":[true,null]}}',
        "def f(x):\n    return x**2  # note\n",
        "<a href='#'>&amp;</a>",
    ),
    *(
        "\t\ttabs",
        "a  b   c    d",
        "\n\n\n",
        "\r\n\r\n x \r y",
        " \n \n  z",
        "   ",
        "\u00a0\u2003\u3000\u200b\ufeff\u2028",
        "\x00\x07",
    ),
    *(
        "!!!???...",
        "--- === ***",
        "$x = `y`; // z",
        "C:\\dir\\file.txt /usr/bin",
        "user@host.org https://x.y/?q=1&r=%20",
    ),
)


def sample_texts(count: int, special: tuple[str, ...] = (), seed: int = 0) -> Iterator[str]:
    """`count` texts, the same for the same seed: each script whole, then mixtures, with `special` strewn in."""
    dice = random.Random(seed)
    for i in range(count):
        if i < len(_SCRIPTS):
            yield _SCRIPTS[i]
            continue
        parts = []
        for _ in range(dice.randint(1, 12)):
            script = dice.choice(_SCRIPTS)
            start = dice.randrange(len(script))
            parts.append(script[start : start + dice.randint(1, 8)])
        if special and dice.random() < 0.3:
            parts.insert(dice.randint(0, len(parts)), dice.choice(special))
        yield "".join(parts)


def prove_tokenizer(file: Path, checkpoint: Checkpoint, every_token: bool) -> None:
    """ModelError, with the first text, where the vocabulary of the GGUF `file` cuts otherwise than tokenizer.json."""
    source = checkpoint.file("tokenizer.json") or checkpoint.folder
    theirs = Vocabulary(checkpoint.tokenizer_json, checkpoint.config.vocab_size, str(source))
    metadata = read_header(file).metadata
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    assert isinstance(tokens, tuple)
    assert isinstance(types, tuple)
    added = tuple(str(token) for token, kind in zip(tokens, types, strict=True) if kind in (3, 4))
    with borrowed_vocabulary(file, metadata) as ours:
        texts = [*sample_texts(400, added), *added]
        if every_token:
            whole = (ours.decode([i]) for i, kind in enumerate(types) if kind == 1)
            texts += [piece.decode() for piece in whole if _is_text(piece)]
        for text in texts:
            for special in (False, True):
                if ours.encode(text, special) != theirs.encode(text, special):
                    raise refused(source, f"llama.cpp would cut {text[:200]!r} into other tokens than tokenizers does")


def _is_text(piece: bytes) -> bool:
    try:
        piece.decode()
    except UnicodeDecodeError:
        return False
    return True
