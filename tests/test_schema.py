from __future__ import annotations

import math
import random
import re
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.schema_sampler import sample
from toolace_edge.errors import SchemaError
from toolace_edge.schema import check, normalise, normalise_parameters

STR = {"type": "string"}
INT = {"type": "integer"}


def closed(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required or [], "additionalProperties": False}


# What comes in, and the one form that comes out.
FORMS = [
    # BFCL, Python, Java
    ({"type": "dict", "properties": {"a": {"type": "float"}}}, closed({"a": {"type": "number"}})),
    ({"type": "tuple", "items": {"type": "String"}}, {"type": "array", "items": STR}),
    ({"type": "ArrayList"}, {"type": "array"}),
    ({"type": "any", "description": "d"}, {"description": "d"}),
    ({}, {}),
    ({"type": "HashMap"}, {"type": "object", "properties": {}, "required": [], "additionalProperties": True}),
    ({"type": "long", "optional": True, "default": "x"}, {"type": "integer", "default": "x"}),
    ({"type": "dict", "properties": {"a": {"type": "int", "required": True}}}, closed({"a": INT}, ["a"])),
    # OpenAPI
    ({"type": "string", "nullable": True}, {"type": ["string", "null"]}),
    ({"type": "integer", "format": "int32"}, {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1}),
    ({"type": "string", "format": "int64"}, {"type": "string", "pattern": "^(?:0|\\-?[1-9][0-9]{0,17})$"}),
    (
        {"type": ["integer", "string"], "format": "uint8"},
        {"type": ["integer", "string"], "minimum": 0, "maximum": 255, "pattern": "^(?:0|[1-9][0-9]{0,1})$"},
    ),
    ({"type": "string", "format": "uint8"}, {"type": "string", "pattern": "^(?:0|[1-9][0-9]{0,1})$"}),
    ({"type": "number", "format": "double", "example": 1, "x-order": 3}, {"type": "number"}),
    # drafts
    ({"type": "integer", "minimum": 1, "exclusiveMinimum": True}, {"type": "integer", "exclusiveMinimum": 1}),
    ({"type": "integer", "minimum": 1, "exclusiveMinimum": False}, {"type": "integer", "minimum": 1}),
    ({"items": [STR, INT], "type": "array"}, {"type": "array", "prefixItems": [STR, INT], "maxItems": 2}),
    (
        {"type": "array", "items": [STR], "additionalItems": {"type": "int"}},
        {"type": "array", "prefixItems": [STR], "items": INT},
    ),
    ({"prefixItems": [{}], "items": {}}, {"type": "array", "prefixItems": [{}], "items": {}}),
    ({"const": 3}, {"enum": [3]}),
    ({"type": "string", "const": "a"}, {"type": "string", "enum": ["a"]}),
    # serialisers write null for what is absent
    ({"type": "string", "enum": None, "items": None, "required": None}, STR),
    # annotations go, keywords of other types say nothing
    ({"type": "integer", "minItems": 5, "title": "t", "$comment": "c"}, INT),
    ({"type": "array", "uniqueItems": False}, {"type": "array"}),
    ({"type": "object", "patternProperties": {}, "properties": {"a": STR}}, closed({"a": STR})),
    (
        {"type": "object", "propertyNames": STR, "additionalProperties": INT},
        {"type": "object", "properties": {}, "required": [], "additionalProperties": INT},
    ),
    ({"properties": {"a": STR}, "required": ["a"], "minProperties": 1}, closed({"a": STR}, ["a"])),
    # less than it allows, and more than an answer has room for
    ({"type": "string", "pattern": "^[a-z]{1,1048576}$"}, {"type": "string", "pattern": "^[a-z]{1,1024}$"}),
    # a type is understood
    ({"minLength": 2}, {"type": "string", "minLength": 2}),
    ({"properties": {"a": STR}}, closed({"a": STR})),
    # a required name without a property
    ({"type": "object", "properties": {}, "required": ["a"]}, closed({"a": {}}, ["a"])),
    # enum and type
    ({"type": "integer", "enum": [1, "a", 2.0]}, {"type": "integer", "enum": [1, 2.0]}),
    ({"type": ["string", "null"], "enum": ["a", None]}, {"type": ["string", "null"], "enum": ["a", None]}),
    ({"type": ["integer", "number"]}, {"type": "number"}),
    ({"type": "integer", "maximum": 2**63 - 1}, {"type": "integer", "maximum": 2**53 - 1}),
    ({"type": "number", "minimum": 1, "maximum": 1}, {"type": "number", "minimum": 1, "maximum": 1}),
    # references and intersections
    ({"$ref": "#/$defs/x", "$defs": {"x": STR}, "description": "d"}, {"type": "string", "description": "d"}),
    ({"allOf": [{"$ref": "#/definitions/a~1b"}], "definitions": {"a/b": INT}}, INT),
    (
        {"allOf": [{"properties": {"a": STR}, "required": ["a"]}, {"properties": {"b": INT}}], "type": "object"},
        closed({"a": STR, "b": INT}, ["a"]),
    ),
    ({"allOf": [{"minimum": 1}, {"minimum": 2, "maximum": 9}], "type": "integer"},
     {"type": "integer", "minimum": 2, "maximum": 9}),
    ({"allOf": [{"multipleOf": 4}, {"multipleOf": 6}], "type": "integer"}, {"type": "integer", "multipleOf": 12}),
    ({"allOf": [{"type": "number"}, {"type": "integer"}]}, INT),
    ({"allOf": [{"pattern": "^a"}, {"pattern": "b$"}], "type": "string"},
     {"type": "string", "pattern": "^a", "allOf": [{"pattern": "b$"}]}),
    # alternatives
    ({"anyOf": [STR, {"type": "null"}], "description": "d"}, {"anyOf": [STR, {"type": "null"}], "description": "d"}),
    ({"oneOf": [STR, INT]}, {"anyOf": [STR, INT]}),
    ({"oneOf": [{"enum": [1, "a"]}, {"const": True}]}, {"anyOf": [{"enum": [1, "a"]}, {"enum": [True]}]}),
    # what one type's keywords forbid, another type may allow
    ({"type": ["string", "null"], "minLength": 3, "maxLength": 2}, {"type": "null"}),
    (
        {"allOf": [{"type": ["object", "null"], "properties": {"k": {"const": c}}, "required": ["k"]} for c in "ab"]},
        {"type": "null"},
    ),
    ({"type": "string", "anyOf": [{"minLength": 3}, INT]}, {"type": "string", "minLength": 3}),
    (
        {"type": "object", "properties": {"a": STR, "b": STR}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
        {"anyOf": [closed({"a": STR, "b": STR}, ["a"]), closed({"a": STR, "b": STR}, ["b"])]},
    ),
    (
        {"oneOf": [{"properties": {"k": {"const": c}}, "required": ["k"], "type": "object"} for c in "ab"]},
        {"anyOf": [closed({"k": {"enum": [c]}}, ["k"]) for c in "ab"]},
    ),
    ({"oneOf": [{"type": "string", "pattern": "^a"}, {"type": "string", "pattern": "^b"}]},
     {"anyOf": [{"type": "string", "pattern": "^a"}, {"type": "string", "pattern": "^b"}]}),
]  # fmt: skip

# What is refused, the path that the error names, and a word of the reason.
REFUSED = [
    ({"not": {}}, "x.not", "not"),
    ({"if": {}, "then": {}}, "x.if", "conditions"),
    ({"type": "array", "uniqueItems": True}, "x.uniqueItems", "differ"),
    ({"type": "array", "contains": STR}, "x.contains", "contain"),
    ({"propertyNames": {"maxLength": 3}}, "x.propertyNames", "names"),
    ({"patternProperties": {"a": STR}}, "x.patternProperties", "names"),
    ({"dependentRequired": {"a": ["b"]}}, "x.dependentRequired", "depends"),
    ({"$ref": "http://a/b"}, "x.$ref", "outside"),
    ({"$ref": "#/$defs/a"}, "x.$ref", "not there"),
    ({"$ref": "#a"}, "x.$ref", "anchor"),
    ({"allOf": [{"$ref": "#/allOf/²"}]}, "x.allOf[0].$ref", "not there"),
    ({1: "a"}, "x", "text"),
    ({"properties": {"a": {"$ref": "#"}}}, "x.properties.a.$ref", "itself"),
    ({"$defs": {"n": {"properties": {"n": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"},
     "x.$ref.properties.n.$ref", "itself"),
    ({"type": "strng"}, "x.type", "'strng' is not a type"),
    ({"type": []}, "x.type", "empty"),
    ({"minLenght": 3}, "x.minLenght", "known"),
    ({"properties": {"a": {"type": "string", "foo": 1}}}, "x.properties.a.foo", "known"),
    ({"enum": []}, "x.enum", "empty"),
    ({"enum": [float("nan")]}, "x.enum[0]", "JSON"),
    ({"type": "integer", "enum": ["a"]}, "x.enum", "none of its values"),
    ({"type": "integer", "minimum": 3, "maximum": 2}, "x.minimum", "no value fits"),
    ({"type": "integer", "minimum": 1.2, "maximum": 1.8}, "x.minimum", "no value fits"),
    ({"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2}, "x.exclusiveMinimum", "no value fits"),
    ({"type": "number", "exclusiveMinimum": 1, "maximum": 1}, "x.maximum", "no value fits"),
    ({"type": "integer", "multipleOf": 5, "minimum": 1, "maximum": 4}, "x.multipleOf", "no value fits"),
    ({"type": "string", "minLength": 3, "maxLength": 2}, "x.minLength", "above maxLength 2"),
    ({"type": "string", "pattern": "^a{5}$", "maxLength": 3}, "x.pattern", "no value fits"),
    ({"type": "string", "format": "date", "maxLength": 3}, "x.format", "no value fits"),
    ({"type": "array", "minItems": 3, "maxItems": 2}, "x.minItems", "above"),
    ({"type": "array", "prefixItems": [STR], "items": False, "minItems": 2}, "x.minItems", "above"),
    ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "x.required", "'a'"),
    ({"properties": {"b": STR}, "additionalProperties": False, "required": ["a"]}, "x.required", "'a'"),
    ({"allOf": [STR, INT]}, "x.type", "nothing is both"),
    ({"allOf": [False]}, "x.allOf[0]", "false"),
    ({"anyOf": []}, "x.anyOf", "list"),
    ({"oneOf": [INT, {"type": "number"}]}, "x.oneOf", "both alternatives 0 and 1"),
    ({"oneOf": [{"minLength": 3}, INT]}, "x.oneOf", "both alternatives"),
    ({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, "x.oneOf", "both alternatives"),
    ({"oneOf": [{"properties": {"a": INT}, "required": ["a"]}, {"properties": {"b": INT}}]}, "x.oneOf", "both"),
    # null, and what a reader that asserts no format takes for either
    ({"oneOf": [{"type": ["integer", "null"], "minimum": 9}, {"type": ["integer", "null"], "maximum": 5}]},
     "x.oneOf", "both"),
    ({"oneOf": [{"type": ["object", "null"], "properties": {"k": {"const": c}}, "required": ["k"]} for c in "ab"]},
     "x.oneOf", "both"),
    ({"oneOf": [{"type": "string", "format": "date"}, {"type": "string", "enum": ["today"]}]}, "x.oneOf", "both"),
    ({"oneOf": [{"type": "integer", "format": "int32"}, {"type": "integer", "minimum": 2**31}]}, "x.oneOf", "both"),
    ({"oneOf": [{"type": "integer", "minimum": i} for i in range(200)]}, "x.oneOf", "200 alternatives"),
    ({"allOf": [{"anyOf": [{"required": [f"{i}{j}"]} for j in range(40)]} for i in range(2)], "type": "object"},
     "x", "1600 pairs"),
    ({"allOf": [{"multipleOf": 2**52 - 1}, {"multipleOf": 2**52 - 3}], "type": "integer"}, "x.multipleOf", "double"),
    ({"type": "string", "pattern": "^[a-z]{,5}$"}, "x.pattern", "write {0,5}"),
    ({"type": "string", "pattern": "^a{5000}$"}, "x.pattern", "5000 times"),
    ({"type": "string", "format": "uri-template"}, "x.format", "cannot be held"),
    ({"type": "string", "format": "date-tiem"}, "x.format", "cannot be held"),
    ({"type": "string", "pattern": "a(?=b)"}, "x.pattern", "lookaround"),
    ({"type": "string", "pattern": r"(a)\1"}, "x.pattern", "back-reference"),
    ({"type": "string", "pattern": r"\bx"}, "x.pattern", "boundary"),
    ({"type": "string", "pattern": "(a{100}){100}"}, "x.pattern", "10000 times"),
    ({"type": "string", "pattern": "(a"}, "x.pattern", "not closed"),
    ({"type": "string", "pattern": "[]a]"}, "x.pattern", "empty class"),
    ({"type": "string", "pattern": "x$y"}, "x.pattern", "cannot be held"),
    ({"type": "string", "pattern": "^a$", "format": "date"}, "x.pattern", "no value fits"),
    ({"type": "string", "pattern": "a" * 2000}, "x.pattern", "2000 characters"),
    ({"type": "string", "minLength": 100_000}, "x.minLength", "room"),
    ({"type": "string", "minLength": -1}, "x.minLength", "whole number"),
    ({"type": "array", "minItems": 10_000}, "x.minItems", "room"),
    ({"type": "number", "minimum": "3"}, "x.minimum", "must be a number"),
    ({"type": "number", "multipleOf": 0}, "x.multipleOf", "above 0"),
    ({"type": "number", "multipleOf": 0.01}, "x.multipleOf", "binary"),
    ({"required": "a"}, "x.required", "list"),
    ({"properties": []}, "x.properties", "object"),
    ({"properties": {"a": 3}}, "x.properties.a", "must be a schema"),
    ({"items": 3}, "x.items", "must be a schema"),
    ({"enum": list(range(5000))}, "x.enum", "5000 values"),
    ({"type": "object", "properties": {"a": STR, "b": STR}, "minProperties": 1}, "x.minProperties", "how many"),
    ({"description": 3}, "x.description", "text"),
    ({"type": "string", "nullable": "yes"}, "x.nullable", "true or false"),
    ({"type": "number", "multipleOf": 1e308}, "x.multipleOf", "too large"),
    ({"type": "integer", "minimum": 10**400}, "x.minimum", "64 bits"),
    ({"type": "array", "maxItems": math.inf}, "x.maxItems", "whole number"),
    ({"type": "string", "pattern": "\ud800"}, "x.pattern", "surrogate"),
    ({"type": "string", "default": "\ud800"}, "x.default", "surrogate"),
    ({"properties": {"\ud800": STR}}, "x.properties", "surrogate"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "form"), FORMS)
def test_every_dialect_comes_to_one_form(schema: dict[str, Any], form: dict[str, Any]) -> None:
    assert normalise(schema, "x") == form


@pytest.mark.parametrize(("schema", "form"), FORMS)
def test_the_form_of_a_form_is_itself(schema: dict[str, Any], form: dict[str, Any]) -> None:
    assert normalise(form, "x") == form


def test_chains_of_properties_that_would_overflow_the_native_stack_are_refused() -> None:
    many = {f"p{i}": STR for i in range(200)}
    normalise_parameters({"properties": many}, "x")
    with pytest.raises(SchemaError, match="401 properties"):
        normalise_parameters({"properties": {**many, "p199": {"properties": {**many, "q": STR}}}}, "x")


@pytest.mark.parametrize(("schema", "path", "word"), REFUSED)
def test_what_cannot_be_held_is_refused_with_its_path(schema: dict[str, Any], path: str, word: str) -> None:
    with pytest.raises(SchemaError) as caught:
        normalise(schema, "x")
    assert caught.value.path == path
    assert word in str(caught.value)


def test_an_unknown_keyword_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(SchemaError) as caught:
        normalise({"minLenght": 3}, "x")
    assert caught.value.hint == "Did you mean `minLength`?"


def test_a_schema_that_unfolds_without_end_is_refused() -> None:
    bomb = {f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 9} for i in range(20)} | {"d20": STR}
    with pytest.raises(SchemaError, match="too large"):
        normalise({"$defs": bomb, "$ref": "#/$defs/d0"}, "x")
    deep: dict[str, Any] = STR
    for _ in range(500):
        deep = {"type": "array", "items": deep}
    with pytest.raises(SchemaError, match="24 levels"):
        normalise(deep, "x")


def test_parameters_always_have_properties_and_required() -> None:
    assert normalise_parameters(None, "x") == closed({})
    assert normalise_parameters({"type": "dict"}, "x") == closed({})
    assert normalise_parameters({"type": "object", "additionalProperties": STR}, "x")["additionalProperties"] == STR
    assert normalise_parameters({"type": ["object", "null"], "properties": {"a": STR}}, "x") == closed({"a": STR})


@pytest.mark.parametrize("schema", [STR, {"anyOf": [closed({"a": STR}), closed({"b": STR})]}, 3, {"enum": [{}]}])
def test_parameters_are_one_object(schema: Any) -> None:
    with pytest.raises(SchemaError, match="x"):
        normalise_parameters(schema, "x")


@pytest.mark.parametrize(
    ("schema", "value", "problem"),
    [
        (closed({"a": STR}, ["a"]), {}, "arguments.a: is required and absent"),
        (closed({"a": STR}), {"b": 1}, "arguments.b: is not a known name; known are a"),
        (INT, 1.5, "arguments: 1.5 is not of type integer"),
        (INT, True, "arguments: true is not of type integer"),
        ({"type": "number"}, float("nan"), "arguments: NaN is not of type number"),
        ({"enum": [1, "a"]}, True, 'arguments: true is not one of 1, "a"'),
        ({"type": "array", "items": INT}, [1, "x"], 'arguments[1]: "x" is not of type integer'),
        ({"anyOf": [INT, {"type": "null"}]}, "x", 'arguments: "x" fits none of the 2 alternatives'),
        ({"type": "string", "format": "date"}, "2023-02-29", 'arguments: "2023-02-29" does not have the format date'),
    ],
)
def test_a_problem_says_where_and_what(schema: dict[str, Any], value: Any, problem: str) -> None:
    assert check(normalise(schema, "x"), value) == [problem]


def test_a_hostile_pattern_takes_linear_time() -> None:
    schema = normalise({"type": "string", "pattern": "^(a+)+$"}, "x")
    assert check(schema, "a" * 5000 + "!")
    assert not check(schema, "a" * 5000)


PATTERNS = [
    r"^\d{2,3}-\w+$", r"[^\s\d]x", r"a.c", r"^(foo|ba[rz])?$", r"^[A-Z][a-z]*$", r"^{a}$", r"[a&b]", r"[\w.-]+@x",
    r"\/x\/", r"(?<year>\d{4})", r"^[^@]+@[^@]+$", r"\x41|\u0042", r"^a*?b+?$", r"\S",
    r"^#(?:[0-9a-fA-F]{3}){1,2}$",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_agree_with_python(pattern: str) -> None:
    schema = normalise({"type": "string", "pattern": pattern}, "x")
    searched = re.compile(pattern.replace("(?<", "(?P<"), re.ASCII)
    rng = random.Random(pattern)
    for _ in range(30):
        assert searched.search(sample(schema, rng))
    for _ in range(300):
        text = "".join(rng.choice("aAbBcfoz019 -_@.{}#/x\t&]é٣") for _ in range(rng.randrange(8)))
        assert (not check(schema, text)) == bool(searched.search(text)), (pattern, text)


FORMAT_VALUES = [
    ("date", "2024-02-29", True), ("date", "1900-02-29", False), ("date", "2023-13-01", False),
    ("date", "0000-01-01", False),
    ("time", "10:00:00Z", True), ("time", "10:00", False), ("time", "23:59:60Z", False),
    ("date-time", "2024-01-01T10:00:00.5+02:00", True), ("date-time", "2024-01-01 10:00:00", False),
    ("email", "a.b@c.org", True), ("email", "a@", False), ("uri", "https://a.b/c?d#e", True), ("uri", "a b", False),
    ("uuid", "123e4567-e89b-12d3-a456-426614174000", True), ("uuid", "123", False), ("duration", "P1DT2H", True),
    ("ipv4", "192.168.0.1", True), ("ipv4", "256.1.1.1", False), ("ipv6", "::1", True), ("ipv6", ":::", False),
    ("hostname", "a-b.org", True), ("hostname", "-a", False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "fits"), FORMAT_VALUES)
def test_formats_are_held(name: str, text: str, fits: bool) -> None:
    assert (not check(normalise({"type": "string", "format": name}, "x"), text)) is fits


@pytest.mark.parametrize("name", ["date", "ipv4", "ipv6", "uuid", "email"])
def test_noise_in_a_format_passes_jsonschema(name: str) -> None:
    schema = normalise({"type": "string", "format": name}, "x")
    rng = random.Random(1)
    for _ in range(25):
        value = sample(schema, rng)
        jsonschema.validate(value, {"format": name}, format_checker=jsonschema.FormatChecker())
        assert not check(schema, value)


names = st.sampled_from("abc")
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 12), st.sampled_from([0.5, 2.0]), st.sampled_from(["", "a", "bb"])
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=6
)


def optional(**keywords: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=keywords)


def _with(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    several = st.lists(inner, min_size=1, max_size=3)
    types = st.sampled_from(["string", "integer", "number", "boolean", "null", "array", "object"])
    return optional(
        type=types | st.lists(types, min_size=1, max_size=2, unique=True),
        properties=st.dictionaries(names, inner, max_size=2),
        required=st.lists(names, max_size=2, unique=True),
        additionalProperties=st.booleans() | inner,
        anyOf=several, allOf=several, oneOf=several,
        items=inner, prefixItems=several,
        minItems=st.integers(0, 2), maxItems=st.integers(0, 3),
    ) | leaves  # fmt: skip


leaves = st.one_of(
    optional(
        type=st.just("string"), minLength=st.integers(0, 2), maxLength=st.integers(0, 3),
        pattern=st.sampled_from(["^a", "b$", "^[ab]*$"]),
    ),
    optional(
        type=st.sampled_from(["integer", "number"]), minimum=st.integers(-3, 3), maximum=st.integers(0, 9),
        exclusiveMinimum=st.integers(-3, 3), multipleOf=st.sampled_from([2, 3, 0.5]),
    ),
    st.builds(lambda found: {"enum": found}, st.lists(values, min_size=1, max_size=3)),
    st.sampled_from([{}, {"const": "a"}, {"type": "boolean"}, {"type": ["string", "null"]}, True, False]),
)  # fmt: skip
schemas = st.recursive(leaves, _with, max_leaves=8).filter(lambda schema: isinstance(schema, dict))

thorough = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@thorough
@given(schemas, st.randoms(use_true_random=False))
def test_whatever_the_form_allows_the_schema_allows(schema: dict[str, Any], rng: random.Random) -> None:
    try:
        form = normalise(schema, "x")
    except SchemaError:
        return
    for _ in range(3):
        value = sample(form, rng)
        assert not check(form, value)
        jsonschema.Draft202012Validator(schema).validate(value)


@thorough
@given(schemas, values)
def test_check_says_what_jsonschema_says(schema: dict[str, Any], value: Any) -> None:
    try:
        form = normalise(schema, "x")
    except SchemaError:
        return
    assert (not check(form, value)) == jsonschema.Draft202012Validator(form).is_valid(value)


@thorough
@given(schemas)
def test_the_form_is_stable(schema: dict[str, Any]) -> None:
    try:
        form = normalise(schema, "x")
    except SchemaError:
        return
    assert normalise(form, "x") == form
