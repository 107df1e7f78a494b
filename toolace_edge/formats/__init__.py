"""How model families read tools and write calls: one small file each, one Protocol (base.py)."""

from __future__ import annotations

from toolace_edge.errors import InputError
from toolace_edge.formats.base import Format, Limits, Piece, Rendered, ToolChoice

__all__ = ["ASK", "NAMES", "Format", "Limits", "Piece", "Rendered", "ToolChoice", "get"]

NAMES = ("compact", "toolace", "hermes")
# The hint where a model or a checkpoint does not say its own.
ASK = (
    "Name it with --format, in Python with format_name: "
    "toolace (ToolACE's own checkpoints), hermes (Qwen, Hermes) or compact."
)


def get(name: str) -> Format:
    """The format of that name."""
    from toolace_edge.formats.compact import Compact
    from toolace_edge.formats.hermes import Hermes
    from toolace_edge.formats.toolace import Toolace

    formats: dict[str, type[Format]] = {"compact": Compact, "toolace": Toolace, "hermes": Hermes}
    if name not in formats:
        raise InputError(f"There is no format {name!r}.", hint=f"Formats are {', '.join(NAMES)}.")
    return formats[name]()
