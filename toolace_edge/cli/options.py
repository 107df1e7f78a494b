"""Options that several commands share, each written once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from toolace_edge.decode import Sampling

F = TypeVar("F", bound=Callable[..., Any])


def _all(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, shown in `--help` in the order in which they are written here."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


model_options = _all(
    click.option("--model", envvar="TOOLACE_EDGE_MODEL", metavar="NAME", help="Model name or path. [default: nano]"),
    click.option(
        "--format",
        "format_name",
        type=click.Choice(["compact", "toolace", "hermes"]),
        help="How the model writes calls, where its file does not say.",
    ),
    click.option(
        "--rounds", type=click.IntRange(1, 10), default=3, show_default=True, help="Rounds at most, the first included."
    ),
    click.option("--threads", type=click.IntRange(1, 256), help="CPU threads. [default: as suits the machine]"),
)

sampling_options = _all(
    click.option("--temperature", type=click.FloatRange(0, 10), default=0.0, help="0 (default) takes the likeliest."),
    click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), default=1.0, help="Likeliest up to this sum."),
    click.option("--top-k", type=click.IntRange(0), default=0, help="Only this many likeliest; 0: all."),
    click.option("--min-p", type=click.FloatRange(0, 1), default=0.0, help="Only this share of the likeliest or more."),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Same seed, same answer."),
    click.option("--max-tokens", type=click.IntRange(1, 65536), default=512, show_default=True, help="Longest answer."),
)


def sampling_from(options: Mapping[str, Any]) -> Sampling:
    """The flags of `sampling_options` as the decoder's own type."""
    from toolace_edge.decode import Sampling

    return Sampling(**options)
