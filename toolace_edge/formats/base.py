"""What a format is: how one model family reads tools and messages, and how it writes calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, cast

from toolace_edge.errors import InputError
from toolace_edge.messages import Message, Tool, ToolCall


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of prompt. Only in a `special` one do control tokens count; "<|call|>" in a user's text stays text."""

    text: str
    special: bool = False


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt in two parts: `prefix` (the tools, byte-stable for the same tools) and `rest` (the conversation)."""

    prefix: tuple[Piece, ...]
    rest: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """May the model call? `auto` call or text, `none` text, `required` at least one call, `named` calls of one tool."""

    mode: Literal["auto", "none", "required", "named"] = "auto"
    name: str | None = None

    @classmethod
    def of(cls, choice: AnyToolChoice) -> ToolChoice:
        """Accept what callers write: "auto", "none", "required", a tool's name; ("named", name) for any name at all."""
        if isinstance(choice, ToolChoice):
            return choice
        if choice in ("auto", "none", "required"):
            return cls(cast('Literal["auto", "none", "required"]', choice))
        if isinstance(choice, str):
            return cls("named", choice)
        if isinstance(choice, tuple) and len(choice) == 2 and choice[0] == "named":
            return cls("named", choice[1])
        raise InputError(
            f"tool_choice: {choice!r} is not a choice.", hint="Use auto, none, required, or the name of a tool."
        )

    def select(self, tools: Sequence[Tool]) -> list[tuple[str, Tool]]:
        """The tools that may be called, each with its schema's path; InputError where none can be though one must."""
        chosen = [
            (f"tools[{i}].parameters", tool)
            for i, tool in enumerate(tools)
            if self.mode != "none" and (self.mode != "named" or tool.name == self.name)
        ]
        if self.mode == "named" and not chosen:
            names = ", ".join(tool.name for tool in tools) or "none"
            raise InputError(
                f"tool_choice: there is no tool named {self.name!r}.",
                hint=f"Use auto, none, required, or the name of a tool; tools are: {names}.",
            )
        if self.mode == "required" and not chosen:
            raise InputError("tool_choice: a call is required, but there are no tools.")
        return chosen

    @property
    def allows_text(self) -> bool:
        return self.mode in ("auto", "none")


AnyToolChoice = ToolChoice | str | tuple[str, str]  # what callers may write, see ToolChoice.of


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds an answer where the schema does not. Lengths are characters, as JSON Schema counts them."""

    max_calls: int = 8
    max_string: int = 512
    max_digits: int = 15  # before the point, and in an integer
    max_decimals: int = 15  # behind it
    max_items: int = 16
    max_properties: int = 8  # of an object whose keys are free
    max_key: int = 64  # of such a key
    max_depth: int = 3  # of values without a schema, and turns of a recursive $ref
    max_text: int = 2000

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value, least = getattr(self, name), 0 if name == "max_text" else 1
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"Limits: {name} is {value!r}, not a whole number from {least} on.")


class Format(Protocol):
    """One model family. `end` is the special token that ends an answer."""

    name: str
    end: str

    def render(self, tools: Sequence[Tool], messages: Sequence[Message]) -> Rendered:
        """The prompt, up to where the answer begins."""

    def render_answer(self, calls: Sequence[ToolCall], text: str) -> tuple[Piece, ...]:
        """An answer as the model writes it, with its end token."""

    def refine_turn(self) -> tuple[Piece, ...]:
        """What follows a finished answer to have it written once more."""

    def lark(self, tools: Sequence[Tool], choice: ToolChoice, limits: Limits) -> str:
        """The llguidance grammar of one answer, end token included. SchemaError where a schema cannot be held.

        A rule `tag_NAME: "<tag>"` stands for a tag that is a control token in some vocabularies and text in others, and
        `NAME[suffix="<tag>"]: /.../` for a text that such a tag ends.
        """

    def parse(self, tools: Sequence[Tool], answer: str | bytes) -> tuple[tuple[ToolCall, ...], str]:
        """Calls and text of a finished answer, special tokens included. FormatError where it is not one."""
