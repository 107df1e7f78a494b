"""`hermes`: ChatML with JSON calls in `<tool_call>` tags, as Hermes and Qwen (2.5 and 3, without thinking) write them.

The prompt is that of Qwen's chat template. Here the tools stand behind the system message, so a prompt's prefix is
stable for the same tools and the same system message. The tags are ordinary tokens in tokenizer.json, but count as
control tokens in a GGUF file; the grammar has a rule for each, see `Format.lark`, and in a prompt only the template's
own count (engines/tags.py). An answer that calls begins with `<`, or with words before its first tag.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from toolace_edge.errors import FormatError
from toolace_edge.formats import answers
from toolace_edge.formats.base import Limits, Piece, Rendered, ToolChoice
from toolace_edge.formats.bounds import bound_schema
from toolace_edge.formats.toolace import REFINE_REQUEST
from toolace_edge.formats.values import SPACED_JSON, Rules, lark_string, quote
from toolace_edge.messages import Message, Tool, ToolCall

TOOLS_HEAD = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
TOOLS_TAIL = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)
_TAG = re.compile("(</?tool_call>)")
OPENING, CLOSING = "<tool_call>\n", "\n</tool_call>"


class Hermes:
    """The Format of Qwen and Hermes models."""

    name = "hermes"
    end = "<|im_end|>"

    def render(self, tools: Sequence[Tool], messages: Sequence[Message]) -> Rendered:
        system = ""
        if messages and messages[0].role == "system":
            system, messages = messages[0].content, messages[1:]
        told = [Piece(system)] if system else []
        if tools:
            told.append(Piece(("\n\n" if system else "") + TOOLS_HEAD))
            told += [Piece(f"\n{_function(tool)}") for tool in tools] + _with_tags(TOOLS_TAIL)
        prefix = self._turn("system", *told) if told else []
        rest: list[Piece] = []
        for i, message in enumerate(messages):
            if message.role == "assistant":
                rest.append(Piece("<|im_start|>assistant\n", special=True))
                rest += [*self.render_answer(message.calls, message.content), Piece("\n")]
            elif message.role == "tool":
                rest += self._result(message.content, messages[:i], messages[i + 1 :])
            else:
                rest += self._turn(message.role, Piece(message.content))
        return Rendered(tuple(prefix), (*rest, Piece("<|im_start|>assistant\n", special=True)))

    def _turn(self, role: str, *content: Piece) -> list[Piece]:
        return [Piece(f"<|im_start|>{role}\n", special=True), *content, Piece(f"{self.end}\n", special=True)]

    def _result(self, content: str, before: Sequence[Message], after: Sequence[Message]) -> list[Piece]:
        """Results that follow each other share one user turn."""
        pieces = [Piece("\n<tool_response>\n", special=True), Piece(content), Piece("\n</tool_response>", special=True)]
        if not before or before[-1].role != "tool":
            pieces.insert(0, Piece("<|im_start|>user", special=True))
        if not after or after[0].role != "tool":
            pieces.append(Piece(f"{self.end}\n", special=True))
        return pieces

    def render_answer(self, calls: Sequence[ToolCall], text: str) -> tuple[Piece, ...]:
        pieces = [Piece(text + "\n")] if calls and text.strip() else [] if calls else [Piece(text)]
        for i, call in enumerate(calls):
            pieces += [*_with_tags("\n" * (i > 0) + OPENING), Piece(_call(call)), *_with_tags(CLOSING)]
        return (*pieces, Piece(self.end, special=True))

    def refine_turn(self) -> tuple[Piece, ...]:
        return (Piece("\n"), *self._turn("user", Piece(REFINE_REQUEST)), Piece("<|im_start|>assistant\n", special=True))

    def lark(self, tools: Sequence[Tool], choice: ToolChoice, limits: Limits) -> str:
        rules = Rules(SPACED_JSON, limits)
        bodies = []
        for path, tool in choice.select(tools):
            arguments = rules.value(bound_schema(tool.parameters, limits, path))
            opening = lark_string(f'\n{{"name": {quote(tool.name)}, "arguments": ')
            bodies.append(rules.rule(f'{opening} {arguments} "}}\\n" tag_close'))
        lines: list[str] = []
        alternatives: list[str] = []
        if bodies:
            body = rules.rule(" | ".join(bodies))
            lines += ['tag_open: "<tool_call>"', 'tag_close: "</tool_call>"']
            more = f'("\\n" tag_open {body}){{0,{limits.max_calls - 1}}}' if limits.max_calls > 1 else ""
            alternatives.append(f"tag_open {body} {more}")
        if choice.allows_text:
            alternatives.append(answers.text_rule(rules, not_first="<"))
            if bodies and limits.max_text:  # words, and then calls: "Let me look that up."
                lines.append(f'said[suffix="<tool_call>"]: /[^<](?s:.){{0,{limits.max_text - 1}}}/')
                alternatives.append(f"said {body} {more}")
        return rules.text([f"start: ({' | '.join(alternatives)}) {self.end}", *lines])

    def parse(self, tools: Sequence[Tool], answer: str | bytes) -> tuple[tuple[ToolCall, ...], str]:
        whole = answers.decoded(answer).removesuffix("\n").removesuffix(self.end)
        begin = whole.find(OPENING)
        if begin < 0:
            return (), whole
        try:
            return self._calls(whole[begin:]), whole[:begin].removesuffix("\n")
        except FormatError:
            if begin:  # words about tags
                return (), whole
            raise

    def _calls(self, whole: str) -> tuple[ToolCall, ...]:
        calls, at = [], 0
        while at < len(whole):
            if not whole.startswith(OPENING, at):
                raise FormatError(f"hermes: {OPENING!r} expected at character {at} of {whole[:200]!r}.")
            call, at = answers.json_call(whole, at + len(OPENING))
            if not whole.startswith(CLOSING, at):
                raise FormatError(f"hermes: {CLOSING!r} expected at character {at} of {whole[:200]!r}.")
            at += len(CLOSING)
            at += whole.startswith("\n", at)
            calls.append(call)
        return tuple(calls)


def _with_tags(text: str) -> list[Piece]:
    """The template's own text: the tags in it count as what they are, those in strangers' texts do not."""
    return [Piece(part, special=bool(_TAG.fullmatch(part))) for part in _TAG.split(text) if part]


def _function(tool: Tool) -> str:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return json.dumps({"type": "function", "function": function}, ensure_ascii=False)


def _call(call: ToolCall) -> str:
    return f'{{"name": {quote(call.name)}, "arguments": {SPACED_JSON.literal(dict(call.arguments))}}}'
