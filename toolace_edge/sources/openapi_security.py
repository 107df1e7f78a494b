"""What an OpenAPI document's security schemes ask for, taken from the environment when a call is made.

A scheme called `petAuth` reads, with every other character than letters and digits made `_`, in capitals,

    apiKey (header, query, cookie)                   TOOLACE_EDGE_PETAUTH_KEY
    http bearer, oauth2, openIdConnect               TOOLACE_EDGE_PETAUTH_TOKEN
    http basic                                       TOOLACE_EDGE_PETAUTH_USER and TOOLACE_EDGE_PETAUTH_PASSWORD

The first alternative whose variables are all set is used. A token of OAuth is fetched by whoever sets the variable.
Values go into the request and nowhere else: `Credentials.hide` takes them out of whatever comes back.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

from toolace_edge.errors import CallError, SchemaError
from toolace_edge.sources.openapi_document import Document

Kind = Literal["header", "query", "cookie", "basic", "bearer"]

_LONG_USER = 12  # characters: what is so long, or has hardly a password, may be a key
_SHORTEST_HIDDEN = 4  # characters: taking out shorter ones would only spoil the text
HIDDEN = "[credential]"


@dataclass(frozen=True, slots=True)
class Scheme:
    """How a credential is sent: `key` names the header, parameter or cookie, `variables` where it is."""

    kind: Kind
    key: str
    variables: tuple[str, ...]

    def is_set(self, environment: Mapping[str, str]) -> bool:
        """Whether all of it is there. A password may be empty: some services take a key as the user's name."""
        may_be_empty = self.variables[1:]
        return all(environment.get(name) or (name in may_be_empty and name in environment) for name in self.variables)


Alternative = tuple[Scheme, ...]  # all of them together; () is a call without credentials


@dataclass(slots=True)
class Credentials:
    """What one call sends to prove who calls."""

    headers: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    cookies: dict[str, str] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.secrets)

    def hide(self, text: str) -> str:
        """The text without the secrets, in the spellings that a server or an error may give back."""
        spellings = {each for one in self.secrets for each in _spellings(one)}
        for secret in sorted(spellings, key=len, reverse=True):
            if len(secret) >= _SHORTEST_HIDDEN:
                text = text.replace(secret, HIDDEN)
        return text


def _spellings(secret: str) -> Iterator[str]:
    """A secret as itself, in an address, and in JSON, with `/` as it is and as PHP writes it."""
    in_address, in_json = quote(secret, safe=""), json.dumps(secret)[1:-1]
    yield from (secret, in_address, re.sub("%..", lambda found: found[0].lower(), in_address))
    yield from (in_json, in_json.replace("/", "\\/"))


def read_security(document: Document, operation: Mapping[str, Any], path: str) -> tuple[Alternative, ...]:
    """The alternatives of an operation; () where it needs none. SchemaError where none of them can be sent."""
    needs = operation.get("security", document.root.get("security"))
    if not needs:
        return ()
    path = f"{path}.security"
    if not isinstance(needs, list) or not all(isinstance(one, Mapping) for one in needs):
        raise SchemaError(path, "must be a list of objects")
    components = document.follow(document.root.get("components"), path)
    declared = components.get("securitySchemes") if isinstance(components, Mapping) else None
    schemes = declared if isinstance(declared, Mapping) else {}
    alternatives = []
    problems: list[SchemaError] = []
    for need in needs:
        try:
            alternatives.append(tuple(_scheme(document, name, schemes, path) for name in need))
        except SchemaError as error:
            problems.append(error)
    if not alternatives:
        raise problems[0]
    return tuple(alternatives)


def always_sent(alternatives: Sequence[Alternative]) -> frozenset[tuple[str, str]]:
    """The keys, as (place, name), that a call sends whichever alternative it takes; a header's in lower case."""
    keys = [
        frozenset((one.kind, one.key.lower() if one.kind == "header" else one.key) for one in alternative)
        for alternative in alternatives
    ]
    return frozenset.intersection(*keys) if keys else frozenset()


def _scheme(document: Document, name: str, schemes: Mapping[str, Any], path: str) -> Scheme:
    given = document.follow(schemes.get(name), path)
    if not isinstance(given, Mapping):
        raise SchemaError(path, f"{name!r:.80} is not one of the document's securitySchemes")
    stem = "TOOLACE_EDGE_" + re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_")
    kind, http = given.get("type"), str(given.get("scheme", "")).lower()
    if kind == "apiKey" and given.get("in") in ("header", "query", "cookie") and isinstance(given.get("name"), str):
        return Scheme(given["in"], given["name"], (f"{stem}_KEY",))
    if kind == "http" and http == "basic":
        return Scheme("basic", "Authorization", (f"{stem}_USER", f"{stem}_PASSWORD"))
    if kind in ("oauth2", "openIdConnect") or (kind == "http" and http == "bearer"):
        return Scheme("bearer", "Authorization", (f"{stem}_TOKEN",))
    what = " ".join(filter(None, (str(kind), http)))
    raise SchemaError(path, f"{name!r:.80} is {what:.40}, which cannot be sent")


def credentials(alternatives: Sequence[Alternative], environment: Mapping[str, str]) -> Credentials:
    """What a call sends. CallError names the variables that are missing, or the one that cannot be sent."""
    for alternative in alternatives:
        if alternative and all(scheme.is_set(environment) for scheme in alternative):
            return _filled(alternative, environment)
    if not alternatives or () in alternatives:
        return Credentials()
    choices = [" and ".join(name for scheme in one for name in scheme.variables) for one in alternatives]
    raise CallError(f"this call needs a credential; set {' or '.join(dict.fromkeys(choices))} in the environment")


def _filled(alternative: Alternative, environment: Mapping[str, str]) -> Credentials:
    found = Credentials()
    for scheme in alternative:
        values = [environment[name] for name in scheme.variables]
        for name, value in zip(scheme.variables, values, strict=True):
            if not value.isprintable() or not value.isascii():
                raise CallError(f"{name} holds a character that HTTP cannot carry")
        found.secrets += values if scheme.kind != "basic" else values[1:]
        if scheme.kind == "basic":
            if len(values[0]) >= _LONG_USER or len(values[1]) < _SHORTEST_HIDDEN:
                found.secrets.append(values[0])
            encoded = base64.b64encode(":".join(values).encode()).decode()
            found.secrets.append(encoded)
            found.headers["Authorization"] = f"Basic {encoded}"
        elif scheme.kind == "bearer":
            found.headers["Authorization"] = f"Bearer {values[0]}"
        else:
            places = {"header": found.headers, "query": found.query, "cookie": found.cookies}
            places[scheme.kind][scheme.key] = values[0]
    return found
