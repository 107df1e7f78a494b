"""Text as search terms: words split by case and punctuation, their stems, and pieces of words for what a stem misses.

    words("getTimezones for 3 Cities")  ->  ["get", "timezon", "for", "cit"]
    pieces("timezon")                   ->  {"#ti", "tim", "ime", "mez", "ezo", "zon", "on#"}

Accents and numbers are dropped. Scripts that write no spaces between words (Chinese, Japanese, Thai) give pairs of
characters in the place of words.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import pairwise

PIECE = 3  # characters, the marks at a word's ends included

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
# Letters and digits, and the signs above and below them in Hebrew, Arabic and the scripts of India.
_WORD = re.compile(r"(?:[^\W_]|[\u0591-\u05c7\u0610-\u065f\u0900-\u0dff\u0e00-\u0eff\u1000-\u109f])+")
_MARKS = re.compile(r"[\u0300-\u036f]+")
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]+")
# One of each step is taken off, where at least so many characters are left.
_ENDINGS = (
    (("ation", 4), ("ator", 4), ("ion", 4), ("ing", 3), ("ed", 3)),
    (("ate", 4), ("er", 3), ("or", 3), ("ie", 3), ("e", 3), ("y", 3)),
)
_KEPT = ("ay", "ey", "oy", "uy")  # play is no form of pla
_DOUBLING = ("ing", "ed", "er")  # they double the consonant before them: run, running


def words(text: str) -> list[str]:
    """The stems of the words of `text`, in order, repeated as often as they stand there."""
    return [stem(word) for word in tokens(text)]


def joined(text: str) -> list[str]:
    """The stems of neighbours written as one word: of `time zone` that of `timezone`."""
    found = tokens(text)
    return [stem(one + other) for one, other in pairwise(found)]


def tokens(text: str) -> list[str]:
    """The words of `text` without capitals and accents."""
    apart = _MARKS.sub("", unicodedata.normalize("NFKD", _CAMEL.sub(" ", text)))
    found: list[str] = []
    for word in _WORD.findall(unicodedata.normalize("NFC", apart).casefold()):
        for part in re.split(f"({_UNSPACED.pattern})", word) if _UNSPACED.search(word) else (word,):
            if _UNSPACED.match(part):
                found += [part[i : i + 2] for i in range(max(1, len(part) - 1))]
            elif part and not part.isdigit():
                found.append(part)
    return found


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """`word` without a plural's, a verb's and a noun's endings. Crude: it only has to treat related words alike."""
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is", "news")):
        word = word[:-2] if word.endswith(("sses", "shes", "ches", "xes", "zes")) else word[:-1]
    for endings in _ENDINGS:
        for ending, least in endings:
            if word.endswith(ending) and len(word) - len(ending) >= least and word[-2:] not in _KEPT:
                word = word[: -len(ending)]
                doubled = ending in _DOUBLING and len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz"
                word = word[:-1] if doubled else word
                break
    return word


@lru_cache(maxsize=1 << 16)
def pieces(word: str) -> frozenset[str]:
    """The runs of PIECE characters in a word with `#` at both ends."""
    marked = f"#{word}#"
    return frozenset(marked[i : i + PIECE] for i in range(len(marked) - PIECE + 1))


def likeness(one: str, other: str) -> float:
    """How many of their pieces two words share, from 0 to 1 (Dice's coefficient)."""
    return 2 * len(pieces(one) & pieces(other)) / (len(pieces(one)) + len(pieces(other)))
