"""A child that says who it is, and then never comes to an end."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

from toolace_edge.convert.child import serve


def work(_job: dict[str, Any], on_progress: Callable[[int, int], None]) -> None:
    on_progress(os.getpid(), 0)
    while True:
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(serve(work))
