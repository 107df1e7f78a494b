"""Where this package keeps things: what it can make again in the cache folder, the user's models in the data folder,
what was typed in the state folder.

A variable names them (TOOLACE_EDGE_CACHE the first, TOOLACE_EDGE_HOME the others), or else the platform.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from toolace_edge.errors import ToolaceEdgeError


def cache_dir() -> Path:
    """The cache folder; it may not exist yet. Everything in it may be deleted at any time."""
    if chosen := os.environ.get("TOOLACE_EDGE_CACHE"):
        return Path(chosen)
    return _platform_dir("XDG_CACHE_HOME", ".cache", "Caches") / "toolace-edge"


def data_dir() -> Path:
    """The folder of what the user keeps here, the model store above all; it may not exist yet."""
    if chosen := os.environ.get("TOOLACE_EDGE_HOME"):
        return Path(chosen)
    return _platform_dir("XDG_DATA_HOME", ".local/share", "Application Support") / "toolace-edge"


def state_dir() -> Path:
    """The folder of what happened here and nobody would carry elsewhere, as the lines of a chat; it may not exist."""
    if chosen := os.environ.get("TOOLACE_EDGE_HOME"):
        return Path(chosen)
    return _platform_dir("XDG_STATE_HOME", ".local/state", "Application Support") / "toolace-edge"


def _platform_dir(variable: str, unix: str, mac: str) -> Path:
    """LOCALAPPDATA, a folder of ~/Library, or what the XDG base directory specification says."""
    try:
        if sys.platform == "win32":
            return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        if sys.platform == "darwin":
            return Path.home() / "Library" / mac
        return Path(os.environ.get(variable) or Path.home() / unix)
    except RuntimeError as error:
        raise ToolaceEdgeError(
            "There is no home folder to keep things in.", hint="Set TOOLACE_EDGE_HOME and TOOLACE_EDGE_CACHE."
        ) from error
