"""`toolace`: how ToolACE's own checkpoints are run, and what they write: `[get_weather(city="Paris", days=3), stop()]`.

Headers, system prompt and the list of functions are those with which the Berkeley Function-Calling Leaderboard (v4)
ran ToolACE-2-8B: its default prompt to the letter (no space after the first sentence, two before "You SHOULD"),
functions as indented JSON with `dict` and `float` for types, a note on Python in each description, tool results in the
role `ipython`.

Names stand bare, dots and dashes included; an argument whose name Python would not read as one is written
`**{"the name": value}`. Whether an answer is calls or text shows in its first character: only calls begin with `[`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from toolace_edge.formats import answers, pythonic
from toolace_edge.formats.base import Limits, Piece, Rendered, ToolChoice
from toolace_edge.formats.bounds import bound_schema
from toolace_edge.formats.values import PYTHON, Rules, lark_string, sequence
from toolace_edge.messages import Message, Tool, ToolCall

SYSTEM_PROMPT = (
    "You are an expert in composing functions.You are given a question and a set of possible functions. Based on the "
    "question, you will need to make one or more function/tool calls to achieve the purpose. If none of the functions "
    "can be used, point it out. If the given question lacks the parameters required by the function, also point it "
    "out.\n\nYou should only return the function calls in your response.\n\nIf you decide to invoke any of the "
    "function(s), you MUST put it in the format of [func_name1(params_name1=params_value1, "
    "params_name2=params_value2...), func_name2(params)].  You SHOULD NOT include any other text in the response.\n\n"
    "At each turn, you should try your best to complete the tasks requested by the user within the current turn. "
    "Continue to output functions to call until you have fulfilled the user's request to the best of your ability. "
    "Once you have no more functions to call, the system will consider the current turn complete and proceed to the "
    "next turn or task.\n\nHere is a list of functions in json format that you can invoke.\n"
)
PYTHON_NOTE = " Note that the provided function is in Python 3 syntax."
REFINE_REQUEST = (
    "Check your answer against my request: the functions, and the value of every argument. "
    "Write it again in the same format, corrected where it is wrong and unchanged where it is right."
)
_TYPES = {"object": "dict", "number": "float"}
_ROLES = {"system": "system", "user": "user", "tool": "ipython"}


class Toolace:
    """The Format of ToolACE-8B, ToolACE-2 and what is trained like them."""

    name = "toolace"
    end = "<|eot_id|>"

    def render(self, tools: Sequence[Tool], messages: Sequence[Message]) -> Rendered:
        functions = json.dumps([_function(tool) for tool in tools], indent=4)
        prompt = SYSTEM_PROMPT + functions
        rest: list[Piece] = []
        if messages and messages[0].role == "system":
            prompt += f"\n\n\n{messages[0].content.strip()}"
            messages = messages[1:]
        # The list's last bracket is one token with the line breaks that may follow it, so it is not in the prefix.
        cut = len(SYSTEM_PROMPT) + len(functions) - 1
        prefix = (Piece("<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n", special=True),)
        rest += [Piece(prompt[cut:]), Piece(self.end, special=True)]
        for message in messages:
            if message.role == "assistant":
                if message.calls and message.content.strip():  # the format has no calls behind words
                    rest += [_header("assistant"), *self.render_answer((), message.content.strip())]
                rest += [_header("assistant"), *self.render_answer(message.calls, message.content)]
            else:
                rest += [_header(_ROLES[message.role]), Piece(message.content.strip()), Piece(self.end, special=True)]
        return Rendered((*prefix, Piece(prompt[:cut])), (*rest, _header("assistant")))

    def render_answer(self, calls: Sequence[ToolCall], text: str) -> tuple[Piece, ...]:
        body = "[" + ", ".join(map(pythonic.write_call, calls)) + "]" if calls else text
        return (Piece(body), Piece(self.end, special=True))

    def refine_turn(self) -> tuple[Piece, ...]:
        return (_header("user"), Piece(REFINE_REQUEST), Piece(self.end, special=True), _header("assistant"))

    def lark(self, tools: Sequence[Tool], choice: ToolChoice, limits: Limits) -> str:
        rules = Rules(PYTHON, limits)
        calls = []
        for path, tool in choice.select(tools):
            node = bound_schema(tool.parameters, limits, path)
            inside = rules.members(node, pythonic.key, pythonic.close, around_free=("**{", "}"))
            calls.append(rules.rule(f'{lark_string(tool.name + "(")} {inside} ")"'))
        alternatives = []
        if calls:
            alternatives.append(f'"[" {sequence(lark_string(PYTHON.comma), calls, limits.max_calls)} "]"')
        if choice.allows_text:
            alternatives.append(answers.text_rule(rules, not_first="\\["))
        return rules.text([f"start: ({' | '.join(alternatives)}) {self.end}"])

    def parse(self, tools: Sequence[Tool], answer: str | bytes) -> tuple[tuple[ToolCall, ...], str]:
        text = answers.decoded(answer).removesuffix(self.end)
        if not text.startswith("["):
            return (), text
        return pythonic.read_calls(text), ""


def _header(role: str) -> Piece:
    return Piece(f"<|start_header_id|>{role}<|end_header_id|>\n\n", special=True)


def _function(tool: Tool) -> dict[str, Any]:
    parameters = _bfcl_types(tool.parameters)
    return {"name": tool.name, "description": tool.description + PYTHON_NOTE, "parameters": parameters}


def _bfcl_types(schema: Any) -> Any:
    """The schema with BFCL's names for types. Properties that are called `type` or `enum` stay what they are."""
    if not isinstance(schema, Mapping):
        return schema
    renamed: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "type":
            renamed[key] = [_TYPES.get(t, t) for t in value] if isinstance(value, list) else _TYPES.get(value, value)
        elif key == "properties":
            renamed[key] = {name: _bfcl_types(part) for name, part in value.items()}
        elif key in ("items", "additionalProperties"):
            renamed[key] = _bfcl_types(value)
        elif key in ("anyOf", "prefixItems"):
            renamed[key] = [_bfcl_types(part) for part in value]
        else:
            renamed[key] = value
    return renamed
