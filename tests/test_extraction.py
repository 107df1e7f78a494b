"""A text as a value: of a schema, a dataclass, an annotation, a pydantic model, or what looks like one."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from toolace_edge.agent import Agent
from toolace_edge.engines.scripted import ScriptedEngine
from toolace_edge.errors import InputError, SchemaError
from toolace_edge.extraction import target_of
from toolace_edge.formats import get
from toolace_edge.registry import Model

from .test_evaluate import scripted
from .tiny import tiny_tokenizer_json


def extracting(name: str, **arguments: Any) -> Agent:
    body = json.dumps({"name": name, "arguments": arguments}, separators=(",", ":"))
    return Agent(scripted(f"<|call|>{body}<|end|>"), rounds=0)


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


@dataclass
class Pizza:
    """A pizza to bake."""

    size: Size
    toppings: list[str] = field(default_factory=list)
    price: float | None = None


@dataclass
class Stay:
    until: date
    price: Decimal


def test_a_dataclass_comes_back_as_one() -> None:
    agent = extracting("Pizza", size="large", toppings=["ham"])
    assert agent.extract("a large one with ham", Pizza) == Pizza(Size.LARGE, ["ham"])
    assert agent.messages == []


def test_a_schema_gives_plain_values() -> None:
    schema = {"title": "A person", "type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    assert extracting("A_person", age=7).extract("seven", schema) == {"age": 7}
    assert extracting("extract", value=7).extract("seven", {"type": "integer"}) == 7
    assert extracting("extract", value="b").extract("b", {"enum": ["a", "b"]}) == "b"


@pytest.mark.parametrize("model", [dict, {"type": "object"}, {"type": "object", "title": "extract"}])
def test_an_object_of_any_names_is_not_an_empty_one(model: Any) -> None:
    target = target_of(model)
    assert target.tool.parameters["required"] == ["value"]
    assert target.build({"value": {"a": 1}}) == {"a": 1}


def test_an_annotation_gives_what_it_names() -> None:
    assert extracting("list", value=["small"]).extract("small", list[Size]) == [Size.SMALL]


def test_dates_and_lists_of_models_are_extracted_too() -> None:
    assert extracting("date", value="2024-01-02").extract("the 2nd", date) == date(2024, 1, 2)
    assert extracting("Stay", until="2024-01-02", price=9.5).extract("until then", Stay) == Stay(
        date(2024, 1, 2), Decimal("9.5")
    )
    pydantic = pytest.importorskip("pydantic")
    line = pydantic.create_model("Line", what=(str, ...))
    assert extracting("list", value=[{"what": "tea"}]).extract("tea", list[line]) == [line(what="tea")]


def test_whatever_has_the_two_methods_is_a_model() -> None:
    class Looks:
        @classmethod
        def model_json_schema(cls) -> dict[str, Any]:
            return {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}

        @classmethod
        def model_validate(cls, given: Any) -> Any:
            if given["n"] > 5:
                raise ValueError("too many")
            return ("validated", given)

    assert extracting("Looks", n=5).extract("five", Looks) == ("validated", {"n": 5})
    with pytest.raises(ValueError, match="too many"):
        extracting("Looks", n=6).extract("six", Looks)


def test_a_pydantic_model_comes_back_as_one() -> None:
    pydantic = pytest.importorskip("pydantic")
    address = pydantic.create_model("Address", street=(str, ...), zip=(int | None, None))
    person = pydantic.create_model(
        "Person",
        name=(str, pydantic.Field(alias="fullName", description="First and last")),
        age=(int, pydantic.Field(ge=0, le=150)),
        home=(address, ...),
    )
    tool = target_of(person).tool
    assert list(tool.parameters["properties"]) == ["fullName", "age", "home"]
    given = {"fullName": "Ada", "age": 36, "home": {"street": "Main"}}
    value = extracting("Person", **given).extract("Ada, 36, Main", person)
    assert (type(value), value.name, value.home.street, value.home.zip) == (person, "Ada", "Main", None)
    for seed in range(3):  # whatever the model writes, pydantic accepts it
        engine = ScriptedEngine.noise(tiny_tokenizer_json(), seed=seed)
        made = Agent(Model("noise", engine, get("compact")), rounds=0).extract("someone", person)
        assert 0 <= made.age <= 150


def test_there_is_exactly_one_call_whatever_the_options_say() -> None:
    engine = ScriptedEngine.noise(tiny_tokenizer_json(), seed=1)
    agent = Agent(Model("noise", engine, get("compact")), rounds=0, tool_choice="none")
    assert isinstance(agent.extract("a number", int), int)


def test_what_cannot_be_extracted_is_refused() -> None:
    agent = extracting("x")
    with pytest.raises(SchemaError):
        agent.extract("x", {"type": "object", "properties": {"a": {"not": {}}}})
    with pytest.raises(InputError, match="has no JSON form"):
        agent.extract("x", unwritable())
    with pytest.raises(InputError, match="empty"):
        agent.extract(" ", int)


def unwritable() -> type:
    import io

    return io.StringIO
