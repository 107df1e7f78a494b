"""Sampling from any server that speaks OpenAI's chat completions (vLLM, llama.cpp, our own), many requests in flight.

That is how ToolACE-R's costly half scales out: the server batches, this side only waits. What a server may answer
with is not trusted: arguments that are not a JSON object make a sample that cannot be read, which counts as wrong.
"""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from toolace_edge.errors import EngineError
from toolace_edge.examples import Example
from toolace_edge.messages import Message, Tool, ToolCall

from .examples import as_openai
from .sampling import Calls

_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_THIS_LINE = frozenset({400, 413, 422})  # what is wrong is the request: too long for the model, for one
_SAMPLE_TOOL = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def api_key() -> str:
    """The server's, from the environment; empty where it wants none."""
    return os.environ.get("TOOLACE_EDGE_API_KEY", "")


class _RefusedError(EngineError):
    """The server takes requests, and not this one."""


@dataclass(slots=True)
class EndpointAnswerer:
    """`url` as of OpenAI's SDK, up to and with `/v1`. EngineError where the server fails `tries` times in a row.

    A line that it refuses has no answer; `refused` counts them. EngineError where it refuses any.
    """

    url: str
    model: str
    key: str = ""
    temperature: float = 1.0
    seed: int = 0
    at_once: int = 32
    timeout_s: float = 300.0
    tries: int = 5
    wait_s: float = 1.0
    refused: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answers(self, example: Example, k: int) -> list[Calls | None]:
        return [self._answer(example, 0.0 if i == 0 else self.temperature, self.seed * 1000 + i) for i in range(k)]

    def _answer(self, example: Example, temperature: float, seed: int) -> Calls | None:
        try:
            return _calls(self._post(self._body(example.messages, example.tools, temperature, seed)))
        except _RefusedError as error:
            self._count(example, str(error))
            return None

    def _body(
        self, messages: Sequence[Message], tools: Sequence[Tool], temperature: float, seed: int
    ) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [_message(message, i) for i, message in enumerate(messages)],
            "temperature": temperature,
            "seed": seed,
        }
        return body | ({"tools": [as_openai(tool) for tool in tools]} if tools else {})

    def _count(self, example: Example, why: str) -> None:
        """Whether it is this line alone is asked once, with a request that every server can take; tenfold counts are
        said.
        """
        with self._lock:
            if not self.refused:
                try:
                    self._post(self._body([Message("user", "add 1")], [Tool("add", "Add.", _SAMPLE_TOOL)], 0.0, 0))
                except _RefusedError as error:
                    raise EngineError(f"{error}, as to any request.") from error
            self.refused += 1
            if str(self.refused).strip("0") == "1":
                click.echo(f"{self.refused} refused, the last one the line {example.id}: {why}", err=True)

    def _post(self, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(f"{self.url}/chat/completions", json.dumps(body).encode(), headers)
        for left in reversed(range(self.tries)):
            try:
                with urllib.request.urlopen(request, timeout=self.timeout_s) as reply:  # the user's URL
                    return json.load(reply)
            except urllib.error.HTTPError as error:
                text = error.read(500).decode("utf-8", "replace")
                if error.code not in _AGAIN or not left:
                    kind = _RefusedError if error.code in _THIS_LINE else EngineError
                    raise kind(f"{self.url} answered {error.code}: {text}") from error
            except (OSError, ValueError, http.client.HTTPException) as error:
                if not left:
                    raise EngineError(f"{self.url} cannot be asked: {error}.") from error
            time.sleep(self.wait_s * 2 ** (self.tries - left - 1))
        raise AssertionError("unreachable")


def _message(message: Message, turn: int) -> dict[str, Any]:
    entry: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.calls:
        entry["tool_calls"] = [
            {"id": call.id or f"call_{turn}_{i}", "type": "function",
             "function": {"name": call.name, "arguments": json.dumps(dict(call.arguments), ensure_ascii=False)}}
            for i, call in enumerate(message.calls)
        ]  # fmt: skip
    if message.role == "tool":
        entry["tool_call_id"] = message.call_id or f"call_{turn - 1}_0"
    return entry


def _calls(reply: Any) -> Calls | None:
    """The calls of the first choice; None where they cannot be read."""
    try:
        calls = []
        for entry in reply["choices"][0]["message"].get("tool_calls") or ():
            function = entry["function"]
            arguments = json.loads(function["arguments"] or "{}")
            if not isinstance(arguments, dict) or not isinstance(function["name"], str):
                return None
            calls.append(ToolCall(function["name"], arguments))
        return tuple(calls)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):
        return None
