"""Which of many tools a request is about: BM25F over their words, other spellings of these, and what they mean.

BM25F (Robertson, Zaragoza and Taylor, 2004) weighs a word's occurrences by the field in which it stands, then lets them
saturate once: a word in a tool's name says more than one in an enum's values, and the second says less than the first.

    x(t, d) = sum over fields f of  weight_f * count_f(t, d) / (1 - b + b * length_f(d) / mean length_f)
    score(q, d) = sum over terms t of  weight_q(t) * idf(t) * x / (k1 + x),   idf = ln(1 + (N - n + 0.5) / (n + 0.5))

How near request and tool are by what their words mean (meanings.py) is added to that. A word of the request that no
tool has is looked for in other spellings. Everything is fixed: the same tools and the same conversation give the same
scores, and equals stand in catalogue order. docs/retrieval.md says what each part is worth.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from toolace_edge.meanings import Vector, meanings
from toolace_edge.messages import Message, Tool
from toolace_edge.terms import joined, likeness, pieces, words

K1 = 1.2
B = 0.75
# name, description, names of parameters, their descriptions, values of enums
FIELD_WEIGHTS = (2.0, 2.0, 0.5, 0.5, 0.5)
EARLIER = 0.7  # what a user's turn counts beside the next one
COMMON = 0.5  # what a word of requests of any kind counts
ALIKE = 0.4  # words with so much in common may be the same
OF_ALL = 0.25  # of the best score, what a tool that a part brings in must have for the whole request

_BETWEEN_PARTS = re.compile(r"[.;?!]\s|\b(?:and|then|also|after that|next|finally)\b", re.IGNORECASE)

# What requests are full of whatever they ask for.
_IDLE = frozenset(
    words(
        "a an the of to in on at for and or is are was were be been am i me my we us our you your he she it its "
        "they this that these those there here with by as from about into please can could would should will shall "
        "may might do does did have has had want need like know tell let make so if then some any all just also "
        "what which who how when where hi hello hey thanks thank ok okay yes no not s t m ve ll d re"
    )
)
_COMMON = frozenset(
    words(
        "today tomorrow tonight yesterday now next last week weekend month year morning afternoon evening night "
        "noon am pm oclock clock hour minute second monday tuesday wednesday thursday friday saturday sunday "
        "january february march april may june july august september october november december one two three four "
        "five six seven eight nine ten first lot thing something anything someone really much many more most new "
        "good great nice sure help get give show look im ill id thats whats dont don doesn didn isn aren wasn won "
        "couldn wouldn possible currently current go come com use provide assistance additionally finally lastly "
        "information interested before after than but right ever example put other see"
    )
)

Query = Mapping[str, float]


class Weights(NamedTuple):
    """What the kinds of evidence count: the words themselves, other spellings of them, what they mean (a cosine)."""

    words: float = 1.0
    spellings: float = 1.0
    meanings: float = 20.0


WEIGHTS = Weights()


class Terms(NamedTuple):
    """What a tool is found by: its words by field, in the order of FIELD_WEIGHTS, and their meaning."""

    words: tuple[tuple[str, ...], ...]
    meaning: Vector


class ToolIndex:
    """An index over tools: 0.1 s for a thousand, and less than a millisecond for each request.

    `terms` takes a tool apart: for who makes many indexes of the same tools, and remembers.
    """

    def __init__(self, tools: Sequence[Tool], terms: Callable[[Tool], Terms] | None = None) -> None:
        self.tools = tuple(tools)
        found = [(terms or terms_of)(tool) for tool in self.tools]
        self._words = _Bm25([one.words for one in found])
        self._meanings = np.array([one.meaning for one in found])
        self._by_piece = _by_piece(self._words.postings)

    def scores(self, request: str | Sequence[Message], weights: Weights = WEIGHTS) -> list[float]:
        """How well each tool fits, in catalogue order: 0 where nothing does, without an upper bound."""
        asked = query_of(request)
        scores = [0.0] * len(self.tools)
        self._words.add(asked.words, weights.words, scores)
        if weights.spellings:
            self._words.add(asked.joined, weights.spellings, scores)
            self._words.add(self._respelled(asked.words, self._words.postings), weights.spellings, scores)
        if weights.meanings and self.tools:
            meant = meanings().of({**self._respelled(asked.words, meanings()), **asked.words})
            # Sums by row, not BLAS: equal tools get equal scores. Rounded, as the last digits are the processor's own.
            for i, cosine in enumerate((self._meanings * meant).sum(axis=1).tolist()):
                scores[i] += weights.meanings * max(0.0, round(cosine, 5))
        return scores

    def top(self, request: str | Sequence[Message], k: int) -> list[tuple[Tool, float]]:
        """The `k` tools that fit best and their scores, in catalogue order, so that prompts begin alike."""
        scores = self.scores(request)
        return [(self.tools[i], scores[i]) for i in sorted(ranking(scores)[:k])]

    def best(self, request: str | Sequence[Message], scores: Sequence[float], k: int) -> list[int]:
        """Positions of the `k` best, and behind them those that parts of the request bring in, as many again at most.

        A part that has few of the request's words has little of its scores, and would find none among the best.
        """
        chosen, parts = ranking(scores)[:k], parts_of(request)
        least = OF_ALL * max(scores, default=0.0)
        found: list[int] = []
        for part in parts if len(parts) > 1 else ():
            of_part = self.scores(part)
            first = ranking(of_part)[0]
            if of_part[first] > 0 and scores[first] >= least and first not in (*chosen, *found):
                found.append(first)
            if len(found) >= k:  # as a long text has many parts
                break
        return chosen + found

    def _respelled(self, query: Query, known: Container[str]) -> dict[str, float]:
        """For words of the query that are not `known`, those of the tools that are spelled much like them."""
        found: dict[str, float] = {}
        for word, weight in query.items():
            if word in known or word in _COMMON:
                continue
            for other in dict.fromkeys(chain.from_iterable(self._by_piece.get(one, ()) for one in pieces(word))):
                if (like := likeness(word, other)) >= ALIKE:
                    found[other] = max(found.get(other, 0.0), weight * like)
        return {other: found[other] for other in sorted(found)}  # sums of floats depend on their order


class _Bm25:
    """One kind of term: `postings` say in which tools each stands, and what it adds there before its rarity."""

    def __init__(self, tools: Sequence[Sequence[Sequence[str]]]) -> None:
        means = [max(1.0, sum(map(len, field))) / len(tools) for field in zip(*tools, strict=True)]
        postings: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for i, fields in enumerate(tools):
            found: dict[str, float] = defaultdict(float)
            for field, weight, mean in zip(fields, FIELD_WEIGHTS, means, strict=True):
                share = weight / (1 - B + B * len(field) / mean)
                for term in field:
                    found[term] += share
            for term, x in found.items():
                postings[term].append((i, x / (K1 + x)))
        self.postings = dict(postings)
        self._n = len(tools)

    def add(self, query: Query, weight: float, scores: list[float]) -> None:
        """Add to `scores` what each term of `query` is worth."""
        for term, share in query.items():
            posting = self.postings.get(term, ())
            rarity = weight * share * math.log(1 + (self._n - len(posting) + 0.5) / (len(posting) + 0.5))
            for i, part in posting:
                scores[i] += rarity * part


def _by_piece(known: Iterable[str]) -> dict[str, list[str]]:
    """The words that hold each piece."""
    found: dict[str, list[str]] = defaultdict(list)
    for word in known:
        for piece in pieces(word):
            found[piece].append(word)
    return dict(found)


def ranking(scores: Sequence[float]) -> list[int]:
    """Positions by falling score; equals in the order in which they stand."""
    return sorted(range(len(scores)), key=lambda i: -scores[i])


class Asked(NamedTuple):
    """The words of a request and their weights, alone and neighbours joined."""

    words: Query
    joined: Query


def query_of(request: str | Sequence[Message]) -> Asked:
    """What the user said; the last turn counts most.

    Answers and results are left out: so every step of a turn is given the same tools.
    """
    turns = _turns(request)
    single: dict[str, float] = defaultdict(float)
    double: dict[str, float] = defaultdict(float)
    for age, turn in enumerate(reversed(turns)):
        weight = EARLIER**age
        for word in words(turn):
            if word not in _IDLE:
                single[word] += weight * (COMMON if word in _COMMON else 1.0)
        for word in joined(turn):
            double[word] = max(double[word], weight)
    return Asked(dict(single), {word: weight for word, weight in double.items() if word not in single})


def parts_of(request: str | Sequence[Message]) -> list[str]:
    """What the user said last, cut between sentences and at words that join what is asked for."""
    turns = _turns(request)
    return [part for part in _BETWEEN_PARTS.split(turns[-1]) if len(part.split()) > 1] if turns else []


def _turns(request: str | Sequence[Message]) -> list[str]:
    """What the user said, turn by turn."""
    return [request] if isinstance(request, str) else [one.content for one in request if one.role == "user"]


def terms_of(tool: Tool) -> Terms:
    """What a tool is found by."""
    fields = tuple(tuple(words(text)) for text in texts(tool))
    return Terms(fields, meanings().of(meant_by(fields)))


def meant_by(fields: Sequence[Sequence[str]]) -> dict[str, float]:
    """What each word counts for a tool's meaning: a long description does not drown its name."""
    found: dict[str, float] = defaultdict(float)
    for field, weight in zip(fields, FIELD_WEIGHTS, strict=True):
        for word in field:
            found[word] += weight / math.sqrt(len(field))
    return found


def texts(tool: Tool) -> tuple[str, str, str, str, str]:
    """What can be searched of a tool, in the order of FIELD_WEIGHTS."""
    names: list[str] = []
    descriptions: list[str] = []
    values: list[str] = []
    _walk(tool.parameters, names, descriptions, values)
    return tool.name, tool.description, " ".join(names), " ".join(descriptions), " ".join(values)


def _walk(schema: Any, names: list[str], descriptions: list[str], values: list[str]) -> None:
    if not isinstance(schema, Mapping):
        return
    properties = schema.get("properties", {})
    for name, part in properties.items():
        names.append(name)
        if isinstance(part, Mapping) and isinstance(part.get("description"), str):
            descriptions.append(part["description"])
    choices = [*schema.get("enum", ()), schema.get("const")]
    values += [value for value in choices if isinstance(value, str)]
    inner = [schema.get("items"), schema.get("additionalProperties")]
    for part in chain(properties.values(), schema.get("anyOf", ()), schema.get("prefixItems", ()), inner):
        _walk(part, names, descriptions, values)
