"""A home: lights, thermostat and blinds as Python functions. Run: python examples/home.py "close the bedroom blinds"

The requests below are some that the bundled model gets right; by far not all are. Each begins a conversation of its own
(`reset`).
"""

from __future__ import annotations

import sys
from typing import Annotated, Literal

from toolace_edge import Agent

Room = Annotated[Literal["kitchen", "living room", "bedroom"], "Which room"]
REQUESTS = (
    "turn on the lights in the kitchen",
    "turn off the bedroom lights",
    "dim the lights in the living room to 60 percent",
    "set the bedroom to 19 degrees",
    "close the blinds in the kitchen",
    "what is the capital of France?",
)


def turn_lights(room: Room, state: Annotated[Literal["on", "off"], "On or off"]) -> str:
    """Turn the lights of a room on or off."""
    return f"The lights of the {room} are {state}."


def dim_lights(room: Room, percent: Annotated[int, "Brightness", {"minimum": 1, "maximum": 100}]) -> str:
    """Set the brightness of the lights of a room."""
    return f"The lights of the {room} are at {percent} %."


def set_thermostat(room: Room, degrees: Annotated[int, "Degrees Celsius", {"minimum": 5, "maximum": 30}]) -> str:
    """Set the temperature of a room."""
    return f"The {room} will be {degrees} degrees warm."


def move_blinds(room: Room, position: Annotated[Literal["open", "half", "closed"], "How far"]) -> str:
    """Open or close the blinds of a room."""
    return f"The blinds of the {room} are {position}."


with Agent(tools=[turn_lights, dim_lights, set_thermostat, move_blinds], max_steps=1) as agent:
    for request in sys.argv[1:] or REQUESTS:
        agent.reset()
        run = agent.run(request)
        print(f"> {request}")
        for call, result in zip(run.calls, run.results, strict=True):
            print(f"{call}\n{result.content}")
        if not run.calls:
            print("No tool fits.")
