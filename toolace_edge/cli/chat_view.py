"""What a chat shows: an answer in the making on a terminal, then what counts of it; pipes get that alone, in full.

A version that a further round replaces is never left standing: what is being made is shown in rows that go away.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from typing import Any

from toolace_edge.cli.live import Live, rows
from toolace_edge.cli.output import (
    answer_json,
    echo,
    echo_styled,
    print_answer,
    print_cut,
    print_error,
    print_retrieval,
    print_trace,
    run_json,
    to_json,
)
from toolace_edge.errors import ToolaceEdgeError
from toolace_edge.events import (
    ArgumentFragment,
    CallBegun,
    CallFinished,
    Event,
    Failed,
    Finished,
    Prefill,
    ResultReady,
    TextFragment,
)
from toolace_edge.messages import Answer, Run, ToolCall, ToolResult

_MOST_ROWS = 16  # of a result on a terminal
_NOT_WORTH_CUTTING = 4  # rows more
_MOST_LAID_OUT = 100_000  # characters
_DIM, _BOLD, _RED = {"dim": True}, {"bold": True}, {"fg": "red"}


class View:
    """`pretty` is for people: colours, results cut. `as_json` gives one object a turn and nothing else."""

    def __init__(self, live: Live, *, pretty: bool, as_json: bool) -> None:
        self.trace = "off"  # on: what each round cost; tokens: who chose each of its tokens
        self.results: tuple[ToolResult, ...] = ()  # the last turn's
        self.aside = live.above  # where tools print
        self._live = live
        self._pretty = pretty
        self._as_json = as_json
        self._retrieval_told = False
        self._begin()

    def follow(self, event: Event) -> None:
        """What happens while a request is worked on (events.py)."""
        match event:
            case Prefill(read=read, total=total):
                self._live.show(f"reading the prompt: {read} of {total} tokens" if read < total else "...")
            case CallBegun(name=name):
                self._version(event.step, event.round).append(f"{name} ")
            case ArgumentFragment() | TextFragment():
                version = self._version(event.step, event.round)
                version[-1:] = ["".join(version[-1:]) + event.text]
                self._show_version()
            case CallFinished(call=call):
                self._call(call)
            case ResultReady(result=result):
                self._result(result)
            case Finished() | Failed():
                self._live.clear()
                self._begin()

    def asked(self, call: ToolCall) -> None:
        """This call is asked about now: it stands there, whatever the answer."""
        self._live.clear()
        echo_styled((str(call), _BOLD), err=not self._pretty)
        self._asked = True

    def run(self, run: Run, why_stopped: str) -> None:
        """The end of a turn that may act. `why_stopped` is for people."""
        self._live.clear()
        self._begin()
        self.results = run.results
        self._notes([step.answer for step in run.steps])
        if self._as_json:
            echo(to_json(run_json(run)))
        elif run.text:
            echo(run.text)
        elif run.stop == "no_call":
            echo_styled(("No tool fits this request.", _DIM if self._pretty else {}))
        elif why_stopped:
            echo_styled((why_stopped, _DIM), err=True)
        self.gap()

    def answer(self, answer: Answer) -> None:
        """The end of a turn in which nothing can run."""
        self._live.clear()
        self._begin()
        self._notes([answer])
        if self._as_json:
            echo(to_json(answer_json(answer)))
        elif self._pretty and answer.calls:
            for call in answer.calls:
                echo_styled((str(call), _BOLD))
            echo_styled(("  not run: there is only a description of the tool", _DIM))
        else:
            print_answer(answer)
        self.gap()

    def cancelled(self) -> None:
        """The end of a turn that has no answer."""
        self.run(Run((), "cancelled"), "Cancelled.")

    def error(self, error: ToolaceEdgeError, *, where: str = "", hint: str = "") -> None:
        """A turn that failed: a sentence, and for machines an object in the answer's place."""
        self._live.clear()
        self._begin()
        print_error(f"{where}{error}", hint or error.hint)
        if self._as_json:
            echo(to_json({"error": str(error), "hint": hint or error.hint}))
        self.gap()

    def gap(self) -> None:
        """What sets a turn apart from the next, for people."""
        if self._pretty:
            echo("")

    def _begin(self) -> None:
        self._versions: dict[tuple[int, int], list[str]] = {}  # by step and round: calls, or the text
        self._waiting: list[ToolCall] = []
        self._asked = False

    def _version(self, step: int, number: int) -> list[str]:
        return self._versions.setdefault((step, number), [])

    def _show_version(self) -> None:
        """The one before it for as long as they agree: a round that changes nothing shows nothing new."""
        (step, number), now = next(reversed(self._versions.items()))
        before = self._versions.get((step, number - 1), [])
        now_text, before_text = "\n".join(now), "\n".join(before)
        self._live.show(before_text if before_text.startswith(now_text) else now_text)

    def _call(self, call: ToolCall) -> None:
        if self._as_json or self._pretty:  # it is printed with its result
            self._waiting.append(call)
            self._live.show(self._running())
        else:
            self._live.clear()
            echo(str(call))

    def _result(self, result: ToolResult) -> None:
        self._live.clear()
        if self._as_json or self._pretty:
            call = self._waiting.pop(0)
            if self._pretty:
                if not self._asked:
                    echo_styled((str(call), _BOLD))
                self._print_result(result)
            self._live.show(self._running())
        else:
            echo(whole_of(result), err=result.error)
        self._asked = False

    def _running(self) -> str:
        return "\n".join(f"{call} ..." for call in self._waiting)

    def _print_result(self, result: ToolResult) -> None:
        if self._asked and result.outcome in ("denied", "cancelled"):
            echo_styled(("  not run", _DIM))
            return
        columns = shutil.get_terminal_size().columns - 2
        shown, note = cut_for_reading(result, columns)
        for row in shown:
            echo_styled((f"  {row}", _RED if result.error else {}))
        if note:
            echo_styled((f"  {note}", _DIM))

    def _notes(self, answers: Sequence[Answer]) -> None:
        """On stderr: which tools were offered, the first time and in a trace; and the trace."""
        for answer in answers[:1]:  # a request's answers are all offered the same tools
            if answer.retrieval is not None and (self.trace != "off" or not self._retrieval_told):
                print_retrieval(answer)
                self._retrieval_told = True
        for answer in answers[-1:]:
            print_cut(answer)
        if self.trace != "off":
            for answer in answers:
                print_trace(answer, tokens=self.trace == "tokens")


def whole_of(result: ToolResult) -> str:
    """All that the tool gave, also what the model did not read."""
    return result.content if result.whole is None else result.whole


def cut_for_reading(result: ToolResult, columns: int) -> tuple[list[str], str]:
    """The first rows of a result, JSON laid out, and a note on what is missing there; empty where nothing is."""
    whole = whole_of(result)
    text = _laid_out(whole, columns) if len(whole) <= _MOST_LAID_OUT else whole[:_MOST_LAID_OUT]
    shown, notes = list(rows(text.rstrip("\n"), columns)), []
    if len(shown) > _MOST_ROWS + _NOT_WORTH_CUTTING:
        more = "much more" if len(whole) > _MOST_LAID_OUT else f"{len(shown) - _MOST_ROWS:,} more lines"
        notes.append(f"{more}: /result shows all")
        del shown[_MOST_ROWS:]
    if result.whole is not None:
        notes.append(f"the model read the beginning of {len(whole):,} characters")
    return shown, f"[{'; '.join(notes)}]" if notes else ""


def _laid_out(text: str, columns: int) -> str:
    """An object or a list that does not fit into a row, over several."""
    if text[:1] not in ("{", "[") or len(text) <= columns:
        return text
    try:
        return _in_rows(json.loads(text), columns)
    except (ValueError, RecursionError):
        return text


def _in_rows(value: Any, columns: int, indent: str = "") -> str:
    """JSON, each value in one row where it fits."""
    row = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if len(indent) + len(row) <= columns or not isinstance(value, dict | list) or not value:
        return row
    inner = f"{indent}  "
    if isinstance(value, dict):
        begin, end = "{", "}"
        parts = [f"{json.dumps(k, ensure_ascii=False)}: {_in_rows(v, columns, inner)}" for k, v in value.items()]
    else:
        begin, end = "[", "]"
        parts = [_in_rows(one, columns, inner) for one in value]
    return f"{begin}\n{inner}" + f",\n{inner}".join(parts) + f"\n{indent}{end}"
