"""Word vectors for retrieval (toolace_edge/meanings.py): requests learn to lie near the tools that answered them.

They begin as a model's own token embeddings, the mean of a word's tokens, in the directions in which words differ most;
frequent words are made short, as SIF does (Arora, Liang and Ma, 2017). Then the contrastive loss of dual encoders (van
den Oord et al., arXiv 1807.03748) moves all of them: a step reads some requests of different sources, and each has to
find its tool among the tools of all, the ones that stood beside it and others drawn blindly. A few minutes on a CPU.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from torch import Tensor, nn

from toolace_edge.errors import InputError
from toolace_edge.meanings import write
from toolace_edge.messages import Tool
from toolace_edge.retrieval import meant_by, query_of, texts
from toolace_edge.terms import stem, tokens, words

from .examples import flat_name, read_examples

BATCH = 512  # requests a step
BESIDE = 2  # tools of a request's own line that it must not choose
BLIND = 512  # tools of any line
RATE = 3e-3
WARMUP = 50  # steps
SHARPNESS = 20.0  # what cosines are multiplied by, at first; learned
EVEN = 0.6  # a source with n lines is drawn from n^EVEN times as often as one with a single line
RARE = 1e-3  # of SIF: a word of which so large a share of the text consists counts half


class Pair(NamedTuple):
    """A request's words with their weights; numbers of the tools that answered it and of those shown beside them."""

    asked: Mapping[str, float]
    right: tuple[int, ...]
    others: tuple[int, ...]


@dataclass
class Corpus:
    """Pairs by source; each tool once, as what its words count and as what tells it from others; each stem's forms."""

    pairs: dict[str, list[Pair]] = field(default_factory=lambda: defaultdict(list))
    meant: list[dict[str, float]] = field(default_factory=list)
    names: list[frozenset[str]] = field(default_factory=list)
    forms: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    _numbers: dict[tuple[str, ...], int] = field(default_factory=dict)

    def read(self, path: Path) -> None:
        """Add the lines of a file that call something."""
        for example in read_examples(path):
            if not example.calls:
                continue
            called = {call.name for call in example.calls}
            numbers = {tool.name: self._number(tool) for tool in example.tools}
            self._count(example.request)
            right = tuple(number for name, number in numbers.items() if name in called)
            others = tuple(number for name, number in numbers.items() if name not in called)
            if right:
                self.pairs[example.source].append(Pair(query_of(example.messages).words, right, others))

    def _number(self, tool: Tool) -> int:
        found = texts(tool)
        if found not in self._numbers:
            self._numbers[found] = len(self.meant)
            self.meant.append(meant_by([words(text) for text in found]))
            described = flat_name(tool.description)
            self.names.append(frozenset((flat_name(tool.name), *([f" {described}"] if described else ()))))
            for text in found[:3]:
                self._count(text)
        return self._numbers[found]

    def _count(self, text: str) -> None:
        for form in tokens(text):
            self.forms[stem(form)][form] += 1


def train_meanings(
    data: Sequence[Path], base: Path, out: Path, *, vocabulary: int, width: int, steps: int, seed: int = 1
) -> None:
    """Writes the table `out`. InputError where no line of the data calls anything."""
    out.parent.mkdir(parents=True, exist_ok=True)
    tokenizer = base / "tokenizer.json"
    if not tokenizer.is_file():
        raise InputError(f"{base} has no tokenizer.json.", hint="--base is a checkpoint's folder, with its tokenizer.")
    corpus = Corpus()
    for path in data:
        corpus.read(path)
    if not corpus.pairs:
        raise InputError("No line of the data calls a tool.", hint="Give lines as `train check` reads them.")
    counts = Counter({word: forms.total() for word, forms in corpus.forms.items()})
    known = [word for word, _ in counts.most_common(vocabulary)]
    forms = [corpus.forms[word].most_common(1)[0][0] for word in known]
    shares = np.array([counts[word] for word in known]) / counts.total()
    begun = first_vectors(base, forms, width) * torch.tensor(np.sqrt(RARE / (RARE + shares)))[:, None]
    click.echo(f"{len(corpus.meant)} tools, {len(known)} of {len(counts)} words", err=True)
    torch.manual_seed(seed)
    learner = Learner(corpus, known, begun.float(), random.Random(seed))
    for step in range(steps):
        loss = learner.step(min(1.0, (step + 1) / WARMUP) * (1 - step / steps))
        if step % 50 == 0:
            click.echo(f"step {step} of {steps}: loss {loss:.3f}", err=True)
    write(out, known, learner.table.detach().numpy())


def first_vectors(base: Path, forms: Sequence[str], width: int) -> Tensor:
    """[words, width], of length 1 on average: each word's tokens as a model's input knows them, at the beginning of a
    text and inside it.
    """
    tokenizer, embedding = Tokenizer.from_file(str(base / "tokenizer.json")), _embedding(base)

    def mean(text: str) -> Tensor:
        return embedding[tokenizer.encode(text, add_special_tokens=False).ids].mean(0)

    whole = torch.stack([mean(form) + mean(f" {form}") for form in forms])
    whole -= whole.mean(0)
    directions: Tensor = torch.linalg.svd(whole, full_matrices=False)[2][:width]
    vectors = whole @ directions.T
    return vectors.div(vectors.norm(dim=1).mean())


def _embedding(base: Path) -> Tensor:
    """What a model's input knows of its tokens, [tokens, width of the model]."""
    try:
        with safe_open(base / "model.safetensors", "pt") as found:
            return found.get_tensor("model.embed_tokens.weight").float()  # type: ignore[no-any-return]
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{base}: no embeddings of tokens in a model.safetensors ({error}).",
            hint="--base is a checkpoint in one file, as `train base` and `train model` write it.",
        ) from error


class Learner:
    """The table in training."""

    def __init__(self, corpus: Corpus, known: Sequence[str], begun: Tensor, rng: random.Random) -> None:
        self._corpus, self._rng = corpus, rng
        self._rows = {word: row for row, word in enumerate(known)}
        self._sources = list(corpus.pairs)
        self._shares = [len(pairs) ** EVEN for pairs in corpus.pairs.values()]
        self.table = nn.Parameter(begun)
        self._sharpness = nn.Parameter(torch.tensor(math.log(SHARPNESS)))
        self._optimizer = torch.optim.Adam([self.table, self._sharpness])

    def step(self, rate: float) -> float:
        """One update, at that share of the learning rate; the loss before it, nats a request."""
        for group in self._optimizer.param_groups:
            group["lr"] = RATE * rate
        drawn = self._rng.choices(self._sources, self._shares, k=BATCH)
        pairs = [self._rng.choice(self._corpus.pairs[source]) for source in drawn]
        tools = [self._rng.choice(pair.right) for pair in pairs]
        tools += [one for pair in pairs for one in self._rng.sample(pair.others, min(BESIDE, len(pair.others)))]
        tools += [self._rng.randrange(len(self._corpus.meant)) for _ in range(BLIND)]
        asked = self._vectors([pair.asked for pair in pairs])
        offered = self._vectors([self._corpus.meant[tool] for tool in tools])
        near = self._sharpness.exp() * asked @ offered.T
        near = near.masked_fill(self._as_right(pairs, tools), -torch.inf)
        loss = F.cross_entropy(near, torch.arange(len(pairs)))
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return loss.item()

    def _vectors(self, found: Sequence[Mapping[str, float]]) -> Tensor:
        """[texts, width], each of length 1."""
        rows: list[int] = []
        weights: list[float] = []
        starts = []
        for text in found:
            starts.append(len(rows))
            for word, weight in text.items():
                if word in self._rows:
                    rows.append(self._rows[word])
                    weights.append(weight)
        at, behind = torch.tensor(rows), torch.tensor(starts)
        counts = torch.tensor(weights)
        return F.normalize(F.embedding_bag(at, self.table, behind, mode="sum", per_sample_weights=counts))

    def _as_right(self, pairs: Sequence[Pair], tools: Sequence[int]) -> Tensor:
        """Which tools are as right for a request as the one that it has to find: bool [requests, tools]."""
        places: dict[str, list[int]] = defaultdict(list)
        for place, tool in enumerate(tools):
            for name in self._corpus.names[tool]:
                places[name].append(place)
        alike = torch.zeros(len(pairs), len(tools), dtype=torch.bool)
        for row, pair in enumerate(pairs):
            alike[row, list(_places(pair, self._corpus, places))] = True
            alike[row, row] = False
        return alike


def _places(pair: Pair, corpus: Corpus, places: Mapping[str, list[int]]) -> Iterator[int]:
    for tool in pair.right:
        for name in corpus.names[tool]:
            yield from places.get(name, ())
