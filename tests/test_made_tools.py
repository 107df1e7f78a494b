"""Tools out of published API schemas: requests that say what the call holds, and nothing of an evaluation in them."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("torch")
jsonschema = pytest.importorskip("jsonschema")

from toolace_edge.tools import load_tools  # noqa: E402
from toolace_edge.train.api_tools import ApiTools  # noqa: E402
from toolace_edge.train.chatter import chatter  # noqa: E402
from toolace_edge.train.several import of_one_tool, of_several_tools  # noqa: E402
from toolace_edge.train.synth import Synthesizer  # noqa: E402


def api(name: str, description: str, *params: tuple[str, str], tool: str = "Weather Hub") -> dict[str, object]:
    entries = [{"name": p, "type": kind, "description": "", "default": "", "required": False} for p, kind in params]
    return {"tool": tool, "api": name, "description": description, "params": entries}


APIS = [
    api("Get Forecast", "Returns the forecast of the next days for a city.", ("city", "STRING"), ("days", "NUMBER")),
    api("Get Wind Speed", "This endpoint will return the wind speed at a place.", ("lat", "NUMBER"), ("lon", "NUMBER")),
    api("Air Alerts", "Subscribe a phone to alerts about bad air.", ("phone", "STRING"), ("daily", "BOOLEAN")),
    api("Secret", "Returns the secret data of a user.", ("apiKey", "STRING"), tool="Vault"),
    api("Short", "Do it.", ("x", "STRING"), tool="Odd"),
    api("Nothing", "Returns a list of all cities in the world.", tool="Odd"),
]


def test_only_what_a_person_could_ask_for_is_taken() -> None:
    tools = ApiTools(random.Random(0), APIS)
    assert {one["api"] for one in tools.all} == {"Get Forecast", "Get Wind Speed", "Air Alerts"}
    fewer = ApiTools(random.Random(0), APIS, but=["get_wind_speed"])
    assert {one["api"] for one in fewer.all} == {"Get Forecast", "Air Alerts"}


def test_requests_obey_their_schemas_and_say_their_values() -> None:
    rng = random.Random(3)
    synth = Synthesizer(rng, ["river"], ["blue suede shoes"], ["Oslo", "tea"], ApiTools(rng, APIS))
    seen = set()
    for _ in range(150):
        made = synth.apis.make()  # type: ignore[union-attr]
        load_tools([{"name": made.tool.name, "description": made.tool.description, "parameters": made.tool.parameters}])
        example = synth.asked(made)
        seen.add(made.tool.name)
        for call in example.calls:
            jsonschema.validate(dict(call.arguments), dict(made.tool.parameters))
            for value in call.arguments.values():
                if isinstance(value, str) and not value[:4].isdigit():  # dates may be said otherwise
                    assert value.lower() in example.request.lower()
    assert len(seen) > 3


def test_a_near_tool_is_another_of_the_same_api() -> None:
    tools = ApiTools(random.Random(1), APIS)
    for _ in range(30):
        first = tools.make()
        near = tools.make(first)
        assert near.family == first.family
        assert near.tool.description != first.tool.description


def test_chatter_is_a_function_of_its_seed() -> None:
    words = ["Oslo", "tea"]
    first = [chatter(random.Random(i), words) for i in range(40)]
    assert first == [chatter(random.Random(i), words) for i in range(40)]
    assert len(set(first)) > 20
    assert not any("{" in said for said in first)


def test_one_request_for_several_calls_says_what_each_holds() -> None:
    rng = random.Random(5)
    synth = Synthesizer(rng, ["river"], ["blue suede shoes"], ["Oslo", "tea"], ApiTools(rng, APIS))
    counts = set()
    for _ in range(150):
        made = synth.make_tool()
        one = of_one_tool(synth, made, 3)
        assert len({repr(call.arguments) for call in one.calls}) == len(one.calls) >= 1
        other = next(tool for tool in iter(synth.make_tool, None) if tool.tool.name != made.tool.name)
        several = of_several_tools(synth, [made, other, made])
        assert several is not None
        assert len(several.calls) == 3
        counts.add(len(one.calls))
        for example in (one, several):
            tools = {tool.name: tool for tool in example.tools}
            for call in example.calls:
                jsonschema.validate(dict(call.arguments), dict(tools[call.name].parameters))
                for value in call.arguments.values():
                    if isinstance(value, str) and "_" not in value and not value[:4].isdigit():
                        assert value.lower() in example.request.lower()
    assert 3 in counts
