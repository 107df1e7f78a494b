"""Documents as they are found: keys declared twice, references to anything, one odd server among good ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from toolace_edge.errors import CallError, SchemaError, ToolError
from toolace_edge.sources.openapi import Loaded, load_openapi, read_operations
from toolace_edge.sources.openapi_document import Document
from toolace_edge.sources.openapi_request import Operation, Request, build_request
from toolace_edge.sources.openapi_security import Credentials, Scheme, credentials

KEY = Scheme("query", "api_key", ("K",))
BASIC = Scheme("basic", "Authorization", ("U", "P"))


def operation(given: Mapping[str, Any], **root: Any) -> Operation:
    """The one operation `GET /a`, or the problem that keeps it from being one."""
    document = Document("api", {"paths": {"/a": {"get": given}}, **root}, "3.1")
    found, problems = read_operations(document, base_url="https://a.example")
    if problems:
        raise problems[0]
    return found[0]


def parameter(schema: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"parameters": [{"name": "s", "in": "query", "schema": schema, **more}]}


def request(one: Operation, arguments: Mapping[str, Any], sent_along: Credentials | None = None) -> Request:
    return build_request(one, arguments, one.base_url or "", sent_along or Credentials())


def load(folder: Path, server: str, **options: Any) -> Loaded:
    paths = {"/a": {"get": {"operationId": "a"}}, "/b": {"get": {"operationId": "b", "servers": [{"url": server}]}}}
    root = {"openapi": "3.1.0", "servers": [{"url": "https://a.example"}], "paths": paths}
    (folder / "api.json").write_text(json.dumps(root), "utf-8")
    return load_openapi(folder / "api.json", **options)


ODD = [
    "https://[tenant].a.example/v1",
    "localhost:8080/api",
    "wss://a.example",
    "https://a.example/v1?x=1",
    "https://h/#",
]


@pytest.mark.parametrize("server", ODD)
def test_a_base_url_stands_for_servers_that_are_no_addresses(tmp_path: Path, server: str) -> None:
    loaded = load(tmp_path, server, base_url="https://good.example")
    assert [one.tool.name for one in loaded.functions] == ["a", "b"]


@pytest.mark.parametrize("server", ODD)
def test_without_one_the_odd_server_is_a_sentence_with_its_place(tmp_path: Path, server: str) -> None:
    with pytest.raises(ToolError, match=r"^paths./b.get: the server's URL (is not an address|holds a query)"):
        load(tmp_path, server)


@pytest.mark.parametrize("url", ["https://h/#", "https://h/?", "https://h#x"])
def test_a_base_url_after_which_no_path_can_stand_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ToolError, match="holds a query or a fragment"):
        load(tmp_path, "https://b.example", base_url=url)


def test_what_stands_beside_a_path_items_reference_counts() -> None:
    shared = {"get": {"operationId": "read"}, "parameters": [{"name": "s", "in": "query", "schema": {}}]}
    item = {"$ref": "#/components/pathItems/Shared", "post": {"operationId": "write"}}
    document = Document("api", {"paths": {"/a": item}, "components": {"pathItems": {"Shared": shared}}}, "3.1")
    found, problems = read_operations(document)
    assert [(one.tool.name, one.method, [each.name for each in one.parameters]) for one in found] == [
        ("read", "GET", ["s"]),
        ("write", "POST", ["s"]),
    ]
    assert problems == ()


# --- schemas ---------------------------------------------------------------------------------------------------


def body(properties: Mapping[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties}
    return {"requestBody": {"content": {"application/json": {"schema": schema}}}}


def test_a_reference_to_true_is_any_value_and_one_to_null_is_refused_with_its_place() -> None:
    given = body({"x": {"$ref": "#/components/schemas/Any"}})
    assert operation(given, components={"schemas": {"Any": True}}).tool.parameters["properties"] == {"x": {}}
    with pytest.raises(SchemaError, match=r"^paths./a.get.requestBody"):
        operation(given, components={"schemas": {"Any": None}})


def test_definitions_keep_apart_whatever_they_are_called() -> None:
    def of(name: str) -> dict[str, Any]:
        return {"type": "object", "properties": {name: {"type": "string"}}, "required": [name]}

    schemas = {"Pet_2": of("tail"), "Pet_3": of("paw"), "Pet": of("name")}
    pet = {"$ref": "#/components/schemas/Pet"}
    members = {"x": {"$ref": "#/components/schemas/Pet_2"}, "y": pet, "z": {"allOf": [pet]}}
    found = operation(body(members), components={"schemas": schemas}).tool.parameters["properties"]
    assert {name: list(one["properties"]) for name, one in found.items()} == {
        "x": ["tail"],
        "y": ["name"],
        "z": ["name"],
    }


# --- values ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schema", [{}, {"$ref": "#/components/schemas/Any"}, {"description": "Whatever."}])
def test_a_parameter_of_any_value_takes_a_word_and_nothing_that_becomes_other_parameters(
    schema: dict[str, Any],
) -> None:
    found = operation(parameter(schema), components={"schemas": {"Any": {}}})
    assert found.tool.parameters["properties"]["s"]["type"] == ["string", "number", "boolean"]
    assert request(found, {"s": True}).url == "https://a.example/a?s=true"


def test_a_list_and_an_object_of_any_values_hold_words() -> None:
    words = {"type": ["string", "number", "boolean"]}
    listed = operation(parameter({"type": "array"})).tool.parameters["properties"]["s"]
    assert listed["items"] == words
    schema = {"type": "object", "properties": {"k": {}}, "additionalProperties": False}
    assert operation(parameter(schema)).tool.parameters["properties"]["s"]["properties"] == {"k": words}
    nested = {"type": "array", "items": {"type": "array"}}
    with pytest.raises(SchemaError, match="lists and objects inside others have no form"):
        operation(parameter(nested))


def test_any_value_is_any_value_in_json() -> None:
    given = {"parameters": [{"name": "s", "in": "query", "content": {"application/json": {"schema": {}}}}]}
    found = operation(given)
    assert found.tool.parameters["properties"]["s"] == {}
    assert request(found, {"s": [{"k": None}]}).url.endswith("?s=%5B%7B%22k%22%3Anull%7D%5D")


def test_a_header_holds_json_in_ascii_and_is_left_out_where_there_is_nothing_to_say() -> None:
    given = {
        "parameters": [
            {"name": "X-Where", "in": "header", "content": {"application/json": {"schema": {"type": "object"}}}},
            {"name": "X-Ids", "in": "header", "schema": {"type": "array", "items": {"type": "string"}}},
        ]
    }
    sent = request(operation(given), {"X-Where": {"city": "Köln"}, "X-Ids": []})
    assert sent.headers["X-Where"] == '{"city":"K\\u00f6ln"}'
    assert "X-Ids" not in sent.headers


def test_null_members_are_not_written_into_a_path() -> None:
    schema = {"type": "object", "properties": {"a": {"type": ["string", "null"]}, "b": {"type": "string"}}}
    given = {"parameters": [{"name": "s", "in": "path", "schema": schema}]}
    found, problems = read_operations(Document("api", {"paths": {"/{s}": {"get": given}}}, "3.1"))
    assert problems == ()
    assert build_request(found[0], {"s": {"a": None, "b": "x"}}, "https://h", Credentials()).url == "https://h/b,x"
    with pytest.raises(CallError, match="cannot be a part of a path"):
        build_request(found[0], {"s": {"a": None}}, "https://h", Credentials())


# --- credentials -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("place", "name", "said"), [("query", "api_key", "api_key"), ("header", "X-Key", "x-key")])
def test_a_key_that_is_declared_as_a_parameter_too_is_no_argument(place: str, name: str, said: str) -> None:
    given = {"parameters": [{"name": said, "in": place, "required": True, "schema": {"type": "string"}}]}
    schemes = {"k": {"type": "apiKey", "in": place, "name": name}}
    root = {"components": {"securitySchemes": schemes}}
    assert operation(given, security=[{"k": []}], **root).tool.parameters["properties"] == {}
    optional = operation(given, security=[{"k": []}, {}], **root)  # without it, the argument is all there is
    assert list(optional.tool.parameters["properties"]) == [said]


def test_the_credential_is_sent_in_the_place_of_an_argument() -> None:
    schemes = {"k": {"type": "apiKey", "in": "query", "name": "s"}}
    found = operation(parameter({"type": "string"}), security=[{"k": []}, {}], components={"securitySchemes": schemes})
    sent = request(found, {"s": "made-up"}, Credentials(query={"s": "SECRET"}, secrets=["SECRET"]))
    assert sent.url == "https://a.example/a?s=SECRET"


def test_a_credential_that_is_a_whole_cookie_header_stays_beside_cookies() -> None:
    given = {"parameters": [{"name": "lang", "in": "cookie", "schema": {"type": "string"}}]}
    sent = request(operation(given), {"lang": "de"}, Credentials({"cookie": "id=SECRET"}, secrets=["SECRET"]))
    assert {name.lower(): value for name, value in sent.headers.items()}["cookie"] == "id=SECRET; lang=de"


@pytest.mark.parametrize("said", ["abc/def", r"abc\/def", "abc%2Fdef", "abc%2fdef"])
def test_a_secret_is_hidden_in_each_of_its_spellings(said: str) -> None:
    found = credentials([(KEY,)], {"K": "abc/def"})
    assert found.hide(f"bad key {said}!") == "bad key [credential]!"


@pytest.mark.parametrize(
    ("user", "password", "text", "hidden"),
    [
        ("sk_live_123456", "X", "bad key sk_live_123456", "bad key [credential]"),
        ("keyname", "", "bad key keyname", "bad key [credential]"),
        ("ada", "long enough", "no ada", "no ada"),
    ],
)
def test_a_user_that_may_be_a_key_is_hidden_and_a_password_may_be_empty(
    user: str, password: str, text: str, hidden: str
) -> None:
    found = credentials([(BASIC,)], {"U": user, "P": password})
    assert found.headers["Authorization"].startswith("Basic ")
    assert found.hide(text) == hidden


def test_a_password_or_a_user_that_is_not_there_is_asked_for() -> None:
    for environment in ({"U": "ada"}, {"P": "x"}, {"U": "", "P": "x"}):
        with pytest.raises(CallError, match="set U and P in the environment"):
            credentials([(BASIC,)], environment)
