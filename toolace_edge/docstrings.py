"""What a docstring says about a function and its parameters, in Google, NumPy or Sphinx style."""

from __future__ import annotations

import inspect
import re

_GOOGLE_SECTION = re.compile(r"(Args|Arguments|Parameters|Params):\s*$")
_ANY_GOOGLE_SECTION = re.compile(
    r"(Args|Arguments|Parameters|Params|Returns?|Yields?|Raises|Examples?|Notes?|Warnings?|See Also|Attributes):\s*$"
)
_GOOGLE_ITEM = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)")
_NUMPY_ITEM = re.compile(r"\*{0,2}(\w+(?:\s*,\s*\w+)*)\s*(?::.*)?$")
_SPHINX_ITEM = re.compile(r":param\s+(?:[^:]*\s)?\*{0,2}(\w+)\s*:\s*(.*)")
_SPHINX_FIELD = re.compile(r":\w[\w ]*:")


def read_docstring(docstring: str | None) -> tuple[str, dict[str, str]]:
    """The description (all before the first section, in one paragraph each) and a description for each parameter."""
    lines = inspect.cleandoc(docstring or "").splitlines()
    end = next((i for i in range(len(lines)) if _starts_section(lines, i)), len(lines))
    parameters: dict[str, str] = {}
    for i in range(end, len(lines)):
        if _GOOGLE_SECTION.match(lines[i]):
            parameters |= _google_items(lines[i + 1 :])
        elif lines[i].strip() in ("Parameters", "Other Parameters") and _is_underline(lines, i + 1):
            parameters |= _numpy_items(lines[i + 2 :])
        elif match := _SPHINX_ITEM.match(lines[i]):
            parameters[match[1]] = _join([match[2], *_sphinx_continuation(lines[i + 1 :])])
    return _paragraphs(lines[:end]), parameters


def _starts_section(lines: list[str], i: int) -> bool:
    line = lines[i]
    return bool(_ANY_GOOGLE_SECTION.match(line) or _SPHINX_FIELD.match(line) or _is_underline(lines, i + 1))


def _is_underline(lines: list[str], i: int) -> bool:
    """Of a NumPy section: dashes below a heading, as long as it is."""
    return 0 < i < len(lines) and bool(re.fullmatch("-{3,}", lines[i].strip())) and bool(lines[i - 1].strip())


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _google_items(lines: list[str]) -> dict[str, str]:
    """Indented `name (type): text`; deeper lines go on with the text; the first line that is not indented ends it."""
    found: dict[str, list[str]] = {}
    item_indent, name = 0, ""
    for line in lines:
        if not line.strip():
            continue
        if not _indent(line):
            break
        match = _GOOGLE_ITEM.match(line.strip())
        if match and (not item_indent or _indent(line) <= item_indent):
            item_indent, name = _indent(line), match[1]
            found[name] = [match[2]]
        elif name:
            found[name].append(line)
    return {name: _join(text) for name, text in found.items()}


def _numpy_items(lines: list[str]) -> dict[str, str]:
    """`name : type` at the margin, its text indented below; the next heading ends it."""
    found: dict[str, list[str]] = {}
    names: list[str] = []
    for i, line in enumerate(lines):
        if _is_underline(lines, i + 1):
            break
        if line.strip() and not _indent(line):
            match = _NUMPY_ITEM.match(line)
            names = [name.strip() for name in match[1].split(",")] if match else []
            found |= {name: [] for name in names}
        else:
            for name in names:
                found[name].append(line)
    return {name: _join(text) for name, text in found.items()}


def _sphinx_continuation(lines: list[str]) -> list[str]:
    end = next((i for i, line in enumerate(lines) if not _indent(line)), len(lines))
    return lines[:end]


def _join(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())


def _paragraphs(lines: list[str]) -> str:
    return "\n".join(_join(part.splitlines()) for part in re.split(r"\n\s*\n", "\n".join(lines)) if part.strip())
