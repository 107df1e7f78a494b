"""What an MCP server's tool gave, as text that a model can read."""

from __future__ import annotations

import json
from typing import Any

from toolace_edge.errors import CallError


def result_text(result: Any) -> str:
    """The text of a CallToolResult: its texts, notes of what is none, and structured content that no text repeats.

    CallError where the server says that this is an error.
    """
    parts = [_block_text(block) for block in result.content]
    structured = result.structured_content
    if structured is not None and not _is_said(structured, parts):
        parts.append(json.dumps(structured, ensure_ascii=False))
    text = "\n".join(part for part in parts if part)
    if result.is_error:
        raise CallError(text or "the tool failed and did not say why")
    return text or "done"


def _block_text(block: Any) -> str:
    if block.type == "text":
        return str(block.text)
    if block.type in ("image", "audio"):
        return f"[{block.type}: {block.mime_type}, {len(block.data) * 3 // 4} bytes]"
    if block.type == "resource_link":
        return f"[resource {block.name}: {block.uri}]"
    if block.type == "resource":
        inner = block.resource
        given = getattr(inner, "text", None)
        return str(given) if given is not None else f"[resource {inner.uri}: {inner.mime_type or 'data'}]"
    return f"[{block.type}]"


def _is_said(structured: Any, parts: list[str]) -> bool:
    """Whether the texts say the structured content already: it, the one value in it, or that value's items."""
    only = next(iter(structured.values())) if isinstance(structured, dict) and len(structured) == 1 else structured
    values = [_read(part) for part in parts]
    return any(value in (structured, only) for value in (*parts, *values, values))


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
