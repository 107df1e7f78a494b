from __future__ import annotations

import enum
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, TypedDict

import pytest

from toolace_edge.docstrings import read_docstring
from toolace_edge.errors import SchemaError, ToolError
from toolace_edge.execute import Executor
from toolace_edge.messages import Tool, ToolCall
from toolace_edge.tools import check_tools, entries_of, from_function, load_tools, tool, tools_of

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
BARE = {"name": "f", "description": "d", "parameters": SCHEMA}
WANTED = (Tool("f", "d", {**SCHEMA, "additionalProperties": False}),)


@pytest.mark.parametrize(
    "data",
    [
        [BARE],
        BARE,
        {"type": "function", "function": BARE},
        [{"type": "function", "function": BARE}],
        {"tools": [{"type": "function", "function": BARE}]},
        {"functions": [BARE]},
        {"id": "simple_0", "question": [], "function": [BARE]},
        [{"type": "function", **BARE, "strict": True}],
        [{"name": "f", "description": "d", "input_schema": SCHEMA}],
        {"tools": [{"name": "f", "description": "d", "inputSchema": SCHEMA, "annotations": {"readOnlyHint": True}}]},
        [{"name": "f", "description": "d", "parameters": {"type": "dict", "properties": {"city": {"type": "str"}}},
          "required": ["city"]}],
        [BARE | {"required": None}],
        list(WANTED),
    ],
)  # fmt: skip
def test_every_usual_form_is_read(data: Any) -> None:
    assert load_tools(data) == WANTED


def test_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "tools.json"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps([BARE]).encode())
    assert load_tools(file) == load_tools(str(file)) == WANTED


def test_no_tools_are_fine_in_a_program_and_a_mistake_in_a_file(tmp_path: Path) -> None:
    assert load_tools([]) == ()
    file = tmp_path / "tools.json"
    file.write_text("[]")
    with pytest.raises(ToolError, match="holds no tools"):
        load_tools(file)


def test_a_tool_without_parameters_takes_no_arguments() -> None:
    (found,) = load_tools([{"name": "f"}])
    assert found.parameters == {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'[{"name": "f"},\n  {]', "line 2, column 4"),
        (b"", "line 1, column 1"),
        (b"\xff\xfe", "not UTF-8 at byte 0"),
        (b'"text"', "list of tools is wanted"),
        (b"3", "list of tools is wanted"),
        (b"[" * 100_000, "nested too deeply"),
        (b'[{"name": "f", "name": "g"}]', "'name' twice"),
        (b'[{"name": "f", "parameters": {"minimum": NaN}}]', "NaN"),
    ],
)
def test_a_broken_file_is_told_where_it_breaks(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "tools.json"
    file.write_bytes(content)
    with pytest.raises(ToolError, match=words) as caught:
        load_tools(file)
    assert "tools.json" in str(caught.value)
    assert caught.value.hint


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="does not exist"):
        load_tools(tmp_path / "none.json")
    with pytest.raises(ToolError, match="cannot be read"):
        load_tools(tmp_path)


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        (3, "tools[1]"),
        ({"description": "d"}, "tools[1]"),
        ({"name": "a b"}, "tools[1].name"),
        ({"name": "x" * 65}, "tools[1].name"),
        ({"name": ""}, "tools[1].name"),
        ({"name": 3}, "tools[1].name"),
        ({"type": "function", "function": {"name": "é"}}, "tools[1].function.name"),
        ({"name": "f"}, "tools[1].name"),  # a second one
        ({"name": "g", "description": 3}, "tools[1].description"),
        ({"name": "g", "description": "d" * 10_000}, "tools[1].description"),
        ({"name": "g", "parametres": {}}, "tools[1].parametres"),
        ({"name": "g", "parameters": []}, "tools[1].parameters"),
        ({"name": "g", "parameters": {"type": "string"}}, "tools[1].parameters.type"),
        ({"name": "g", "parameters": {}, "input_schema": {}}, "tools[1].input_schema"),
        ({"name": "g", "inputSchema": {"properties": {"u": {"enum": []}}}}, "tools[1].inputSchema.properties.u.enum"),
        ({"type": "web_search"}, "tools[1].type"),
        ({"function": {"name": "g", "parameters": {"properties": {"x": {"type": "strin"}}}}},
         "tools[1].function.parameters.properties.x.type"),
    ],
)  # fmt: skip
def test_a_wrong_tool_is_refused_with_its_path(entry: Any, path: str) -> None:
    with pytest.raises(SchemaError) as caught:
        load_tools([BARE, entry])
    assert caught.value.path == path


def test_check_finds_every_problem_and_what_is_usable() -> None:
    tools, problems = check_tools([BARE, {"name": "a b"}, {"name": "g"}, 3])
    assert [found.name for found in tools] == ["f", "g"]
    assert [str(problem).split(":")[0] for problem in problems] == ["tools[1].name", "tools[3]"]


# Python functions


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Point(TypedDict, total=False):
    x: int


@dataclass
class Box:
    width: float
    tags: list[str] = field(default_factory=list)


def properties_of(function: Callable[..., Any]) -> Any:
    return from_function(function).parameters["properties"]


CLOSED = {"type": "object", "required": [], "additionalProperties": False}
ANNOTATIONS: list[tuple[Any, dict[str, Any]]] = [
    (str, {"type": "string"}),
    (int, {"type": "integer"}),
    (float, {"type": "number"}),
    (bool, {"type": "boolean"}),
    (Any, {}),
    (list, {"type": "array"}),
    (list[int], {"type": "array", "items": {"type": "integer"}}),
    (tuple[int, str],
     {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "minItems": 2, "maxItems": 2}),
    (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
    (dict, {"type": "object", "properties": {}, "required": [], "additionalProperties": True}),
    (dict[str, int], {"type": "object", "properties": {}, "required": [], "additionalProperties": {"type": "integer"}}),
    (Literal["a", "b"], {"enum": ["a", "b"]}),
    (Color, {"enum": ["red", "blue"]}),
    (Optional[int],  # noqa: UP045 - the old spelling is what is tested
     {"type": ["integer", "null"]}),
    (int | str, {"type": ["integer", "string"]}),
    (list[int] | None, {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "null"}]}),
    (Annotated[int, "how many", {"minimum": 1}], {"type": "integer", "minimum": 1, "description": "how many"}),
    (Point, CLOSED | {"properties": {"x": {"type": "integer"}}}),
    (Box, CLOSED | {"properties": {"width": {"type": "number"}, "tags": {"type": "array", "items": {"type": "string"}}},
                    "required": ["width"]}),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "schema"), ANNOTATIONS)
def test_an_annotation_becomes_a_schema(annotation: Any, schema: dict[str, Any]) -> None:
    def f(x):  # type: ignore[no-untyped-def]
        pass

    f.__annotations__["x"] = annotation
    assert properties_of(f) == {"x": schema}
    assert from_function(f).parameters["required"] == ["x"]


def test_defaults_make_arguments_optional() -> None:
    def f(a: int, b: int = 3, c: str | None = None, d: Color = Color.RED) -> None: ...

    found = from_function(f)
    assert found.parameters["required"] == ["a"]
    assert found.parameters["properties"] == {
        "a": {"type": "integer"},
        "b": {"type": "integer", "default": 3},
        "c": {"type": "string"},
        "d": {"enum": ["red", "blue"], "default": "red"},
    }


def test_the_decorator_keeps_the_function() -> None:
    @tool
    def double(n: int) -> int:
        """Double a number."""
        return 2 * n

    assert double(3) == 6
    assert double.tool == from_function(double)  # type: ignore[attr-defined]
    assert load_tools([double])[0].description == "Double a number."


def test_functions_and_dicts_go_together() -> None:
    def g() -> None: ...

    assert [found.name for found in load_tools([g, BARE])] == ["g", "f"]


def test_a_path_a_function_or_a_definition_may_stand_alone_or_in_a_list(tmp_path: Path) -> None:
    def g() -> None: ...

    file = tmp_path / "tools.json"
    file.write_text(json.dumps([BARE]))
    for source in (file, str(file), [file], [str(file)], BARE, [BARE], WANTED[0], WANTED):
        assert load_tools(source) == tools_of(source) == WANTED
    assert [found.name for found in load_tools(g)] == ["g"]
    assert [getattr(one, "__name__", one) for one in entries_of([g, BARE, file])] == ["g", BARE, *WANTED]
    with pytest.raises(SchemaError, match=r"tools\[1\]\.name: 'f' is the name of an earlier tool"):
        load_tools([BARE, file])


def test_a_tool_as_it_was_made_stays_so_where_there_is_nothing_else() -> None:
    made = Tool("f", "", {"type": "object", "properties": {"x": {"not": {}}}, "required": []})
    assert tools_of([made]) == (made,)
    with pytest.raises(SchemaError):
        tools_of([made, BARE])


def test_a_wrong_tool_in_a_file_of_a_list_is_told_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "tools.json"
    file.write_text(json.dumps([BARE, {"name": "a b"}]))
    with pytest.raises(SchemaError, match=r"tools\.json: tools\[1\]\.name: 'a b' is not a name"):
        load_tools([file])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("add_expense", "add_expense does not exist"),
        (["add_expense"], "add_expense does not exist"),
        ('[{"name": "f"}]', "path of a file, and this is JSON"),
        (3, "a list of tools is wanted, not int"),
        ([3], "a tool is a function or an object, not int"),
        (b"tools.json", "a list of tools is wanted, not bytes"),
    ],
)
def test_what_holds_no_tools_is_told(source: Any, words: str) -> None:
    for read in (load_tools, tools_of):
        with pytest.raises(ToolError, match=words) as caught:
            read(source)
        assert caught.value.hint != ToolError.hint


DATED = {
    "name": "book",
    "description": "Book a room.",
    "parameters": {
        "type": "object",
        "properties": {"day": {"type": "string", "format": "date"}, "beds": {"type": "integer", "minimum": 1}},
        "required": ["day"],
    },
}


def test_a_function_and_a_definition_are_one_tool() -> None:
    def reserve(day: date, beds=2):  # type: ignore[no-untyped-def]
        return f"{day:%d.%m.} {beds}"

    class Hotel:
        def book(self, **given: Any) -> str:
            return str(given)

    one = tool(reserve, definition=DATED)
    assert load_tools([one]) == load_tools([DATED])
    assert not hasattr(reserve, "tool")
    assert Executor([one]).run(ToolCall("book", {"day": "2024-01-02"})).content == "02.01. 2"
    assert Executor([one]).run(ToolCall("book", {"day": "2024-01-02", "beds": 0})).outcome == "invalid"
    method = tool(Hotel().book, definition={"type": "function", "function": DATED})
    assert Executor([method]).run(ToolCall("book", {"day": "2024-01-02"})).content == "{'day': '2024-01-02'}"

    @tool(definition=load_tools(DATED)[0])
    def decorated(day: str, beds: int = 1) -> str:
        return f"{day} {beds}"

    assert Executor([decorated]).run(ToolCall("book", {"day": "2024-01-02"})).content == "2024-01-02 1"


def _other_name(date: str, beds: int = 1) -> None: ...
def _needs_more(day: str, beds: int, name: str) -> None: ...
def _needs_optional(day: str, beds: int) -> None: ...
def _by_place(day: str, /, **others: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (_other_name, "takes no day"),
        (_needs_more, "needs beds"),
        (_needs_optional, "needs beds"),
        (_by_place, "needs day"),
    ],
)
def test_a_definition_that_does_not_fit_the_function_is_refused(function: Callable[..., Any], words: str) -> None:
    with pytest.raises(ToolError, match=f"book: the function {words}"):
        tool(function, definition=DATED)


def _bare(a, b: int) -> None: ...  # type: ignore[no-untyped-def]
def _bare_with_default(a=1) -> None: ...  # type: ignore[no-untyped-def]
def _star(*args: int) -> None: ...
def _stars(**kwargs: int) -> None: ...
def _positional(a: int, /) -> None: ...
def _bytes(a: bytes) -> None: ...
def _sets(a: set[int]) -> None: ...
def _nested(a: list[dict[str, bytes]]) -> None: ...
def _int_keys(a: dict[int, str]) -> None: ...
def _unknown_note(a: Annotated[int, 3]) -> None: ...
def _bad_keyword(a: Annotated[int, {"minimun": 3}]) -> None: ...
def _counting(a: int) -> Iterator[int]:
    yield a


async def _counting_later(a: int) -> AsyncIterator[int]:
    yield a


def _missing_name(a: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (_bare, "_bare: a has no annotation"),
        (_bare_with_default, "_bare_with_default: a has no annotation"),
        (_star, r"\*args has no schema"),
        (_stars, r"\*\*kwargs has no schema"),
        (_positional, "a cannot be given by name"),
        (_bytes, r"_bytes\(a\): bytes has no JSON form"),
        (_sets, r"_sets\(a\): set"),
        (_nested, r"_nested\(a\): bytes"),
        (_int_keys, r"_int_keys\(a\)"),
        (_unknown_note, "Annotated with 3"),
        (_bad_keyword, "properties.a.minimun"),
        (_missing_name, "Nowhere"),
        (_counting, "_counting yields"),
        (_counting_later, "_counting_later yields"),
        (lambda x: x, "no usable name"),
    ],
)
def test_what_has_no_schema_is_refused_with_its_name(function: Callable[..., Any], words: str) -> None:
    with pytest.raises(ToolError, match=words) as caught:
        load_tools([function])
    assert caught.value.hint


GOOGLE = """Find a flight.

Cheapest first.

Args:
    origin (str): Where from,
        as a code.
    day: When: a date

Returns:
    A list.
"""
NUMPY = """Find a flight.

Cheapest first.

Parameters
----------
origin : str
    Where from,
    as a code.
day
    When: a date

Returns
-------
list
"""
SPHINX = """Find a flight.

Cheapest first.

:param str origin: Where from,
    as a code.
:param day: When: a date
:returns: A list.
"""


@pytest.mark.parametrize("docstring", [GOOGLE, NUMPY, SPHINX])
def test_docstrings_describe_parameters(docstring: str) -> None:
    description, parameters = read_docstring(docstring)
    assert description == "Find a flight.\nCheapest first."
    assert parameters == {"origin": "Where from, as a code.", "day": "When: a date"}


@pytest.mark.parametrize(
    ("docstring", "description"), [(None, ""), ("", ""), ("One line.", "One line."), ("A:\n  b", "A: b")]
)
def test_docstrings_without_sections_are_descriptions(docstring: str | None, description: str) -> None:
    assert read_docstring(docstring) == (description, {})


def test_a_description_in_the_annotation_wins_over_the_docstring() -> None:
    def f(a: Annotated[int, "one"], b: int) -> None:
        """Do.

        Args:
            a: other
            b: two
        """

    assert [schema["description"] for schema in properties_of(f).values()] == ["one", "two"]
