"""`run --execute`: calls run, and people see call, result and answer as each is there; pipes get one JSON object."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from typing import IO, Any

from toolace_edge.agent import Agent, OnEvent
from toolace_edge.cli.output import echo, print_retrieval, print_trace, run_json, to_json
from toolace_edge.cli.sources import ask as ask_at_the_terminal
from toolace_edge.events import CallFinished, Event, ResultReady
from toolace_edge.messages import Run
from toolace_edge.policy import Policy
from toolace_edge.registry import Model

WHY_STOPPED = {
    "max_steps": "Stopped: --max-steps allows no further answer.",
    "repeated": "Stopped: the same call gave the same result three times in a row.",
    "denied": "Stopped: none of these calls was allowed.",
}


def act(
    model: Model,
    functions: Sequence[Callable[..., Any]],
    request: str,
    settings: Mapping[str, Any],
    rules: Mapping[str, Policy],
    *,
    max_steps: int,
    trace: bool,
    as_json: bool,
) -> bool:
    """Work on the request, print what happens, and say whether every call went well.

    `settings` are the Agent's, `rules` its policy.
    """
    agent = Agent(
        model,
        functions,
        policy=rules,
        approve=ask_at_the_terminal,
        max_steps=max_steps,
        **settings,
    )
    run = run_apart(agent, request, None if as_json else _show, sys.stderr)
    if run.steps:  # a request's steps are all offered the same tools
        print_retrieval(run.steps[0].answer)
    if trace:
        for step in run.steps:
            print_trace(step.answer)
    if as_json:
        echo(to_json(run_json(run)))
    else:
        _show_end(run, max_steps)
    return not any(result.error for result in run.results)


def run_apart(agent: Agent, request: str, on_event: OnEvent | None, aside: IO[str]) -> Run:
    """`agent.run`, with what tools print written to `aside`: standard output is for answers.

    `on_event` has the usual standard output; `approve`, which is called between events, has not.
    """
    ours = sys.stdout

    def tell(event: Event) -> None:
        if on_event is not None:
            with redirect_stdout(ours):
                on_event(event)

    with redirect_stdout(aside):
        return agent.run(request, on_event=tell)


def _show(event: Event) -> None:
    if isinstance(event, CallFinished):
        echo(str(event.call))
    elif isinstance(event, ResultReady):
        echo(event.result.content, err=event.result.error)


def _show_end(run: Run, max_steps: int) -> None:
    if run.text:
        echo(run.text)
    elif not run.calls:
        echo("No tool fits this request.")
    elif max_steps > 1 and run.stop in WHY_STOPPED:  # after a single answer nobody expects a further one
        echo(WHY_STOPPED[run.stop], err=True)
