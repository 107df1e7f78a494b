"""Text to token ids with weights: what a decoder will be forced to write counts little, what it chooses, fully."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from tokenizers import Tokenizer

from toolace_edge.formats import compact
from toolace_edge.messages import Message, Tool, ToolCall

FORCED_WEIGHT = 0.1
# Calling or not, and which tool, are one token each, and everything after depends on them.
DECISION_WEIGHT = 3.0


@dataclass(frozen=True, slots=True)
class Piece:
    """Token ids and, of the same length, how much predicting each is worth (0 = context only)."""

    ids: list[int]
    weights: list[float]

    def __add__(self, other: Piece) -> Piece:
        return Piece(self.ids + other.ids, self.weights + other.weights)


class Renderer:
    """Writes the `compact` format as tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.special = {token: tokenizer.token_to_id(token) for token in compact.SPECIAL_TOKENS}
        self._tool_ids = lru_cache(maxsize=50_000)(self._encode)

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def context(self, marker: str, text: str) -> Piece:
        """A marker and text that is read, not learned."""
        ids = [self.special[marker], *(self._encode(text) if text else ())]
        return Piece(ids, [0.0] * len(ids))

    def tools(self, tools: Sequence[Tool]) -> Piece:
        ids = [self.special[compact.BEGIN]]
        for tool in tools:
            ids.append(self.special[compact.TOOL])
            ids.extend(self._tool_ids(compact.render_tool(tool)))
        return Piece(ids, [0.0] * len(ids))

    def messages(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Piece:
        markers = {"system": compact.SYSTEM, "user": compact.USER, "tool": compact.RESULT}
        piece = Piece([], [])
        for message in messages:
            if message.role == "assistant":
                piece = piece + without_weights(self.answer(message.calls, tools, message.content))
            else:
                piece = piece + self.context(markers[message.role], message.content)
        return piece

    def answer(self, calls: Sequence[ToolCall], tools: Sequence[Tool], text: str = "") -> Piece:
        """What the model writes, to the end token."""
        if not calls:
            piece = self.context(compact.TEXT, text)
            weights = [DECISION_WEIGHT, *([1.0] * len(piece.ids))]
            return Piece([*piece.ids, self.special[compact.END]], weights)
        by_name = {tool.name: tool for tool in tools}
        piece = Piece([], [])
        for call in calls:
            piece = piece + self._call(call, by_name.get(call.name), list(by_name))
        piece.weights[0] = DECISION_WEIGHT
        return piece + Piece([self.special[compact.END]], [1.0])

    def refine(self) -> Piece:
        return Piece([self.special[compact.REFINE]], [0.0])

    def _call(self, call: ToolCall, tool: Tool | None, names: Sequence[str]) -> Piece:
        text, worth = _weighted_call(call, tool, names)
        encoded = self.tokenizer.encode(text, add_special_tokens=False)
        weights = [max(worth[a:b], default=1.0) for a, b in encoded.offsets]
        return Piece([self.special[compact.CALL], *encoded.ids], [1.0, *weights])


def without_weights(piece: Piece) -> Piece:
    return Piece(piece.ids, [0.0] * len(piece.ids))


def _weighted_call(call: ToolCall, tool: Tool | None, names: Sequence[str]) -> tuple[str, list[float]]:
    """The call's JSON and a weight for each character."""
    parts: list[tuple[str, float]] = [('{"name":"', FORCED_WEIGHT)]
    chosen = _distinct(call.name, names)
    parts += [(chosen, DECISION_WEIGHT), (call.name[len(chosen) :] + '","arguments":{', FORCED_WEIGHT)]
    properties = list(tool.parameters.get("properties", {})) if tool else list(call.arguments)
    required = set(tool.parameters.get("required", ())) if tool else set()
    open_names = list(properties)  # what the grammar could still write
    for i, (name, value) in enumerate(call.arguments.items()):
        skipped = open_names[: open_names.index(name)] if name in open_names else open_names
        certain = name in required and not skipped
        open_names = open_names[len(skipped) + 1 :]
        parts.append(("," if i else "", FORCED_WEIGHT))
        parts.append((compact.compact_json(name), FORCED_WEIGHT if certain else 1.0))
        parts.append((":", FORCED_WEIGHT))
        text = compact.compact_json(value)
        if text.startswith('"'):
            parts += [('"', FORCED_WEIGHT), (text[1:], 1.0)]
        else:
            parts.append((text, 1.0))
    parts += [("}", 1.0 if open_names else FORCED_WEIGHT), ("}", FORCED_WEIGHT)]
    return "".join(p for p, _ in parts), [w for p, w in parts for _ in p]


def _distinct(name: str, names: Sequence[str]) -> str:
    """The shortest beginning of `name` that no other of the names has; the rest is forced."""
    others = [other for other in names if other != name]
    return next((name[:i] for i in range(len(name)) if not any(o.startswith(name[:i]) for o in others)), name)
