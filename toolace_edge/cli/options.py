"""Options that several commands share, each written once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from toolace_edge.policy import Policy
    from toolace_edge.sampling import Sampling

F = TypeVar("F", bound=Callable[..., Any])


def _all(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, shown in `--help` in the order in which they are written here."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


_FORMATS = click.Choice(["compact", "toolace", "hermes"])
_SHARE = click.FloatRange(0, 1)

which_model = _all(
    click.option("--model", envvar="TOOLACE_EDGE_MODEL", metavar="NAME", help="Model name or path. [default: nano]"),
    click.option(
        "--format",
        "format_name",
        type=_FORMATS,
        metavar="NAME",
        help="Not as its file says: compact, toolace, hermes.",
    ),
)
model_options = _all(
    which_model,
    click.option(
        "--rounds", type=click.IntRange(0, 32), default=1, metavar="N", help="Refinements at most. [default: 1]"
    ),
    click.option("--threads", type=click.IntRange(1, 256), metavar="N", help="CPU threads. [default: cores - 1]"),
)

retrieval_options = click.option(
    "--top-k",
    "top_tools",
    type=click.IntRange(0),
    metavar="N",
    help="Offer the N best; 0: all. [default: as fits]",
)

_FILE = click.Path(path_type=Path)

prompt_cache_option = click.option(
    "--prompt-cache", type=_FILE, metavar="FILE", help="Keep what is read of the tools here, for the next start."
)

# The names are those of `toolace_edge.sources.open_sources`.
source_options = _all(
    click.option("--functions", multiple=True, type=_FILE, metavar="FILE", help="Python file of functions."),
    click.option("--plugin", "plugins", multiple=True, metavar="NAME", help="Plugin of an installed package."),
    click.option("--openapi", multiple=True, type=_FILE, metavar="FILE", help="OpenAPI 3 document."),
    click.option("--base-url", metavar="URL", help="In place of the document's server."),
    click.option("--mcp", multiple=True, type=_FILE, metavar="FILE", help="MCP servers, as in mcp.json."),
    click.option("--only", multiple=True, metavar="GLOB", help="Of --openapi and --mcp, only these."),
)

policy_options = _all(
    click.option("--allow", multiple=True, metavar="PATTERN", help="Run calls of these tools without asking."),
    click.option("--ask", multiple=True, metavar="PATTERN", help="Ask before each call of these."),
    click.option("--deny", multiple=True, metavar="PATTERN", help="Never run these."),
    click.option("--yes", is_flag=True, help="Run what none of these three names without asking."),
)


def policies_from(options: dict[str, Any], names: Sequence[str], *, otherwise: Policy) -> dict[str, Policy]:
    """The flags of `policy_options`, taken out of `options`, as rules for the tools of these names.

    Of several patterns that fit a tool the strictest counts, so that the order of flags does not matter; `*` alone is
    for what no other fits, and `otherwise` for what nothing is said about. UsageError where a pattern fits no tool.
    """
    words: tuple[Policy, ...] = ("deny", "ask", "allow")
    given = [(pattern, word) for word in words for pattern in options.pop(word)]
    rest: Policy = "allow" if options.pop("yes") else otherwise
    rules: dict[str, Policy] = {}
    for pattern, word in given:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise click.UsageError(f"--{word} {pattern}: no tool has such a name. The tools are: {', '.join(names)}.")
        rules.setdefault(pattern, word)
    rest = rules.pop("*", rest)
    return {**rules, "*": rest}


def are_policies_given(options: Mapping[str, Any]) -> bool:
    return any(options[name] for name in ("allow", "ask", "deny", "yes"))


def check_somebody_can_be_asked(rules: Mapping[str, Policy], names: Sequence[str], *, terminal: bool) -> None:
    """UsageError where a rule wants to ask and there is no terminal."""
    from toolace_edge.policy import by_name

    asked = [name for name in names if by_name(rules, name, "ask") == "ask"]
    if asked and not terminal:
        more = f" and {len(asked) - 3} more" if len(asked) > 3 else ""
        raise click.UsageError(
            f"Calls of {', '.join(asked[:3])}{more} run only after a question, and here is no terminal to ask at: "
            "give --yes, or --allow or --deny for these (a name, a pattern, * for all the rest)."
        )


sampling_options = _all(
    click.option(
        "--temperature",
        type=click.FloatRange(0, 10),
        default=0.0,
        metavar="T",
        help="0, the default, takes the likeliest token.",
    ),
    click.option(
        "--top-p",
        type=click.FloatRange(0, 1, min_open=True),
        default=1.0,
        metavar="P",
        help="Only the likeliest up to this sum.",
    ),
    click.option(
        "--sample-top-k",
        "top_k",
        type=click.IntRange(0),
        default=0,
        metavar="K",
        help="Only this many of the likeliest; 0: all.",
    ),
    click.option("--min-p", type=_SHARE, default=0.0, metavar="P", help="Only this share of the likeliest or more."),
    click.option("--seed", type=click.IntRange(0), default=0, metavar="N", help="Same seed, same answer."),
    click.option(
        "--max-tokens", type=click.IntRange(1, 65536), default=512, metavar="N", help="Longest answer. [default: 512]"
    ),
)


def sampling_from(options: Mapping[str, Any]) -> Sampling:
    """The flags of `sampling_options` as the decoder's own type."""
    from toolace_edge.sampling import Sampling

    return Sampling(**options)
