"""What a file of training lines contains and what it lacks, before hours are spent on it.

Every line is read as training reads it, so what passes here trains. Lacking is measured against what tool calling
needs: requests that call nothing, several calls, each kind of value, optional arguments left out, texts that were
said.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolace_edge.errors import DataError
from toolace_edge.examples import Example, read_examples
from toolace_edge.formats.base import Limits
from toolace_edge.schema import check

from .grounding import texts

LIMITS = Limits()
_UNWRITTEN = re.compile(r"[\x00-\x07\x0b\x0e-\x1f\x7f]")  # JSON has no short escape for these
# (what, the share below which it is called lacking)
_NEEDS = (
    ("no call", 0.10), ("several calls", 0.05), ("the same tool twice", 0.02), ("more than one tool", 0.50),
    ("a number", 0.10), ("a boolean", 0.02), ("a list", 0.03), ("an object", 0.01), ("an optional argument left out",
    0.10),
)  # fmt: skip


@dataclass(slots=True)
class Report:
    """Counts of lines. `problems` are lines that cannot be learned from, each with its number and why, the first 20."""

    lines: int = 0
    sources: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    tools: set[str] = field(default_factory=set)
    values: int = 0
    said: int = 0
    bad: int = 0
    repeated: int = 0
    problems: list[str] = field(default_factory=list)

    def lacks(self) -> list[str]:
        """A sentence for each thing that is rarer than it should be."""
        found = []
        if self.repeated:
            found.append(f"ids of their own: {self.repeated} of {self.lines} lines have that of an earlier one, and "
                         "`train rounds` and --only choose by ids")  # fmt: skip
        for what, least in _NEEDS:
            share = self.kinds[what] / self.lines if self.lines else 0.0
            if share < least:
                found.append(f"{what}: {self.kinds[what]} of {self.lines} lines ({share:.1%}; {least:.0%} is little)")
        return found

    def as_json(self) -> dict[str, Any]:
        return {
            "lines": self.lines, "bad": self.bad, "problems": self.problems, "sources":
            dict(self.sources.most_common()), "kinds": {what: self.kinds[what] for what, _ in _NEEDS}, "tools":
            len(self.tools), "values_said": round(self.said / self.values, 4) if self.values else None, "lacks":
            self.lacks(),
        }  # fmt: skip


def examine(path: Path) -> Report:
    """Reads the whole file. DataError only where it cannot go on: a line that is no JSON in the form of the data."""
    report, seen = Report(), set[str]()
    for example in read_examples(path):
        report.lines += 1
        report.repeated += example.id in seen
        seen.add(example.id)
        report.sources[example.group] += 1
        problem = _problem(example)
        if problem:
            report.bad += 1
            if len(report.problems) < 20:
                report.problems.append(f"line {example.line}: {problem}")
            continue
        report.tools.update(tool.name for tool in example.tools)
        report.kinds.update(_kinds(example))
        _count_values(example, report)
    return report


def checked(path: Path) -> Iterator[Example]:
    """The examples of a file that is to be learned from. DataError with the first line that cannot be."""
    for example in read_examples(path):
        if (problem := _problem(example)) is not None:
            hint = "Correct the line or leave it out; `toolace-edge train check` lists every such line."
            raise DataError(str(path), example.line, f"{problem}.", hint=hint)
        yield example


def _problem(example: Example) -> str | None:
    if example.refused:
        return example.refused
    by_name = {tool.name: tool for tool in example.tools}
    for call in example.gold:
        if call.name not in by_name:
            return f"it calls {call.name!r}, which is none of its tools"
        parameters = by_name[call.name].parameters
        if wrong := check(parameters, dict(call.arguments)):
            return f"its call of {call.name} does not obey the schema: {wrong}"
        if beyond := _beyond(parameters, dict(call.arguments), "arguments"):
            return f"the runtime could not write its call of {call.name}: {beyond}"
    if len(example.gold) > LIMITS.max_calls:
        return f"it has {len(example.gold)} calls, and the runtime writes {LIMITS.max_calls} at most"
    if len(example.text) > LIMITS.max_text:
        return f"its text has {len(example.text)} characters, and the runtime writes {LIMITS.max_text} at most"
    return None


def _beyond(schema: Any, value: Any, where: str) -> str | None:
    """What of a value that obeys its schema lies beyond the bounds that the runtime sets where the schema has none."""
    schema = schema if isinstance(schema, Mapping) else {}
    if "enum" in schema:
        return None
    if "anyOf" in schema:
        found = [_beyond(arm, value, where) for arm in schema["anyOf"] if not check(arm, value)]
        return None if None in found else found[0]
    if isinstance(value, str):
        return _beyond_text(schema, value, where)
    if isinstance(value, Mapping):
        parts, free = schema.get("properties", {}), schema.get("additionalProperties")
        inner = ((parts.get(name, free), one, f"{where}.{name}") for name, one in value.items())
        return next(filter(None, (_beyond(*one) for one in inner)), None)
    if not isinstance(value, list):
        return None
    heads = schema.get("prefixItems", ())
    most = schema.get("maxItems", max(LIMITS.max_items, schema.get("minItems", 0), len(heads)))
    if len(value) > most:
        return f"{where} has {len(value)} items; without maxItems {most} are the most"
    items = [heads[i] if i < len(heads) else schema.get("items") for i in range(len(value))]
    parts_of = ((item, one, f"{where}[{i}]") for i, (item, one) in enumerate(zip(items, value, strict=True)))
    return next(filter(None, (_beyond(*one) for one in parts_of)), None)


def _beyond_text(schema: Mapping[str, Any], text: str, where: str) -> str | None:
    most = schema.get("maxLength", max(LIMITS.max_string, schema.get("minLength", 0)))
    if len(text) > most:
        return f"{where} has {len(text)} characters; without maxLength {most} are the most"
    if odd := _UNWRITTEN.search(text):
        return f"{where} has the control character {odd[0]!r}"
    return None


def _kinds(example: Example) -> set[str]:
    names = [call.name for call in example.gold]
    found = {
        "no call": not names,
        "several calls": len(names) > 1,
        "the same tool twice": len(set(names)) < len(names),
        "more than one tool": len(example.tools) > 1,
    }
    for call in example.gold:
        for value in call.arguments.values():
            found[_kind(value)] = True
        tool = next(tool for tool in example.tools if tool.name == call.name)
        if set(tool.parameters.get("properties", {})) - set(call.arguments):
            found["an optional argument left out"] = True
    return {what for what, there in found.items() if there}


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a text"
    return "an object" if isinstance(value, Mapping) else "a list"


def _count_values(example: Example, report: Report) -> None:
    """How many texts of the calls were said word for word: the rest must be inferred, or was invented."""
    heard = "\n".join(message.content for message in example.messages).lower()
    for text in texts([dict(call.arguments) for call in example.gold]):
        report.values += 1
        report.said += text.lower() in heard
