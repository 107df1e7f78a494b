"""What may run: for each tool `allow`, `deny` or `ask`, and the sentence for what may not.

Rules are one word for every tool, or words by name. Names may be patterns (`mail.*`); the first that fits counts, and a
tool that none fits is asked for. A pattern that fits no tool is a slip of the pen: what it was to forbid would run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Literal, TypeVar, get_args

from toolace_edge.errors import InputError
from toolace_edge.messages import ToolCall

Policy = Literal["ask", "allow", "deny"]
Approve = Callable[[ToolCall], bool]

T = TypeVar("T")


def by_name(rules: T | Mapping[str, T], name: str, otherwise: T) -> T:
    """The value of the first pattern that fits `name`; the value itself where there is one for all."""
    if not isinstance(rules, Mapping):
        return rules
    return next((value for pattern, value in rules.items() if fnmatchcase(name, pattern)), otherwise)


def check_policy(rules: Policy | Mapping[str, Policy], names: Sequence[str]) -> None:
    """InputError for a word that is no policy, and for a pattern that fits none of the tools of these names."""
    for word in rules.values() if isinstance(rules, Mapping) else (rules,):
        if word not in get_args(Policy):
            raise InputError(f"{word!r} is not a policy.", hint="Policies are ask, allow and deny.")
    check_patterns("policy", rules, names)


def check_patterns(what: str, rules: object, names: Sequence[str]) -> None:
    """InputError for a pattern that fits no name; `*` alone may, as it says what holds for all the rest."""
    for pattern in rules if isinstance(rules, Mapping) else ():
        if not isinstance(pattern, str):
            raise InputError(f"{what}: {pattern!r:.80} is not a tool's name.", hint="Give names, or patterns of names.")
        if pattern != "*" and not any(fnmatchcase(name, pattern) for name in names):
            near = get_close_matches(pattern, names, 1)
            raise InputError(
                f"{what}: {pattern!r} fits no tool that runs." + (f" Did you mean {near[0]!r}?" if near else ""),
                hint=f"The tools that run are: {', '.join(names) or 'none'}.",
            )


def why_denied(call: ToolCall, rules: Policy | Mapping[str, Policy], approve: Approve | None) -> str | None:
    """Why the call must not run, for model and host; None where it may. Asking is `approve(call)`."""
    policy = by_name(rules, call.name, "ask")
    if policy == "allow":
        return None
    if policy == "deny":
        return f"calls of {call.name} are not allowed here."
    if approve is None:
        return f"{call.name} may run only where somebody allows it, and there is nobody to ask."
    return None if approve(call) else "the user did not allow this call."
