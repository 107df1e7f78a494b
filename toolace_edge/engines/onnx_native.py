"""Loads onnxruntime so that it reports nothing.

From 1.29 on its builds for Linux and macOS send reports to their maker, keep an identifier of the machine under
~/.cache/Microsoft, and begin both as they load: only a word in the environment before that prevents it. Builds for
Windows hand events to the system, which a call prevents. A program that has loaded onnxruntime before has chosen.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from toolace_edge.engines.base import NOT_LOADED
from toolace_edge.errors import EngineError


@cache
def native() -> Any:
    """The module `onnxruntime`. EngineError where its library does not load."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except (ImportError, OSError) as error:
        raise EngineError(f"onnxruntime does not load: {error}.", hint=NOT_LOADED) from error
    onnxruntime.disable_telemetry_events()
    return onnxruntime
