"""What people and pipes read: a call on a line, an answer as JSON, a round token by token.

Tools, data and models are strangers' files: no control character of theirs reaches a terminal (`plain`).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click

from toolace_edge.errors import ToolaceEdgeError
from toolace_edge.messages import Answer, Retrieval, Round, Run, Step, ToolCall, ToolResult, Usage

# How a token came about: colour on a terminal, and the marks around it everywhere.
_TRACE_STYLES: Mapping[str, tuple[dict[str, Any], str]] = {
    "forced": ({"dim": True}, "{}"),
    "draft": ({"fg": "cyan"}, "({})"),
    "free": ({"fg": "green", "bold": True}, "[{}]"),
    "closing": ({"fg": "red"}, "!{}!"),
}
TRACE_LEGEND = "forced by the grammar · [free choice, probability] · (draft that came true) · !closed for want of room!"


# What moves a cursor, starts an escape sequence or turns the reading direction around; not the tab and the newline.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

Styled = tuple[str, Mapping[str, Any]]  # a text and click.style's options


def plain(text: str) -> str:
    """The text with control characters spelled out: `\\x1b[31m`."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def echo(text: str, err: bool = False) -> None:
    """A line of plain text. It never fails on a character that the stream cannot write (a Windows console)."""
    _write(plain(text), err)


def echo_styled(*parts: Styled, err: bool = False, color: bool | None = None) -> None:
    """A line of plain texts, each in a style of its own where the stream is a terminal."""
    _write("".join(click.style(plain(text), **style) for text, style in parts), err, color)


def print_error(message: str, hint: str = "", color: bool | None = None) -> None:
    """A sentence and a hint on stderr, nothing else."""
    echo_styled(("Error: ", {"fg": "red", "bold": True}), (message, {}), err=True, color=color)
    if hint:
        echo_styled(("Hint: ", {"fg": "yellow"}), (hint, {}), err=True, color=color)


def _write(text: str, err: bool, color: bool | None = None) -> None:
    encoding = getattr(sys.stderr if err else sys.stdout, "encoding", None) or "utf-8"
    try:
        click.echo(text.encode(encoding, "backslashreplace").decode(encoding), err=err, color=color)
    except BrokenPipeError:  # the reader is gone; click ends quietly
        raise
    except OSError as error:
        where = "Standard error" if err else "Standard output"
        raise ToolaceEdgeError(f"{where} cannot be written: {error.strerror}.", hint="Send it elsewhere.") from error


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON with letters as themselves; control characters, and what the stream cannot hold, escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    text = _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text


def calls_json(calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    return [{"name": call.name, "arguments": dict(call.arguments)} for call in calls]


def answer_json(answer: Answer) -> dict[str, Any]:
    """The object that `run --json` prints. `retrieval` is there where the model was not shown every tool."""
    facts = {
        "calls": calls_json(answer.calls),
        "text": answer.text,
        "stop": answer.stop,
        "confidence": _rounded(answer.confidence),
        "rounds": [round_json(one) for one in answer.rounds],
        "usage": usage_json(answer.usage),
    }
    return facts if answer.retrieval is None else {**facts, "retrieval": _retrieval_json(answer.retrieval)}


def _retrieval_json(retrieval: Retrieval) -> dict[str, Any]:
    return {**asdict(retrieval), "tools": [{"name": name, "score": score} for name, score in retrieval.tools]}


def run_json(run: Run) -> dict[str, Any]:
    """The object that `run --execute --json` prints: every call, the last words, why it ended, and each step.

    `confidence` and `rounds` are the last answer's, and missing where the run was cancelled before there was one.
    """
    steps = [{**answer_json(step.answer), "results": [_result_json(one) for one in step.results]} for step in run.steps]
    whole = {"calls": calls_json(run.calls), "text": run.text, "stop": run.stop, "usage": usage_json(run.usage)}
    last = answer_json(run.steps[-1].answer) if run.steps else {}
    return {**last, **whole, "steps": steps}


def _result_json(result: ToolResult) -> dict[str, Any]:
    return {"name": result.name, "content": result.content, "error": result.error, "outcome": result.outcome}


def round_json(one: Round, usage: bool = True) -> dict[str, Any]:
    """One round; the logarithms are what a calibration is made from."""
    facts = {
        "calls": calls_json(one.calls),
        "text": one.text,
        "confidence": _rounded(one.confidence),
        "log_probability": _rounded(one.log_probability),
        "log_minimum": _rounded(one.log_minimum),
        "cut": one.cut,
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
    if not answer.calls and (answer.text or not answer.cut):  # what was cut off may have been a call
        echo(answer.text or "No tool fits this request.")


def print_cut(answer: Answer) -> None:
    """On stderr, where the answer ended at a limit."""
    if answer.cut:
        echo("The answer ended at a limit: what it says last may be cut off.", err=True)


def print_retrieval(answer: Answer) -> None:
    """On stderr, where the model was not shown every tool: how many, and why."""
    if answer.retrieval is not None:
        echo(f"{answer.retrieval} --top-k sets how many.", err=True)


def print_trace(answer: Answer, tokens: bool = True) -> None:
    """Each round on stderr: what it cost, then its tokens, each marked by who chose it."""
    if tokens:
        echo_styled((TRACE_LEGEND, {"dim": True}), err=True)
    for number, one in enumerate(answer.rounds):
        usage = one.usage
        confidence = "" if one.confidence is None else f", confidence {one.confidence:.2f}"
        echo(
            f"round {number}: {usage.call_tokens} tokens ({usage.forced_tokens} forced, {usage.accepted_tokens} of "
            f"{usage.drafted_tokens} drafted), {usage.forward_passes} forward passes, "
            f"{(usage.prefill_s + usage.decode_s) * 1000:.0f} ms{confidence}",
            err=True,
        )
        if tokens:
            echo_styled(("  ", {}), *map(_mark, one.steps), err=True)
    echo(f"stopped: {answer.stop}", err=True)


def _mark(step: Step) -> Styled:
    style, marks = _TRACE_STYLES[step.kind]
    text = step.text.replace("\n", "\\n")
    if step.kind in ("free", "draft") and step.probability is not None:
        text = f"{text} {step.probability:.2f}"
    return marks.format(text), style
