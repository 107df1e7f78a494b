"""Annotations to schemas and back: the same types as a tool's parameter, as its default, and for `extract`."""

from __future__ import annotations

import enum
import json
import sys
from dataclasses import InitVar, dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Optional, Union
from uuid import UUID

import jsonschema
import pytest
from typing_extensions import NotRequired, Required, TypedDict

from toolace_edge.annotations import as_annotated, as_json, schema_of
from toolace_edge.engines.scripted import ScriptedEngine
from toolace_edge.errors import ToolError
from toolace_edge.execute import Executor
from toolace_edge.formats import get
from toolace_edge.formats.base import Limits
from toolace_edge.messages import ToolCall
from toolace_edge.registry import Model
from toolace_edge.tools import from_function

from .tiny import tiny_tokenizer_json

UTC = timezone.utc
ID = "12345678-1234-5678-1234-567812345678"


class Color(enum.Enum):
    RED = "red"


@dataclass
class Trip:
    start: date
    nights: int = 1
    tags: list[Color] = field(default_factory=list)
    made: list[Any] = field(default_factory=list, init=False)


class Stay(TypedDict):
    until: date


WRITTEN: list[tuple[Any, Any, Any]] = [
    (date, "2024-02-29", date(2024, 2, 29)),
    (datetime, "2024-02-29T07:30:00Z", datetime(2024, 2, 29, 7, 30, tzinfo=UTC)),
    (datetime, "2024-02-29T07:30:00.5+02:00",
     datetime(2024, 2, 29, 7, 30, 0, 500_000, tzinfo=timezone(timedelta(hours=2)))),
    (time, "07:30:00.123456789Z", time(7, 30, 0, 123_456, tzinfo=UTC)),
    (UUID, ID, UUID(ID)),
    (Decimal, 12.1, Decimal("12.1")),
    (Decimal, 3, Decimal(3)),
    (Color, "red", Color.RED),
    (Trip, {"start": "2024-01-02", "tags": ["red"]}, Trip(date(2024, 1, 2), 1, [Color.RED])),
    (Stay, {"until": "2024-01-02"}, {"until": date(2024, 1, 2)}),
    (list[date], ["2024-01-02"], [date(2024, 1, 2)]),
    (dict[str, UUID], {"a": ID}, {"a": UUID(ID)}),
    (tuple[date, Decimal], ["2024-01-02", 0.1], (date(2024, 1, 2), Decimal("0.1"))),
    (Optional[date], "2024-01-02", date(2024, 1, 2)),  # noqa: UP045 - the old spelling is what is tested
    (Optional[date], None, None),  # noqa: UP045
    (Union[date, int, str], "soon", "soon"),  # noqa: UP007
    (Union[date, int, str], "2024-01-02", date(2024, 1, 2)),  # noqa: UP007
    (date | Trip, {"start": "2024-01-02"}, Trip(date(2024, 1, 2))),
    (Annotated[list[Trip], "all of them"], [{"start": "2024-01-02"}], [Trip(date(2024, 1, 2))]),
]  # fmt: skip


def taking(annotation: Any) -> tuple[Any, list[Any]]:
    """A tool with one parameter of this annotation, and what it was given."""
    seen: list[Any] = []

    def take(x):  # type: ignore[no-untyped-def]
        seen.append(x)

    take.__annotations__["x"] = annotation
    return take, seen


@pytest.mark.parametrize(("annotation", "written", "value"), WRITTEN)
def test_a_tool_is_given_what_its_annotation_names(annotation: Any, written: Any, value: Any) -> None:
    take, seen = taking(annotation)
    result = Executor([take]).run(ToolCall("take", {"x": written}))
    assert (result.content, seen) == ("done", [value])
    assert type(seen[0]) is type(value)


@pytest.mark.parametrize(("annotation", "written", "value"), WRITTEN)
def test_a_value_goes_back_to_the_json_that_made_it(annotation: Any, written: Any, value: Any) -> None:
    again = as_annotated(annotation, json.loads(json.dumps(as_json(value))))
    assert again == value


@pytest.mark.parametrize(
    ("annotation", "wrong"),
    [(date, "2023-02-29"), (datetime, "2024-02-29T07:30:00"), (time, "25:00:00Z"), (UUID, "1234"), (Decimal, "12.1"),
     (list[date], ["soon"]), (Trip, {"nights": 1})],
)  # fmt: skip
def test_what_is_none_of_these_does_not_reach_the_tool(annotation: Any, wrong: Any) -> None:
    take, seen = taking(annotation)
    assert Executor([take]).run(ToolCall("take", {"x": wrong})).outcome == "invalid"
    assert seen == []


@pytest.mark.parametrize("annotation", [date, datetime, time, UUID, Decimal, list[date], Trip, date | None])
def test_whatever_the_model_writes_is_a_value(annotation: Any) -> None:
    take, seen = taking(annotation)
    for seed in range(2):
        model = Model("noise", ScriptedEngine.noise(tiny_tokenizer_json(), seed=seed), get("compact"))
        session = model.session([take], rounds=0, tool_choice="required", limits=Limits(max_calls=1))
        (call,) = session.complete("go").calls
        jsonschema.validate(dict(call.arguments), dict(session.tools[0].parameters))
        assert Executor([take]).run(call).outcome == "done", call
    assert len(seen) == 2


def test_defaults_are_told_as_json() -> None:
    def f(
        a: date = date(2024, 1, 2),
        b: Decimal = Decimal("1.5"),
        c: UUID = UUID(ID),  # noqa: B008
        d: Trip = Trip(date(2024, 1, 2), tags=[Color.RED]),  # noqa: B008
    ) -> None: ...

    told = {name: schema["default"] for name, schema in from_function(f).parameters["properties"].items()}
    trip = {"start": "2024-01-02", "nights": 1, "tags": ["red"]}
    assert told == {"a": "2024-01-02", "b": 1.5, "c": ID, "d": trip}


# --- pydantic ----------------------------------------------------------------------------------------------------


def test_pydantic_models_go_wherever_other_types_go() -> None:
    pydantic = pytest.importorskip("pydantic")
    line = pydantic.create_model("Line", what=(str, ...), price=(Decimal, pydantic.Field(ge=0)))
    invoice = pydantic.create_model("Invoice", __doc__="An invoice.", day=(date, ...), lines=(list[line], ...))
    written = {"day": "2024-01-02", "lines": [{"what": "tea", "price": 1.5}]}
    value = invoice(day=date(2024, 1, 2), lines=[line(what="tea", price=Decimal("1.5"))])
    cases: list[tuple[Any, Any, Any]] = [
        (invoice, written, value),
        (list[invoice], [written], [value]),
        (invoice | None, None, None),
        (date | invoice, written, value),
        (dict[str, line], {"a": {"what": "tea", "price": 2}}, {"a": line(what="tea", price=Decimal(2))}),
    ]
    for annotation, given, wanted in cases:
        take, seen = taking(annotation)
        assert Executor([take]).run(ToolCall("take", {"x": given})).content == "done", annotation
        assert seen == [wanted]
    take, seen = taking(invoice)
    assert "price" in Executor([take]).run(ToolCall("take", {"x": {**written, "lines": [{"what": "tea"}]}})).content
    take.__doc__ = "Take it.\n\nArgs:\n    x: What was bought"
    assert from_function(take).parameters["properties"]["x"]["description"] == "What was bought"
    assert as_json(value) == {"day": "2024-01-02", "lines": [{"what": "tea", "price": "1.5"}]}


def test_a_check_of_a_models_own_is_a_result_that_says_so() -> None:
    pydantic = pytest.importorskip("pydantic")

    def even(value: int) -> int:
        if value % 2:
            raise ValueError("must be even")
        return value

    model = pydantic.create_model("Even", n=(Annotated[int, pydantic.AfterValidator(even)], ...))
    take, seen = taking(model)
    result = Executor([take]).run(ToolCall("take", {"x": {"n": 3}}))
    assert (result.outcome, seen) == ("failed", [])
    assert "must be even" in result.content


def test_pydantics_field_says_its_description_and_bounds() -> None:
    pydantic = pytest.importorskip("pydantic")
    take, seen = taking(Annotated[int, pydantic.Field(description="how many", ge=1, lt=9), {"multipleOf": 2}])
    assert from_function(take).parameters["properties"]["x"] == {
        "type": "integer", "description": "how many", "minimum": 1, "exclusiveMaximum": 9, "multipleOf": 2
    }  # fmt: skip
    assert Executor([take]).run(ToolCall("take", {"x": 0})).outcome == "invalid"
    assert Executor([take]).run(ToolCall("take", {"x": 4})).content == "done"
    assert seen == [4]


def test_pydantic_is_not_imported_for_what_is_none_of_its_models() -> None:
    from .test_import import modules_after

    code = (
        "from datetime import date\nfrom toolace_edge.functions import from_function\n"
        "def f(a: date, b: list[int]) -> None: ...\nfrom_function(f)\nimport toolace_edge.extraction"
    )
    assert "pydantic" not in modules_after(code)


# --- what cannot be held -----------------------------------------------------------------------------------------


@dataclass
class Tree:
    children: list[Tree]


@dataclass
class Elsewhere:
    where: Nowhere  # type: ignore[name-defined]  # noqa: F821


@dataclass
class Holder:
    inner: list[timedelta]


@pytest.mark.parametrize(
    ("annotation", "words"),
    [(Tree, "refers to itself"), (Elsewhere, "Nowhere"), (Holder, r"x\.inner: timedelta has no JSON form"),
     (bytes, "bytes"), (set[int], "set"), (dict[int, str], "dict")],
)  # fmt: skip
def test_what_cannot_be_held_is_refused_with_a_hint(annotation: Any, words: str) -> None:
    with pytest.raises(ToolError, match=words) as caught:
        schema_of(annotation, "x")
    assert caught.value.hint
    if "form" in str(caught.value):
        assert all(name in caught.value.hint for name in ("date", "UUID", "dataclass", "pydantic"))


def test_a_model_without_a_schema_is_refused() -> None:
    pydantic = pytest.importorskip("pydantic")
    model = pydantic.create_model("Calls", f=(type(sys.intern), ...), __config__={"arbitrary_types_allowed": True})
    with pytest.raises(ToolError, match="Calls has no JSON schema"):
        schema_of(model, "x")


class Partly(TypedDict):  # its annotations are texts here, in which Python does not see the marks
    needed: int
    spare: NotRequired[str]
    noted: Annotated[NotRequired[int], "How many."]


class Loose(TypedDict, total=False):
    needed: Required[int]
    spare: str


def test_marks_of_a_typed_dict_count_in_postponed_annotations_too() -> None:
    assert schema_of(Partly, "x")["required"] == ["needed"]
    assert schema_of(Loose, "x")["required"] == ["needed"]


@dataclass
class Counted:
    start: InitVar[int]
    value: int = 0


def test_a_dataclass_that_asks_for_what_is_no_field_is_refused() -> None:
    with pytest.raises(ToolError, match="x: Counted asks for start, which is no field"):
        schema_of(Counted, "x")


def test_a_dataclass_of_pydantics_keeps_its_bounds() -> None:
    pydantic = pytest.importorskip("pydantic")
    dataclasses = pytest.importorskip("pydantic.dataclasses")

    class Point:
        x: int = pydantic.Field(ge=1, description="Where.")
        day: date = date(2024, 1, 2)

    Point.__annotations__ = {"x": int, "day": date}
    point = dataclasses.dataclass(Point)
    schema = schema_of(point, "x")
    assert schema["required"] == ["x"]
    assert schema["properties"]["x"] == {"type": "integer", "minimum": 1, "description": "Where."}
    made = as_annotated(point, {"x": 3, "day": "2024-02-29"})
    assert (made.x, made.day) == (3, date(2024, 2, 29))
    assert as_json(made) == {"x": 3, "day": "2024-02-29"}
