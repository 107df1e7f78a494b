"""Optional arguments that nobody asks for: a tool stays what it was, and no request might mean what is added."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("torch")

from toolace_edge.messages import Tool
from toolace_edge.tools import load_tools
from toolace_edge.train.spare import SpareArguments

PARAMS = {
    "webhook": "STRING", "includeArchived": "BOOLEAN", "fields": "LIST", "idempotencyKey": "STRING", "layout": "SELECT",
    "limit": "NUMBER", "cityName": "STRING", "createdAfter": "DATEPICKER", "customer_id": "STRING", "flavor": "STRING",
}  # fmt: skip


def param(name: str, kind: str, **changes: object) -> dict[str, object]:
    return {"name": name, "type": kind, "description": f"What {name} is for.", "required": False, **changes}


def spare(seed: int = 0) -> SpareArguments:
    params = [param(name, kind) for name, kind in PARAMS.items()]
    params += [
        param("needed", "STRING", required=True),
        param("silent", "STRING", description=""),
        param("b", "BINARY"),
    ]
    few = {"tool": "Few", "params": [param("lonely", "STRING")]}
    return SpareArguments(random.Random(seed), [{"tool": "Shop", "params": params}, few])


TOOL = Tool(
    "find_tea",
    "Find a tea.",
    {
        "type": "object",
        "properties": {"flavour": {"type": "string"}, "layouts": {"type": "array"}},
        "required": ["flavour"],
    },
)


def added(requests: str, most: int = 8) -> set[str]:
    """Every name that comes to TOOL in many draws, those in objects too."""
    names: set[str] = set()
    pool = spare()
    for _ in range(200):
        (wider,) = pool.add([TOOL], requests, most)
        properties = dict(wider.parameters["properties"])
        own = {name: properties.pop(name) for name in TOOL.parameters["properties"]}
        assert (wider.name, wider.description, own) == (TOOL.name, TOOL.description, TOOL.parameters["properties"])
        assert wider.parameters["required"] == ["flavour"]
        inner = [one.get("items", one).get("properties", {}) for one in properties.values()]
        flat = {name for name, one in properties.items() if not one.get("items", one).get("properties")}
        flat.update(*inner)
        assert len(flat) <= most
        names |= flat
        load_tools([{"name": wider.name, "description": "", "parameters": wider.parameters}])
    return names


def test_what_is_added_is_optional_and_said_by_its_maker() -> None:
    names = added("something with mint")
    assert {"webhook", "includeArchived", "fields", "idempotencyKey", "flavor"} <= names
    assert not names & {"needed", "silent", "b", "lonely"}
    assert "layout" not in names  # the tool has a word like it
    assert added("something with mint", most=0) == set()


def test_what_a_request_might_mean_is_not_added() -> None:
    assert {"limit", "createdAfter", "customer_id"} <= added("something with mint")
    assert not added("three with mint") & {"limit", "createdAfter", "customer_id"}
    assert "cityName" not in added("something with mint from Oslo")  # whatever is said may be a city
    assert not added("mint, and call the webhook, all fields of it") & {"webhook", "fields"}


def test_the_draw_is_a_function_of_its_seed() -> None:
    first, again, other = (spare(seed).add([TOOL] * 5, "mint", 8) for seed in (1, 1, 2))
    assert first == again != other
