"""A conversation that acts, followed event by event. Run: python examples/agent.py"""

from __future__ import annotations

from typing import Literal

from toolace_edge import Agent
from toolace_edge.events import CallFinished, ResultReady


def set_thermostat(room: Literal["kitchen", "bedroom"], degrees: int) -> str:
    """Set the temperature of a room.

    Args:
        room: Which room
        degrees: Temperature in degrees Celsius
    """
    return f"The {room} will be {degrees} degrees warm."


# One step a request: the bundled model is too small to learn from a result when it is done. A larger one gets 8.
with Agent(tools=[set_thermostat], max_steps=1) as agent:
    for request in ("make the bedroom 21 degrees", "and the kitchen 19 degrees"):
        for event in agent.stream(request):
            if isinstance(event, CallFinished):
                print(f"call: {event.call}")
            elif isinstance(event, ResultReady):
                print(f"result: {event.result.content}")
