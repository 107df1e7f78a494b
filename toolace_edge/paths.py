"""Where this package keeps what it can make again: one folder, named by TOOLACE_EDGE_CACHE or by the platform."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_dir() -> Path:
    """The cache folder; it may not exist yet. Everything in it may be deleted at any time."""
    if chosen := os.environ.get("TOOLACE_EDGE_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "toolace-edge"
