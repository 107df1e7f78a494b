"""Native runtimes behind one Protocol. Importing this loads none of them."""

from __future__ import annotations

from toolace_edge.engines.base import Engine, open_engine

__all__ = ["Engine", "open_engine"]
