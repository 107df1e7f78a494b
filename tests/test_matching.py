from __future__ import annotations

from typing import Any

import pytest

from toolace_edge.errors import InputError
from toolace_edge.matching import calls_match, standardise, values_match
from toolace_edge.messages import ToolCall


def call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall(name, arguments)


SAME = [
    (1, 1.0), (3.5, 3.5), (True, True), (None, None), ([], []), ({}, {}),
    ("New York, NY", "new york ny"), ("2024-01-02", "2024/01/02"), ("it's", 'it"s'), ("a_b*c^d", "AbCd"),
    ([1, "A b"], [1.0, "ab"]), ({"k": ["X-Y"]}, {"k": ["xy"]}), ((1, 2), [1, 2]),
]  # fmt: skip
DIFFERENT = [
    (1, True), (0, False), (1, "1"), (None, ""), (None, 0), ([1, 2], [2, 1]), ([1], [1, 1]), ({"K": 1}, {"k": 1}),
    ("a", "b"), ("a:b", "ab"), (1, 1.5), ({"a": 1}, {"a": 1, "b": 2}), ([1], 1), (10**17, 10**17 + 1),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), SAME)
def test_values_are_the_same(one: Any, other: Any) -> None:
    assert values_match(one, other)
    assert values_match(other, one)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_values_differ(one: Any, other: Any) -> None:
    assert not values_match(one, other)
    assert not values_match(other, one)


def test_standardise_drops_what_bfcl_drops() -> None:
    assert standardise(" ,./-_*^A'") == 'a"'


def test_order_of_calls_does_not_matter() -> None:
    assert calls_match([call("f", a=1), call("g")], [call("g"), call("f", a=1)])


def test_a_call_made_twice_counts_twice() -> None:
    assert not calls_match([call("f"), call("f")], [call("f")])
    assert not calls_match([call("f", a=1), call("f", a=1)], [call("f", a=1), call("f", a=2)])
    assert calls_match([call("f", a=2), call("f", a=1)], [call("f", a=1), call("f", a=2)])


def test_nothing_called_where_nothing_was_wanted_is_right() -> None:
    assert calls_match([], [])
    assert not calls_match([call("f")], [])
    assert not calls_match([], [call("f")])


def test_names_are_compared_exactly() -> None:
    assert not calls_match([call("F")], [call("f")])
    assert not calls_match([call("a.b")], [call("a_b")])


def test_without_accept_the_arguments_are_the_same_set() -> None:
    assert not calls_match([call("f", a=1)], [call("f", a=1, b=2)])
    assert not calls_match([call("f", a=1, b=2)], [call("f", a=1)])
    assert calls_match([call("f", b=2, a=1)], [call("f", a=1, b=2)])


GOLD = [call("f", city="Berlin", unit="C")]
ACCEPT = [{"f": {"city": ["Berlin", "Berlin, Germany"], "unit": ["C", ""], "days": ["", 1]}}]


@pytest.mark.parametrize(
    ("arguments", "right"),
    [
        ({"city": "berlin"}, True),
        ({"city": "Berlin Germany", "unit": "c"}, True),
        ({"city": "Berlin", "days": 1.0}, True),
        ({"city": "Berlin", "days": 2}, False),
        ({"city": "Paris"}, False),
        ({"unit": "C"}, False),  # city may not be absent
        ({"city": "Berlin", "other": 1}, False),  # not in accept
        ({"city": "Berlin", "unit": "F"}, False),
        ({"city": "Berlin", "days": None}, False),
    ],
)
def test_accept_lists_the_values_of_each_argument(arguments: dict[str, Any], right: bool) -> None:
    assert calls_match([ToolCall("f", arguments)], GOLD, ACCEPT) is right


@pytest.mark.parametrize(
    ("option", "value", "right"),
    [
        ({"min": [5], "max": [8]}, {"min": 5, "max": 8}, True),
        ({"min": [5], "max": [8]}, {"min": 5, "max": 9}, False),
        ({"min": [5], "max": [8, ""]}, {"min": 5}, True),
        ({"min": [5], "max": [8]}, {"min": 5}, False),
        ({"min": [5]}, {"min": 5, "max": 8}, False),
        ({"Alex": [["A of spades", "K"]]}, {"Alex": ["a of spades", "k"]}, True),
        ([{"field": ["age"], "value": ["25", "26"]}], [{"field": "Age", "value": "26"}], True),
        ([{"field": ["age"]}], [{"field": "age"}, {"field": "age"}], False),
        ([[10, 20], [30, 40]], [[10, 20.0], [30, 40]], True),
        (["a"], "a", False),
        ({"a": [{"b": [1, 2]}]}, {"a": {"b": 2}}, True),
    ],
)
def test_accepted_dicts_hold_lists_of_accepted_values(option: Any, value: Any, right: bool) -> None:
    assert calls_match([call("f", x=value)], [call("f", x=None)], [{"f": {"x": [option]}}]) is right


def test_pairing_backtracks_when_the_first_fit_is_needed_elsewhere() -> None:
    gold = [call("f", a=1), call("f", a=2)]
    accept = [{"f": {"a": [1, 2]}}, {"f": {"a": [1]}}]
    assert calls_match([call("f", a=1), call("f", a=2)], gold, accept)
    assert not calls_match([call("f", a=2), call("f", a=2)], gold, accept)


def test_an_accept_list_that_does_not_fit_the_gold_calls_is_an_error() -> None:
    with pytest.raises(InputError, match="2 entries for 1"):
        calls_match([], [call("f")], [{"f": {}}, {"f": {}}])
    with pytest.raises(InputError, match="gold call is f"):
        calls_match([call("f")], [call("f")], [{"g": {}}])
