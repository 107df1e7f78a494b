"""Python functions as tools: the model says which to call, this program calls it. Run: python examples/functions.py"""

from __future__ import annotations

from typing import Literal

from toolace_edge import load, tool
from toolace_edge.execute import Executor


@tool
def set_thermostat(room: Literal["kitchen", "bedroom"], degrees: int) -> str:
    """Set the temperature of a room.

    Args:
        room: Which room
        degrees: Temperature in degrees Celsius
    """
    return f"The {room} will be {degrees} degrees warm."


answer = load(tools=[set_thermostat]).complete("make the bedroom 21 degrees")
for result in Executor([set_thermostat]).run_all(answer.calls):
    print(result.content)
