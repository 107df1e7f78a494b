"""What people and pipes read: a call on a line, an answer as JSON, a round token by token."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click

from toolace_edge.messages import Answer, Round, Step, ToolCall, Usage

# How a token came about: colour on a terminal, and the marks around it everywhere.
_TRACE_STYLES: Mapping[str, tuple[dict[str, Any], str]] = {
    "forced": ({"dim": True}, "{}"),
    "draft": ({"fg": "cyan"}, "({})"),
    "free": ({"fg": "green", "bold": True}, "[{}]"),
    "closing": ({"fg": "red"}, "!{}!"),
}
TRACE_LEGEND = "forced by the grammar · [free choice, probability] · (draft that came true) · !closed for want of room!"


def echo(text: str, err: bool = False, nl: bool = True) -> None:
    """click.echo that never fails on a character that the stream cannot write (a lone surrogate, a Windows console)."""
    encoding = getattr(sys.stderr if err else sys.stdout, "encoding", None) or "utf-8"
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding), err=err, nl=nl)


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON with letters as themselves where UTF-8 can hold them; escaped where it cannot (a lone surrogate)."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text


def calls_json(calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    return [{"name": call.name, "arguments": dict(call.arguments)} for call in calls]


def answer_json(answer: Answer) -> dict[str, Any]:
    """The object that `run --json` prints."""
    return {
        "calls": calls_json(answer.calls),
        "text": answer.text,
        "stop": answer.stop,
        "confidence": _rounded(answer.confidence),
        "rounds": [round_json(one) for one in answer.rounds],
        "usage": usage_json(answer.usage),
    }


def round_json(one: Round, usage: bool = True) -> dict[str, Any]:
    """One round; the logarithms are what a calibration is made from."""
    facts = {
        "calls": calls_json(one.calls),
        "text": one.text,
        "confidence": _rounded(one.confidence),
        "log_probability": _rounded(one.log_probability),
        "log_minimum": _rounded(one.log_minimum),
    }
    return {**facts, "usage": usage_json(one.usage)} if usage else facts


def usage_json(usage: Usage) -> dict[str, Any]:
    return {name: _rounded(value) for name, value in asdict(usage).items()}


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


def print_answer(answer: Answer) -> None:
    """For people: a line a call, or what was said instead."""
    for call in answer.calls:
        echo(str(call))
    if not answer.calls:
        echo(answer.text or "No tool fits this request.")


def print_trace(answer: Answer) -> None:
    """Each round on stderr: what it cost, then its tokens, each marked by who chose it."""
    echo(click.style(TRACE_LEGEND, dim=True), err=True)
    for number, one in enumerate(answer.rounds):
        usage = one.usage
        confidence = "" if one.confidence is None else f", confidence {one.confidence:.2f}"
        echo(
            f"round {number}: {usage.call_tokens} tokens ({usage.forced_tokens} forced, {usage.accepted_tokens} of "
            f"{usage.drafted_tokens} drafted), {usage.forward_passes} forward passes, "
            f"{(usage.prefill_s + usage.decode_s) * 1000:.0f} ms{confidence}",
            err=True,
        )
        echo("  " + "".join(_mark(step) for step in one.steps), err=True)
    echo(f"stopped: {answer.stop}", err=True)


def _mark(step: Step) -> str:
    style, marks = _TRACE_STYLES[step.kind]
    text = step.text.replace("\n", "\\n")
    if step.kind in ("free", "draft") and step.probability is not None:
        text = f"{text} {step.probability:.2f}"
    return click.style(marks.format(text), **style)
