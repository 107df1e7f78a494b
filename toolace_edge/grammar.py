"""Tools, a format and a choice become an llguidance matcher that lets only finished, valid answers be written."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from toolace_edge.errors import ModelError, SchemaError
from toolace_edge.formats.base import AnyToolChoice, Format, Limits, ToolChoice
from toolace_edge.formats.bounds import bound_schema
from toolace_edge.messages import Tool

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

__all__ = ["Limits", "ToolChoice", "bound_schema", "check_tool", "compile_grammar"]

MAX_GRAMMAR = 4_000_000  # characters of Lark; a thousand tools of ten parameters are about one million

_TAG = re.compile(r'^(tag_\w+: )"(<[^"<>]+>)"$', re.MULTILINE)
_SUFFIX = re.compile(r'^(\w+)\[suffix="(<[^"<>]+>)"\]: (/.+/)$', re.MULTILINE)
_CACHE_SIZE = 32
_cache: OrderedDict[tuple[int, str], tuple[LLTokenizer, LLMatcher]] = OrderedDict()
_cache_lock = threading.Lock()


def compile_grammar(
    tools: Sequence[Tool],
    fmt: Format,
    choice: AnyToolChoice,
    limits: Limits,
    tokenizer: LLTokenizer,
) -> LLMatcher:
    """A fresh matcher at the start of an answer. Milliseconds for ten tools; microseconds for the same ones again.

    SchemaError names the tool and the keyword that cannot be held.
    """
    choice = ToolChoice.of(choice)
    lark = _with_control_tags(fmt.lark(tools, choice, limits), tokenizer)
    key = (id(tokenizer), lark)
    with _cache_lock:
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key][1].deep_copy()
    matcher = _compile(lark, tokenizer)
    if matcher.is_error():
        if not _is_control(fmt.end, tokenizer):
            raise ModelError(f"The model's vocabulary has no {fmt.end}, so it does not write the format {fmt.name}.")
        for i, tool in enumerate(tools):
            check_tool(tool, limits, f"tools[{i}].parameters")
        raise SchemaError("tools", f"their grammar is too large or unreadable: {_one_line(matcher.get_error())}")
    with _cache_lock:
        _cache[key] = (tokenizer, matcher)
        while len(_cache) > _CACHE_SIZE:
            _cache.popitem(last=False)
    return matcher.deep_copy()


def check_tool(tool: Tool, limits: Limits | None = None, path: str = "parameters") -> None:
    """SchemaError if this tool alone cannot be held by a grammar, at the deepest place that fails on its own."""
    from llguidance import LLMatcher

    from toolace_edge.formats.values import COMPACT_JSON, Rules

    limits = limits or Limits()
    bounded = bound_schema(tool.parameters, limits, path)
    parts = [(f"{path}.properties.{name}", part) for name, part in bounded["properties"].items()]
    for where, node in [*parts, (path, bounded)]:
        rules = Rules(COMPACT_JSON, limits)
        start = rules.value(node)
        lark = LLMatcher.grammar_from_lark(rules.text([f"start: {start}"]))
        failed, messages = LLMatcher.validate_grammar_with_warnings(lark)
        if failed:
            raise SchemaError(where, f"no grammar can hold it: {_one_line(messages[0])}")


def _compile(lark: str, tokenizer: LLTokenizer) -> LLMatcher:
    from llguidance import LLMatcher

    if len(lark) > MAX_GRAMMAR:
        raise SchemaError("tools", f"their grammar has {len(lark)} characters; {MAX_GRAMMAR} are the limit")
    matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_lark(lark), log_level=0)
    if not matcher.is_error():
        matcher.deep_copy().compute_bitmask()  # some limits are met only here
    return matcher


def _with_control_tags(lark: str, tokenizer: LLTokenizer) -> str:
    """Tags that are control tokens in this vocabulary become references to them; so do those that end a text."""

    def ended(rule: re.Match[str]) -> str:
        if not _is_control(rule[2], tokenizer):
            return rule[0]
        return f"{rule[1]}: {rule[1].upper()} {rule[2]}\n{rule[1].upper()}: {rule[3]}"

    lark = _SUFFIX.sub(ended, lark)
    return _TAG.sub(lambda rule: f"{rule[1]}{rule[2]}" if _is_control(rule[2], tokenizer) else rule[0], lark)


def _is_control(text: str, tokenizer: LLTokenizer) -> bool:
    tokens = tokenizer.tokenize_str(text, parse_special=True)
    return len(tokens) == 1 and tokenizer.is_special_token(tokens[0])


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
