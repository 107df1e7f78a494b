"""What refinement did: each round's calls and what they cost. Run: python examples/rounds.py "text Anna: I am late" """

from __future__ import annotations

import sys
from pathlib import Path

from toolace_edge import load, load_tools

request = " ".join(sys.argv[1:]) or "will it rain in Oslo?"
session = load(tools=load_tools(Path(__file__).with_name("tools.json")), rounds=3)
answer = session.complete(request)
for number, one in enumerate(answer.rounds):
    calls = ", ".join(map(str, one.calls)) or "no call"
    print(f"round {number}: {calls} ({one.usage.forward_passes} forward passes for {one.usage.call_tokens} tokens)")
print(f"stopped: {answer.stop}")
