"""Rows to train on: trees of one block of tools and several conversations about it that do not see each other.

Tools are most of a prompt's tokens. A tree writes them once; every branch (a request and its answer, or a request, a
draft and its refinement) looks at the tools and at itself, and its positions go on from the end of the tools, so that
each branch is exactly the prompt that the runtime will show. A row holds as many trees as fit; one of 384 tokens
teaches about three answers.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolace_edge.messages import Message, Tool, ToolCall

from .augment import corrupt, restyle
from .examples import Example, ordered
from .rendering import Piece, Renderer, without_weights
from .synth import Made, Synthesizer


@dataclass(frozen=True, slots=True)
class Mix:
    """How rows are made. Shares are probabilities; they change over training (see nano.py)."""

    length: int = 384
    synth: float = 0.4  # rows whose anchor is made, not found
    lone_tool: float = 0.35  # rows that show the called tools only
    distractors: int = 3  # at most so many others
    no_call: float = 0.35  # for each request that calls, one that should not, this often
    refine: float = 0.12  # branches that rewrite a draft
    unchanged: float = 0.5  # of those, drafts that are right already
    keep_descriptions: float = 0.7
    read: float = 0.0  # weight of predicting the request's own words


@dataclass(frozen=True, slots=True)
class Tree:
    """A block of tools and the branches that look at it."""

    head: Piece
    branches: list[Piece]

    @property
    def size(self) -> int:
        return len(self.head.ids) + sum(len(branch.ids) for branch in self.branches)


@dataclass(slots=True)
class Row:
    """Arrays of shape [length]: token ids, positions, tree, branch within it (0 = tools), next token and its weight.

    Padding has tree and branch -1.
    """

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    tree: NDArray[np.int64]
    branch: NDArray[np.int64]
    targets: NDArray[np.int64]
    weights: NDArray[np.float32]
    answers: int


class Packer:
    """Draws rows. `drafts` maps a request to answers that a model sampled for it (ToolACE-R's own drafts)."""

    def __init__(
        self,
        renderer: Renderer,
        pools: Mapping[str, Sequence[Example]],
        shares: Mapping[str, float],
        synth: Synthesizer,
        rng: random.Random,
        drafts: Mapping[str, Sequence[tuple[ToolCall, ...]]] | None = None,
    ) -> None:
        self.renderer, self.synth, self.rng = renderer, synth, rng
        self.pools = {name: pool for name, pool in pools.items() if pool and shares.get(name)}
        self.sources = list(self.pools)
        self.shares = [shares[name] for name in self.sources]
        self.drafts = drafts or {}

    def row(self, mix: Mix) -> Row:
        """One row of as many trees as fit; tries again where an anchor is longer than what is left."""
        trees: list[Tree] = []
        room, tries = mix.length, 0
        while not trees or (room > 60 and tries < 4):
            tries += 1
            made = None
            if self.rng.random() < mix.synth:
                made = self.synth.make_tool()
                anchor = self.synth.parallel(made, 1 if self.rng.random() < 0.75 else self.rng.choice((2, 2, 3, 4)))
            else:
                anchor = self.found()
            tree = self._tree(anchor, made, mix, room)
            if tree is not None:
                trees.append(tree)
                room -= tree.size
        return lay_out(trees, mix.length)

    def found(self) -> Example:
        source = self.rng.choices(self.sources, self.shares)[0]
        return self.rng.choice(self.pools[source])

    def _tree(self, anchor: Example, made: Made | None, mix: Mix, room: int) -> Tree | None:
        examples = [anchor]
        tools = list(anchor.gold_tools if self.rng.random() < mix.lone_tool else self._cut(anchor, mix))
        if not tools:
            tools = list(anchor.tools[: max(1, mix.distractors)])
        companions = 0 if len(tools) == 1 and self.rng.random() < 0.7 else self.rng.randint(0, 3)
        for _ in range(companions):
            other = self.synth.example() if self.rng.random() < mix.synth / 2 else self.found()
            if other.calls and len(tools) + len(other.gold_tools) <= mix.distractors + 2:
                names = {tool.name for tool in tools}
                if not any(tool.name in names for tool in other.gold_tools):
                    examples.append(other)
                    tools += other.gold_tools
        self.rng.shuffle(tools)
        shown = restyle(Example("", tuple(tools), (), ()), self.rng, keep_descriptions=mix.keep_descriptions)
        rename = {old.name: (new, old) for old, new in zip(tools, shown.tools, strict=True)}
        head = self.renderer.tools(shown.tools)
        if len(head.ids) > room * 0.8:
            return None
        branches: list[Piece] = []
        room -= len(head.ids)
        for example in examples:
            room = self._add(branches, self._branch(example, shown.tools, rename, mix), room)
        if not branches:
            return None
        self._fill(branches, room, made, examples, shown.tools, rename, mix)
        return Tree(head, branches)

    def _fill(
        self,
        branches: list[Piece],
        room: int,
        made: Made | None,
        examples: list[Example],
        tools: Sequence[Tool],
        rename: Mapping[str, tuple[Tool, Tool]],
        mix: Mix,
    ) -> None:
        """More branches about these tools: other requests for a made one, refinements, requests that none can serve."""
        for example in examples:
            if self.rng.random() < mix.no_call:
                room = self._add(branches, self._no_call(tools, made, mix), room)
            if self.rng.random() < mix.refine:
                room = self._add(branches, self._branch(example, tools, rename, mix, refine=True), room)
        for _ in range(self.rng.randint(0, 4) if made is not None else 0):
            if made is not None and self.rng.random() >= mix.no_call / 2:
                again = self.synth.parallel(made, 1 if self.rng.random() < 0.8 else 2)
                branch = self._branch(again, tools, rename, mix)
            else:
                branch = self._no_call(tools, made, mix)
            room = self._add(branches, branch, room)

    def _add(self, branches: list[Piece], branch: Piece | None, room: int) -> int:
        if branch is None or len(branch.ids) > room:
            return room
        branches.append(branch)
        return room - len(branch.ids)

    def _cut(self, anchor: Example, mix: Mix) -> list[Tool]:
        gold = list(anchor.gold_tools)
        others = [tool for tool in anchor.tools if tool not in gold]
        while len(others) < mix.distractors and self.rng.random() < 0.5:
            more = (
                self.synth.make_tool().tool
                if self.rng.random() < 0.4
                else self.rng.choice(self.found().tools or (None,))
            )
            if more is None or any(more.name == tool.name for tool in (*others, *gold)):
                break
            others.append(more)
        self.rng.shuffle(others)
        return gold + others[: self.rng.randint(0 if gold else 1, max(1, mix.distractors))]

    def _branch(self, example: Example, tools: Sequence[Tool], rename: Mapping[str, tuple[Tool, Tool]], mix: Mix,
                *, refine: bool = False) -> Piece | None:  # fmt: skip
        calls = _renamed(example.calls, rename)
        if calls is None:
            return None
        context = self._context(example, tools, mix)
        answer = self.renderer.answer(calls, tools)
        if refine or self.rng.random() < mix.refine:
            draft = self._draft(example, calls, tools, rename, mix)
            return context + without_weights(self.renderer.answer(draft, tools)) + self.renderer.refine() + answer
        return context + answer

    def _context(self, example: Example, tools: Sequence[Tool], mix: Mix) -> Piece:
        piece = self.renderer.messages(example.messages, tools)
        if mix.read:
            piece = Piece(piece.ids, [mix.read if self.rng.random() < 0.25 else 0.0 for _ in piece.ids])
        return piece

    def _draft(
        self,
        example: Example,
        gold: tuple[ToolCall, ...],
        tools: Sequence[Tool],
        rename: Mapping[str, tuple[Tool, Tool]],
        mix: Mix,
    ) -> tuple[ToolCall, ...]:
        """What the model itself answered, where that is known; else the gold calls or a made mistake."""
        sampled = self.drafts.get(example.request)
        if sampled and self.rng.random() < 0.8:
            draft = _renamed(self.rng.choice(list(sampled)), rename)
            if draft is not None:
                return draft
        if self.rng.random() < mix.unchanged:
            return gold
        return corrupt(gold, tools, example.request, self.rng)

    def _no_call(self, tools: Sequence[Tool], made: Made | None, mix: Mix) -> Piece | None:
        """A request that none of the tools can serve: another tool's, or this one's with something required unsaid."""
        if made is not None and self.rng.random() < 0.35:
            lacking = self.synth.lacking(made)
            if lacking is not None:
                return self._context(lacking, tools, mix) + self.renderer.answer((), tools)
        other = self.synth.example() if self.rng.random() < (0.5 if made is not None else 0.2) else self.found()
        if len(other.messages) > 2 or any(_alike(a, b) for a in other.gold_tools for b in tools):
            return None
        if not other.calls and not made:
            return None  # a found no-call line says nothing about these tools unless they are its own
        context = self._context(Example("", (), (Message("user", other.request),), ()), tools, mix)
        if self.rng.random() < mix.refine:
            draft = () if self.rng.random() < mix.unchanged else corrupt((), tools, other.request, self.rng)
            context = context + without_weights(self.renderer.answer(draft, tools)) + self.renderer.refine()
        return context + self.renderer.answer((), tools)


def _renamed(calls: Sequence[ToolCall], rename: Mapping[str, tuple[Tool, Tool]]) -> tuple[ToolCall, ...] | None:
    """The calls in the names and the order that the row shows; None where a tool is not shown."""
    renamed = []
    for call in calls:
        if call.name not in rename:
            return None
        new, old = rename[call.name]
        names = dict(zip(old.parameters["properties"], _paired(old, new), strict=True))
        arguments = {names.get(key, key): value for key, value in call.arguments.items()}
        renamed.append(ToolCall(new.name, ordered(arguments, new)))
    return tuple(renamed)


def _paired(old: Tool, new: Tool) -> list[str]:
    """New names in the order of the old properties. Restyling may have shuffled them: pair by schema identity."""
    left = list(new.parameters["properties"].items())
    names = []
    for key in old.parameters["properties"]:
        flat = _flat(key)
        found = next((i for i, (name, _) in enumerate(left) if name == key), None)
        if found is None:
            found = next((i for i, (name, _) in enumerate(left) if _flat(name) == flat), 0)
        names.append(left.pop(found)[0])
    return names


def _flat(name: str) -> str:
    return "".join(ch for ch in name.lower() if ch.isalnum())


def _words(text: str) -> set[str]:
    return {word for word in text.lower().replace("_", " ").split() if len(word) > 3}


def _alike(a: Tool, b: Tool) -> bool:
    """Might `b` serve what was asked of `a`? Rather yes than no: a wrong no-call label teaches refusing."""
    if _flat(a.name) == _flat(b.name):
        return True
    one, two = _words(f"{a.name} {a.description}"), _words(f"{b.name} {b.description}")
    return len(one & two) >= max(2, 0.4 * min(len(one), len(two)))


def lay_out(trees: Sequence[Tree], length: int) -> Row:
    """The trees one after another, padded to `length`; they must fit."""
    ids = np.zeros(length, np.int64)
    positions = np.zeros(length, np.int64)
    tree_of = np.full(length, -1, np.int64)
    branch = np.full(length, -1, np.int64)
    targets = np.zeros(length, np.int64)
    weights = np.zeros(length, np.float32)
    at = 0
    for number, tree in enumerate(trees):
        head = len(tree.head.ids)
        ids[at : at + head], positions[at : at + head], branch[at : at + head] = tree.head.ids, np.arange(head), 0
        tree_of[at : at + tree.size] = number
        at += head
        for one, piece in enumerate(tree.branches, 1):
            end = at + len(piece.ids)
            ids[at:end], branch[at:end] = piece.ids, one
            positions[at:end] = np.arange(head, head + len(piece.ids))
            targets[at : end - 1], weights[at : end - 1] = piece.ids[1:], piece.weights[1:]
            at = end
    return Row(ids, positions, tree_of, branch, targets, weights, sum(len(tree.branches) for tree in trees))
