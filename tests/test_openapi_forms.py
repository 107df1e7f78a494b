"""Bodies that are forms, and `deepObject`: what reaches a server, byte for byte, worked out by hand from OpenAPI's
rules and from the requests that Stripe's documentation shows; urllib's own reader of forms is asked as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from toolace_edge.errors import CallError
from toolace_edge.sources.openapi import Loaded, load_openapi, read_operations
from toolace_edge.sources.openapi_document import read_document
from toolace_edge.sources.openapi_request import Request, build_request
from toolace_edge.sources.openapi_security import Credentials

FORMS = Path(__file__).parent / "data" / "forms.yaml"
KIND = "application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    pytest.importorskip("yaml")
    return load_openapi(FORMS)


def request_of(name: str, arguments: dict[str, Any]) -> Request:
    """What a call of the operation with this name sends."""
    pytest.importorskip("yaml")
    (operation,) = read_operations(read_document(FORMS), [name])[0]
    return build_request(operation, arguments, operation.base_url or "", Credentials())


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        ({"customer": "Zoë & Co", "paid": True}, "customer=Zo%C3%AB%20%26%20Co&paid=true"),
        ({"customer": "a", "note": None, "tags": []}, "customer=a"),
        ({"customer": "", "tags": ["b c", "d=e"]}, "customer=&tags=b%20c&tags=d%3De"),
        ({"customer": "a", "states": ["new", "old"]}, "customer=a&states=new,old"),
        ({"customer": "a", "address": {"city": "Ulm"}}, "customer=a&address=%7B%22city%22%3A%22Ulm%22%7D"),
        ({"customer": "a", "place": {"lat": 1.5}}, "customer=a&place=%7B%22lat%22%3A1.5%7D"),
        ({"customer": "a", "labels": {"order_id": "67"}}, "customer=a&labels%5Border_id%5D=67"),
        ({"customer": "a", "labels": ""}, "customer=a&labels="),
        (
            {"customer": "a", "items": [{"price": "p1", "dates": [3, 4]}, {"price": "p2"}]},
            (
                "customer=a&items%5B0%5D%5Bprice%5D=p1&items%5B0%5D%5Bdates%5D%5B0%5D=3"
                "&items%5B0%5D%5Bdates%5D%5B1%5D=4&items%5B1%5D%5Bprice%5D=p2"
            ),
        ),
    ],
)
def test_a_form_is_written_as_the_document_says(arguments: dict[str, Any], body: str) -> None:
    sent = request_of("addOrder", arguments)
    assert (sent.body, sent.headers["Content-Type"]) == (body.encode(), KIND)


def test_a_form_comes_back_from_another_reader() -> None:
    arguments = {"customer": "+1 555 %41;=&\n\u2028", "tags": ["a+b", "", "ü"], "labels": {"k 1": "v&w"}}
    sent = request_of("addOrder", arguments)
    read = parse_qsl((sent.body or b"").decode(), keep_blank_values=True, strict_parsing=True)
    tags = [("tags", one) for one in arguments["tags"]]
    assert read == [("customer", arguments["customer"]), *tags, ("labels[k 1]", "v&w")]


def test_lists_and_inner_objects_of_a_query_stand_in_brackets() -> None:
    arguments = {"expand": ["customer", "data.items"], "created": {"after": {"day": 5, "hour": None}, "state": None}}
    sent = request_of("listOrders", arguments)
    query = "expand%5B0%5D=customer&expand%5B1%5D=data.items&created%5Bafter%5D%5Bday%5D=5"
    assert (sent.url, sent.body) == (f"https://forms.example/orders?{query}", None)
    assert "Content-Type" not in sent.headers  # the form that it may have has no members


@pytest.mark.parametrize(("arguments", "body"), [({}, b""), ({"sure": False}, b"sure=false")])
def test_a_form_that_is_required_is_there_without_members_too(arguments: dict[str, Any], body: bytes) -> None:
    sent = request_of("ping", arguments)
    assert (sent.body, sent.headers["Content-Type"]) == (body, KIND)


def test_a_form_whose_member_has_the_name_of_a_parameter_is_one_argument() -> None:
    sent = request_of("changeOrder", {"id": "7", "body": {"id": "8", "note": "n"}})
    assert (sent.url, sent.body) == ("https://forms.example/orders/7", b"id=8&note=n")
    assert request_of("changeOrder", {"id": "7"}).body is None


def test_a_key_that_would_be_read_as_an_index_is_refused() -> None:
    with pytest.raises(CallError, match="labels has the key 'a\\]\\[b', whose brackets"):
        request_of("addOrder", {"customer": "a", "labels": {"a][b": "c"}})


def test_a_form_that_has_no_one_way_to_be_written_is_refused_with_its_place(loaded: Loaded) -> None:
    assert [one.tool.name for one in loaded.functions] == ["listOrders", "addOrder", "changeOrder", "ping", "nothing"]
    assert [str(one).removeprefix("paths.") for one in loaded.problems] == [
        "/free.post.requestBody.schema: a form needs an object whose names are all given",
        "/lists.post.requestBody.encoding.a: lists and objects inside others have no form outside JSON and deepObject",
        "/picture.post.requestBody.encoding.a.contentType: 'image/png' is not JSON or plain text",
        "/listed.post.requestBody.encoding.a.contentType: of a list is not supported",
        "/either.post.requestBody.encoding.a: an object beside other values has no form of its own",
        "/style.post.requestBody.encoding.a.style: 'matrix' is not supported in a body",
        "/encoding.post.requestBody.encoding: must be an object of objects",
    ]
