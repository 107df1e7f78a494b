"""Rows to train on: trees of one block of tools and several conversations about it that do not see each other.

Tools are most of a prompt's tokens. A tree writes them once; every branch (a request and its answer, or a request, a
draft and its refinement) looks at the tools and at itself, and its positions go on from the end of the tools, so that
each branch is exactly the prompt that the runtime will show. A row holds as many trees as fit; one of 384 tokens
teaches about three answers.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from toolace_edge.messages import Message, Tool, ToolCall

from .augment import Restyled, corrupt, restyle
from .bank import Bank
from .bank_types import Family
from .chatter import chatter
from .examples import Example, flat_name
from .history import exchange
from .made import Made
from .own_tools import OwnTools
from .rendering import Piece, Renderer, without_weights
from .several import join_requests, of_several_tools
from .spare import SpareArguments
from .synth import Synthesizer


@dataclass(frozen=True, slots=True)
class Mix:
    """How rows are made. Shares are probabilities; they change over training (see nano.py)."""

    length: int = 384
    synth: float = 0.4  # rows whose anchor is made, not found
    lone_tool: float = 0.35  # rows that show the called tools only
    distractors: int = 3  # at most so many others
    no_call: float = 0.35  # for each request that calls, one that should not, this often
    refine: float = 0.18  # branches that rewrite a draft
    refine_own: float = 0.6  # the same where the model's own draft of the request is known
    unchanged: float = 0.5  # of those, drafts that are right already
    keep_descriptions: float = 0.7
    several: float = 0.25  # of the requests for made tools, those for several; of found scenes, those with a joined one
    history: float = 0.0  # of the requests that begin a conversation, those that shall follow another one
    done: float = 0.0  # for each request that calls, one whose results are there, this often
    read: float = 0.0  # weight of predicting the request's own words
    bank: float = 0.42  # trees of the bank's tools
    families: int = 2  # of the bank, at most so many in a tree
    own: float = 0.05  # trees of the program's own tools
    spare: float = 0.0  # trees whose tools get optional arguments that nobody asks for
    spare_most: int = 8  # of them, at most so many a tool


@dataclass(frozen=True, slots=True)
class Tree:
    """A block of tools and the branches that look at it."""

    head: Piece
    branches: list[Piece]

    @property
    def size(self) -> int:
        return len(self.head.ids) + sum(len(branch.ids) for branch in self.branches)


@dataclass(slots=True)
class Scene:
    """What a tree is made of: the tools, lines that they answer, those tools that are made, and the names shown."""

    tools: list[Tool]
    examples: list[Example]
    made: list[Made]
    families: list[Family] = field(default_factory=list)
    rename: Mapping[str, Restyled] = field(default_factory=dict)

    @property
    def shown(self) -> list[Tool]:
        """The tools as the row writes them."""
        return [self.rename[tool.name].tool for tool in self.tools]


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
        bank: Bank,
        drafts: Mapping[str, Sequence[tuple[ToolCall, ...]]] | None = None,
        spare: SpareArguments | None = None,
    ) -> None:
        self.renderer, self.synth, self.rng = renderer, synth, rng
        self.pools = {name: pool for name, pool in pools.items() if pool and shares.get(name)}
        self.sources = list(self.pools)
        self.shares = [shares[name] for name in self.sources]
        self.bank = bank
        self.drafts = drafts or {}
        self.spare = spare
        self.callers = _by_tool(self.pools)
        self.own = OwnTools(rng, synth.values)
        self.said: list[Example] = []  # lines of the row's earlier trees

    def row(self, mix: Mix) -> Row:
        """One row of as many trees as fit; tries again where an anchor is longer than what is left."""
        trees: list[Tree] = []
        self.said.clear()
        room, misses = mix.length, 0
        while not trees or (room > 60 and misses < 3):
            tree = self._tree(mix, room)
            if tree is None:
                misses += 1
            else:
                trees.append(tree)
                room -= tree.size
        return lay_out(trees, mix.length)

    def found(self) -> Example:
        source = self.rng.choices(self.sources, self.shares)[0]
        return self.rng.choice(self.pools[source])

    def _tree(self, mix: Mix, room: int) -> Tree | None:
        scene = self._scene(mix)
        if self.spare is not None and self.rng.random() < mix.spare:
            said = " ".join(message.content for one in scene.examples for message in one.messages)
            scene.tools = self.spare.add(scene.tools, said, mix.spare_most)
        self.rng.shuffle(scene.tools)
        shown = restyle(scene.tools, self.rng, keep_descriptions=mix.keep_descriptions)
        scene.rename = {old.name: new for old, new in zip(scene.tools, shown, strict=True)}
        head = self.renderer.tools(scene.shown)
        if len(head.ids) > room * 0.8:
            return None
        branches: list[Piece] = []
        room -= len(head.ids)
        for example in scene.examples:
            room = self._add(branches, self._branch(example, scene, mix), room)
            if self.rng.random() < mix.done:
                room = self._add(branches, self._finished(example, scene), room)
            if self.rng.random() < mix.no_call:
                room = self._add(branches, self._no_call(scene, mix), room)
        self.said.extend(scene.examples)
        return Tree(head, branches) if branches else None

    def _scene(self, mix: Mix) -> Scene:
        if self.rng.random() < mix.own:
            return self._own_scene()
        if self.rng.random() < mix.bank:
            return self._bank_scene(mix)
        return self._made_scene(mix) if self.rng.random() < mix.synth else self._found_scene(mix)

    def _own_scene(self) -> Scene:
        """The program's own tools, all or some, and requests for these."""
        names = list(self.own.tools)
        shown = names if self.rng.random() < 0.4 else self.rng.sample(names, self.rng.randint(1, len(names)))
        examples = [self.own.asked(shown) for _ in range(self.rng.randint(2, 6))]
        return Scene([self.own.tools[name] for name in shown], examples, [])

    def _bank_scene(self, mix: Mix) -> Scene:
        """Tools of one or two families of the bank, and requests for any of them."""
        families, shown = self.bank.scene(mix.lone_tool, mix.families)
        examples = [self.bank.asked(shown) for _ in range(self.rng.randint(3, 7))]
        return Scene([family.tools[name].tool for family, name in shown], examples, [], families)

    def _made_scene(self, mix: Mix) -> Scene:
        """Made tools, some of them near each other, and requests for any of them."""
        made = [self.synth.make_tool()]
        while self.rng.random() >= mix.lone_tool and len(made) <= mix.distractors:
            near = made[0] if self.rng.random() < 0.4 else None
            made.append(self.synth.make_tool(near))
        made = list({one.tool.name: one for one in made}.values())
        examples = [self._asked_of(made, mix) for _ in range(self.rng.randint(1, 5))]
        return Scene([one.tool for one in made], examples, made)

    def _asked_of(self, made: Sequence[Made], mix: Mix) -> Example:
        """A request for one of `made`, or for some of them at once."""
        if len(made) > 1 and self.rng.random() < mix.several:
            chosen = self.rng.sample(made, min(len(made), self.rng.choice((2, 2, 2, 3))))
            if self.rng.random() < 0.2:
                chosen.append(self.rng.choice(chosen))
            together = of_several_tools(self.synth, chosen)
            if together is not None:
                return together
        return self.synth.asked(self.rng.choice(made))

    def _found_scene(self, mix: Mix) -> Scene:
        """A found line with its tools or some of them, and more lines that call one of these."""
        anchor = self.found()
        tools = self._needed(anchor) if self.rng.random() < mix.lone_tool else self._cut(anchor, mix)
        tools = tools or list(anchor.tools[: max(1, mix.distractors)])
        examples = [anchor]
        count = self.rng.randint(0, 4)
        for tool in self.rng.choices(tools, k=count if tools else 0):  # a line may have no tools
            more = self.callers.get(tool.name)
            other = self.rng.choice(more) if more else anchor
            if other is not anchor and tool in other.tools:
                examples.append(other)
        if len(tools) <= mix.distractors and self.rng.random() >= mix.lone_tool:
            other = self.synth.example() if self.rng.random() < mix.synth / 2 else self.found()
            names = {tool.name for tool in tools}
            if other.calls and not any(tool.name in names for tool in other.gold_tools):
                examples.append(other)
                tools += other.gold_tools
        alone = [one for one in examples if len(one.messages) == 1 and one.calls and len(one.request) < 200]
        if len(alone) > 1 and self.rng.random() < mix.several:
            count = min(len(alone), self.rng.choice((2, 2, 3)))
            examples.append(join_requests(self.rng, self.rng.sample(alone, count)))
        return Scene(tools, examples, [])

    def _add(self, branches: list[Piece], branch: Piece | None, room: int) -> int:
        if branch is None or len(branch.ids) > room:
            return room
        branches.append(branch)
        return room - len(branch.ids)

    def _needed(self, anchor: Example) -> list[Tool]:
        """The tools that the line's answer calls, and those that a draft of it does."""
        names = {call.name for draft in (anchor.calls, *self.drafts.get(anchor.request, ())) for call in draft}
        return [tool for tool in anchor.tools if tool.name in names]

    def _cut(self, anchor: Example, mix: Mix) -> list[Tool]:
        gold = self._needed(anchor)
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

    def _branch(self, example: Example, scene: Scene, mix: Mix) -> Piece | None:
        """The conversation and its answer, or its answer after a draft; None where a called tool is not shown."""
        calls = _renamed(example.calls, scene.rename)
        if calls is None:
            return None
        context = self._before(example, scene, mix) + self._context(example, scene.shown, mix)
        answer = self.renderer.answer(calls, scene.shown)
        if self.rng.random() >= (mix.refine_own if example.request in self.drafts else mix.refine):
            return context + answer
        draft = without_weights(self.renderer.answer(self._draft(example, calls, scene, mix), scene.shown))
        return context + draft + self.renderer.refine() + answer

    def _before(self, example: Example, scene: Scene, mix: Mix) -> Piece:
        """At times an earlier request to the same tools, its calls and their results."""
        earlier = self.rng.choice(scene.examples)
        if len(example.messages) > 1 or self.rng.random() >= mix.history or earlier.request == example.request:
            return Piece([], [])
        calls = _renamed(earlier.calls, scene.rename)
        if calls is None or len(earlier.messages) > 1:
            return Piece([], [])
        said = exchange(self.rng, earlier.request, calls, self.synth.values.lexicon)
        return self.renderer.messages(said, scene.shown)

    def _finished(self, example: Example, scene: Scene) -> Piece | None:
        """The request was called for and the results are there: nothing more is to be called."""
        calls = _renamed(example.calls, scene.rename)
        if not calls or len(example.messages) > 1:
            return None
        said = exchange(self.rng, example.request, calls, self.synth.values.lexicon)
        if said[-1].role == "assistant":
            said.pop()
        return self.renderer.messages(said, scene.shown) + self.renderer.answer((), scene.shown)

    def _context(self, example: Example, tools: Sequence[Tool], mix: Mix) -> Piece:
        piece = self.renderer.messages(example.messages, tools)
        if mix.read:
            piece = Piece(piece.ids, [mix.read if self.rng.random() < 0.25 else 0.0 for _ in piece.ids])
        return piece

    def _draft(self, example: Example, gold: tuple[ToolCall, ...], scene: Scene, mix: Mix) -> tuple[ToolCall, ...]:
        """What the model itself answered, where that is known; else the gold calls or a made mistake."""
        sampled = self.drafts.get(example.request)
        if sampled and self.rng.random() < 0.8:
            draft = _renamed(self.rng.choice(list(sampled)), scene.rename)
            if draft is not None:
                return draft
        if self.rng.random() < mix.unchanged:
            return gold
        return corrupt(gold, scene.shown, example.request, self.rng)

    def _no_call(self, scene: Scene, mix: Mix) -> Piece | None:
        """A request that none of the tools can serve: another tool's, or one with something required unsaid."""
        if scene.families and (kind := self.rng.random()) < 0.55:
            shown = {tool.name for tool in scene.tools}
            near = self.bank.sibling(scene.families, shown) if kind < 0.2 else None
            near = near or self.bank.unasked(self.rng.choice(scene.families))
            return None if near is None else self._branch(_unserved(near), scene, mix)
        if scene.made and self.rng.random() < 0.2:
            other = self.synth.lacking(self.rng.choice(scene.made))
            return None if other is None else self._branch(other, scene, mix)
        if self.rng.random() < 0.08:
            said = chatter(self.rng, self.synth.values.lexicon)
            return self._branch(Example("", (), (Message("user", said),), ()), scene, mix)
        other = self._elsewhere(scene)
        if not other.calls or len(other.messages) > 2:
            return None
        if any(_alike(a, b) for a in other.gold_tools for b in scene.tools):
            return None
        return self._branch(_unserved(other), scene, mix)

    def _elsewhere(self, scene: Scene) -> Example:
        """A line for tools that are not shown: of the tree before (where it is answered), a near one, or any."""
        kind = self.rng.random()
        if self.said and kind < 0.35:
            return self.rng.choice(self.said)
        if kind < 0.38:
            return self.own.request(self.rng.choice(list(self.own.tools)))
        if scene.families and kind < 0.6:
            family = self.rng.choice(self.bank.families)
            return self.bank.single(family, self.rng.choice(list(family.tools)))
        if scene.made and kind < 0.55:
            return self.synth.asked(self.synth.make_tool(self.rng.choice(scene.made)))
        return self.synth.example() if kind < (0.8 if scene.made else 0.6) else self.found()


def _unserved(example: Example) -> Example:
    """The same request, with nothing to be called."""
    return Example("", (), (Message("user", example.request),), ())


def _by_tool(pools: Mapping[str, Sequence[Example]]) -> dict[str, list[Example]]:
    """Lines by the name of a tool that they call."""
    callers: dict[str, list[Example]] = {}
    for pool in pools.values():
        for example in pool:
            for name in {call.name for call in example.calls}:
                callers.setdefault(name, []).append(example)
    return callers


def _renamed(calls: Sequence[ToolCall], rename: Mapping[str, Restyled]) -> tuple[ToolCall, ...] | None:
    """The calls in the names and the order that the row shows; None where a tool is not shown."""
    if any(call.name not in rename for call in calls):
        return None
    return tuple(rename[call.name].call(call) for call in calls)


_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_GENERIC = set(
    "find search create make check show list fetch look play send book start stop data info information".split()
)


def _words(text: str) -> set[str]:
    words = {word.lower().rstrip("s") for word in _WORD.findall(text)}
    return {word for word in words if len(word) > 3 and word not in _GENERIC}


def _alike(a: Tool, b: Tool) -> bool:
    """Might `b` serve what was asked of `a`? Rather yes than no: a wrong no-call label teaches refusing."""
    if flat_name(a.name) == flat_name(b.name) or _words(a.name) & _words(b.name):
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
