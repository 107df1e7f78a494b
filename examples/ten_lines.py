"""From a request to what came of it, in ten lines. Run: python examples/ten_lines.py"""

from toolace_edge import Agent


def set_timer(minutes: int) -> str:
    """Set a timer."""
    return f"It rings in {minutes} minutes."


with Agent(tools=[set_timer]) as agent:
    print(agent.run("set a timer for 10 minutes", max_steps=1).results[0].content)
