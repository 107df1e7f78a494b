"""Are two sets of calls the same? The comparison of the Berkeley Function-Calling Leaderboard (BFCL), freed of order.

What counts as the same:

    calls      a multiset: order is free, a call made twice counts twice
    numbers    by value: 1 equals 1.0; a bool is not a number
    strings    lower-cased, without spaces and ,./-_*^ and with ' as "  (BFCL's `standardize_string`)
    lists      by position; dicts by key, both recursively
    accept     one {name: {argument: [accepted value, ...]}} for each gold call. "" among the values also means that the
               argument may be absent; an argument that is not named must not be given. Inside an accepted dict each
               value is again a list of accepted values, as in BFCL's possible answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from toolace_edge.errors import InputError
from toolace_edge.messages import ToolCall

Accept = Sequence[Mapping[str, Mapping[str, Sequence[Any]]]]

_IGNORED = str.maketrans({"'": '"', **dict.fromkeys(" ,./-_*^", "")})


def calls_match(predicted: Sequence[ToolCall], gold: Sequence[ToolCall], accept: Accept | None = None) -> bool:
    """True when every predicted call answers a gold call of its own and none is left over on either side."""
    if accept is not None and len(accept) != len(gold):
        raise InputError(f"`accept` has {len(accept)} entries for {len(gold)} gold calls; it needs one for each.")
    if len(predicted) != len(gold):
        return False
    accepted = [None if accept is None else _accepted_arguments(accept[i], gold[i].name) for i in range(len(gold))]
    fits = [[i for i, wanted in enumerate(gold) if _call_matches(call, wanted, accepted[i])] for call in predicted]
    return _can_pair_all(fits)


def _accepted_arguments(entry: Mapping[str, Mapping[str, Sequence[Any]]], name: str) -> Mapping[str, Sequence[Any]]:
    if name not in entry:
        raise InputError(f"`accept` has an entry for {', '.join(entry) or 'nothing'} where the gold call is {name}.")
    if not isinstance(entry[name], Mapping):
        raise InputError(f"`accept` must give {name} an object: a list of accepted values for each argument.")
    return entry[name]


def _can_pair_all(fits: Sequence[Sequence[int]]) -> bool:
    """Kuhn's bipartite matching: `fits[p]` lists the gold calls that predicted call p would answer."""
    taken_by: dict[int, int] = {}

    def place(call: int, tried: set[int]) -> bool:
        for wanted in fits[call]:
            if wanted in tried:
                continue
            tried.add(wanted)
            if wanted not in taken_by or place(taken_by[wanted], tried):
                taken_by[wanted] = call
                return True
        return False

    return all(place(call, set()) for call in range(len(fits)))


def _call_matches(call: ToolCall, gold: ToolCall, accepted: Mapping[str, Sequence[Any]] | None) -> bool:
    if call.name != gold.name:
        return False
    if accepted is None:
        return values_match(dict(call.arguments), dict(gold.arguments))
    return _members_match(call.arguments, accepted)


def _members_match(given: Mapping[str, Any], accepted: Mapping[str, Any]) -> bool:
    if not given.keys() <= accepted.keys():
        return False
    return all(
        any(_accepts(option, given[key]) for option in _options(values)) if key in given else "" in _options(values)
        for key, values in accepted.items()
    )


def _options(values: Any) -> Sequence[Any]:
    return values if isinstance(values, list) else [values]


def _accepts(option: Any, value: Any) -> bool:
    """Like `values_match`, but a dict in `option` holds lists of accepted values."""
    if isinstance(option, Mapping):
        return isinstance(value, Mapping) and _members_match(value, option)
    if isinstance(option, list | tuple):
        return (
            isinstance(value, list | tuple)
            and len(option) == len(value)
            and all(_accepts(one, other) for one, other in zip(option, value, strict=True))
        )
    return values_match(value, option)


def values_match(one: Any, other: Any) -> bool:
    """Two argument values are the same to BFCL: numbers by value, strings by their letters and digits."""
    if isinstance(one, str) and isinstance(other, str):
        return standardise(one) == standardise(other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(values_match(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(values_match(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other
    return one is None and other is None


def standardise(text: str) -> str:
    """BFCL's `standardize_string`: case, spaces and punctuation that people vary do not count."""
    return text.translate(_IGNORED).lower()
