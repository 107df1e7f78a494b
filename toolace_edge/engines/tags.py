"""Markup that a vocabulary has as ordinary tokens (`<tool_call>`) is not to be spelled by strangers' text.

Control tokens can be switched off while a text is encoded, such tokens cannot: every tokenizer takes them wherever they
stand. So a text is cut behind the first character of each, and its parts are encoded one by one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import pairwise

_TAG = re.compile(r"<[^<>\s]+>")


def splitter(tokens: Iterable[str]) -> Callable[[str], list[str]]:
    """What cuts a text so that none of those `tokens` that are tags is in it as a whole."""
    tags = [token for token in tokens if _TAG.fullmatch(token)]
    if not tags:
        return lambda text: [text]
    pattern = re.compile("|".join(map(re.escape, tags)))

    def parts(text: str) -> list[str]:
        cuts = [0, *(found.start() + 1 for found in pattern.finditer(text)), len(text)]
        return [text[start:end] for start, end in pairwise(cuts)]

    return parts
