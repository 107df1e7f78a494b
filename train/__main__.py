"""`python -m toolace_edge.train` is `toolace-edge train`: what `accelerate launch -m` needs.

With TOOLACE_EDGE_WITH_PARENT set it ends when its standard input does, and so with whatever holds the other end: a
loop over rounds that is killed leaves no training behind that would write into the folder of the next one.
"""

from __future__ import annotations

import os
import sys
import threading

from toolace_edge.cli import main


def _end_with_input() -> None:
    while os.read(0, 1):  # nothing more is sent
        pass
    os._exit(1)


if __name__ == "__main__":
    if os.environ.get("TOOLACE_EDGE_WITH_PARENT"):
        threading.Thread(target=_end_with_input, daemon=True).start()
    main(["train", *sys.argv[1:]])
