"""Texts in many scripts, made from Unicode's blocks, code, numbers, runs of space and combining marks."""

from __future__ import annotations

import random
import unicodedata

# First and last character of blocks that hold letters, marks, numbers, signs or spaces.
BLOCKS = (
    *((0x20, 0x7E), (0xA0, 0xFF), (0x100, 0x24F), (0x250, 0x2FF), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F)),
    *((0x530, 0x58F), (0x590, 0x5FF), (0x600, 0x6FF), (0x700, 0x74F), (0x900, 0x97F), (0x980, 0x9FF), (0xA00, 0xA7F)),
    *((0xB80, 0xBFF), (0xC00, 0xC7F), (0xE00, 0xE7F), (0xE80, 0xEFF), (0xF00, 0xFFF), (0x1000, 0x109F)),
    *((0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x137F), (0x13A0, 0x13FF), (0x1780, 0x17FF), (0x1800, 0x18AF)),
    *((0x1E00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x209F), (0x20A0, 0x20BF), (0x20D0, 0x20FF), (0x2100, 0x218F)),
    *((0x2190, 0x23FF), (0x2460, 0x27BF), (0x2C00, 0x2DFF), (0x3000, 0x30FF), (0x3130, 0x318F), (0x4E00, 0x9FFF)),
    *((0xA000, 0xA48F), (0xAC00, 0xD7A3), (0xF900, 0xFAFF), (0xFB00, 0xFDFF), (0xFE00, 0xFE6F), (0xFF00, 0xFFEF)),
    *((0x10300, 0x1034F), (0x1D400, 0x1D7FF), (0x1F100, 0x1F64F), (0x1F680, 0x1F6FF), (0x20000, 0x2A6DF)),
)
PHRASES = (
    *(
        "it's",
        "I'LL",
        "we'Ve",
        " don't",
        " the",
        '{"name":"get_weather","arguments":{}}',
        "get_weather",
        "<b>",
        "x += 1;",
    ),
    *("  ", "\n\n", "\r\n", "\t", "   \n ", " \u00a0 ", "1234567", "3.14", "0xFF", "1,000", "²³", "٣٤", "Ⅷ", "e\u0301"),
    *(
        "A\u030a",
        "क्षि",
        "👩‍👩‍👧",
        "🇩🇪",
        "\u1112\u1161\u11ab",
        "\u212b",
        "\u2126",
        "...",
        "!?",
        "_",
        "//",
        "日本語",
        "한국어",
        "नमस्ते",
    ),
)


def many_texts(count: int, special: tuple[str, ...] = (), seed: int = 0) -> list[str]:
    """`count` texts, each a handful of pieces: a few characters of one block, a phrase, or one of `special`."""
    dice = random.Random(seed)
    texts = ["", " ", "".join(special)]
    while len(texts) < count:
        blocks = dice.choices(BLOCKS, k=3)
        pieces = []
        for _ in range(dice.randint(1, 12)):
            kind = dice.random()
            if kind < 0.05 and special:
                pieces.append(dice.choice(special))
            elif kind < 0.4:
                pieces.append(dice.choice(PHRASES))
            else:
                pieces.append(_letters(dice, *dice.choice(blocks)))
        texts.append(dice.choice(("", " ")).join(pieces))
    return texts


def _letters(dice: random.Random, first: int, last: int) -> str:
    """One to six characters that Unicode has long assigned."""
    characters = [chr(dice.randint(first, last)) for _ in range(dice.randint(1, 6))]
    return "".join(character for character in characters if unicodedata.category(character) != "Cn")
