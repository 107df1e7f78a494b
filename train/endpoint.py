"""Sampling from any server that speaks OpenAI's chat completions (vLLM, llama.cpp, our own), many requests in flight.

That is how ToolACE-R's costly half scales out: the server batches, this side only waits. What a server may answer
with is not trusted: arguments that are not a JSON object make a sample that cannot be read, which counts as wrong.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from toolace_edge.errors import EngineError
from toolace_edge.examples import Example
from toolace_edge.messages import Message, ToolCall

from .examples import as_openai
from .sampling import Calls

_AGAIN = frozenset({408, 429, 500, 502, 503, 504})


def api_key() -> str:
    """The server's, from the environment; empty where it wants none."""
    return os.environ.get("TOOLACE_EDGE_API_KEY", "")


@dataclass(slots=True)
class EndpointAnswerer:
    """`url` as of OpenAI's SDK, up to and with `/v1`. EngineError where the server fails `tries` times in a row."""

    url: str
    model: str
    key: str = ""
    temperature: float = 1.0
    seed: int = 0
    at_once: int = 32
    timeout_s: float = 300.0
    tries: int = 5
    wait_s: float = 1.0

    def answers(self, example: Example, k: int) -> list[Calls | None]:
        return [self._answer(example, 0.0 if i == 0 else self.temperature, self.seed * 1000 + i) for i in range(k)]

    def _answer(self, example: Example, temperature: float, seed: int) -> Calls | None:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [_message(message, i) for i, message in enumerate(example.messages)],
            "temperature": temperature,
            "seed": seed,
        }
        if example.tools:
            body["tools"] = [as_openai(tool) for tool in example.tools]
        return _calls(self._post(body))

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
                    raise EngineError(f"{self.url} answered {error.code}: {text}") from error
            except (OSError, ValueError) as error:
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
