"""The operations of an OpenAPI 3.0 or 3.1 document as tools.

    name          operationId, or the method and the path, with `_` for what a name cannot hold, and a number if taken
    description   the summary, or else the description, cut to a sentence or two
    arguments     path, query, header and cookie parameters, then the members of a JSON body or a form; if one of these
                  has a name that is taken, or the body is no plain object or may be left out although members are
                  required, the body is the one argument `body`

An operation that cannot be called exactly as the document says (a schema that cannot be held, a body that is neither
JSON nor a form, a style of writing that is not in openapi_values.py) is refused with its place:
`paths./pets.post.requestBody...`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from toolace_edge.errors import CallError, SchemaError, ToolError
from toolace_edge.messages import Tool
from toolace_edge.schema import normalise_parameters
from toolace_edge.sources.base import CALL_TIMEOUT_S, MAX_DESCRIPTION, SourceTool, valid_name
from toolace_edge.sources.openapi_body import read_body
from toolace_edge.sources.openapi_document import Document, read_document
from toolace_edge.sources.openapi_http import check_credentials_stay_safe, send
from toolace_edge.sources.openapi_parameters import read_parameters
from toolace_edge.sources.openapi_request import TEMPLATE, Operation, build_request
from toolace_edge.sources.openapi_security import always_sent, credentials, read_security
from toolace_edge.sources.openapi_text import plain

_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A document's tools, what is wrong with its other operations, and the hosts that each credential goes to."""

    functions: tuple[SourceTool, ...]
    problems: tuple[ToolError, ...]
    credential_hosts: Mapping[str, frozenset[str]]


def load_openapi(
    path: Path,
    *,
    base_url: str | None = None,
    only: Sequence[str] = (),
    timeout_s: float = CALL_TIMEOUT_S,
) -> Loaded:
    """The operations of a document. ToolError where the file is none, or where an operation has no server.

    `only`: patterns (`list*`, `GET /pets*`) of names, or of method and path; without any, all. `base_url` replaces the
    document's servers.
    """
    if base_url is not None:
        base_url = checked_url(base_url, "The base URL")
    operations, problems = read_operations(read_document(path), only, base_url)
    for each in operations:
        if each.base_url is None:
            raise ToolError(
                f"{path} names no server with a full address for {each.tool.name}.", hint="Give it by --base-url."
            )
    is_named = base_url is not None
    functions = tuple(SourceTool(each.tool, partial(_call, each, is_named, timeout_s)) for each in operations)
    return Loaded(functions, problems, _credential_hosts(operations))


def read_operations(
    document: Document, only: Sequence[str] = (), base_url: str | None = None
) -> tuple[list[Operation], tuple[ToolError, ...]]:
    """Every operation that `only` picks: those that can be called, and the others' problems.

    `base_url` stands in the place of the document's servers, which then are not looked at.
    """
    operations: list[Operation] = []
    problems: list[ToolError] = []
    taken: set[str] = set()
    for where, method, path, item, given in _operations(document):
        if isinstance(given, SchemaError):
            problems.append(given)
            continue
        named = given.get("operationId")
        name = valid_name(named if isinstance(named, str) and named else f"{method} {path}", taken)
        taken.add(name)
        if only and not any(fnmatchcase(name, one) or fnmatchcase(f"{method.upper()} {path}", one) for one in only):
            continue
        try:
            operation = _read_operation(document, where, method, path, item, given, name)
        except SchemaError as error:
            problems.append(error)
            continue
        address = _server(document, item, given, where) if base_url is None else base_url
        operations.append(replace(operation, base_url=address))
    return operations, tuple(problems)


def _operations(
    document: Document,
) -> Iterator[tuple[str, str, str, Mapping[str, Any], Mapping[str, Any] | SchemaError]]:
    """(where, method, path, path item, operation), or the problem of a path item."""
    paths = document.root.get("paths") or {}
    if not isinstance(paths, Mapping):
        raise ToolError(f"{document.name}: `paths` is not an object.", hint="Correct the document there.")
    for path, item in paths.items():
        if path.startswith("x-"):
            continue
        where = f"paths.{path}"
        try:
            target = document.follow(item, where)
            if not isinstance(target, Mapping):
                raise SchemaError(where, "must be an object")
            item = {**target, **{key: value for key, value in item.items() if key != "$ref"}}  # both count
        except SchemaError as error:
            yield where, "", path, {}, error
            continue
        for method in _METHODS:
            if method in item:
                given = item[method]
                wrong = SchemaError(f"{where}.{method}", "must be an object")
                yield f"{where}.{method}", method, path, item, given if isinstance(given, Mapping) else wrong


def _read_operation(
    document: Document,
    where: str,
    method: str,
    path: str,
    item: Mapping[str, Any],
    given: Mapping[str, Any],
    name: str,
) -> Operation:
    if not path.startswith("/") or "?" in path or "#" in path:
        raise SchemaError(where, "is not a path that arguments can be put into")
    security = read_security(document, given, where)
    parameters, properties = read_parameters(document, item, given, where, always_sent(security))
    required = [each.argument for each, needed in parameters if needed]
    in_path = {each.name for each, _ in parameters if each.place == "path"}
    lost = set(TEMPLATE.findall(path)) ^ in_path
    if lost:
        raise SchemaError(f"{where}.parameters", f"{sorted(lost)[0]!r} is not both in the path and a path parameter")
    body, members, needed_members = read_body(document, given, where, properties)
    schema = {
        "type": "object",
        "properties": {**properties, **members},
        "required": [*required, *needed_members],
        "additionalProperties": False,
    }
    described = given.get("summary") or given.get("description") or item.get("summary") or f"{method.upper()} {path}"
    normalise_parameters(schema, where)  # for its limits: each part is in its form already, dates twice would be odd
    tool = Tool(name, plain(described, MAX_DESCRIPTION), schema)
    return Operation(
        tool,
        method.upper(),
        path,
        None,
        tuple(each for each, _ in parameters),
        body,
        security,
    )


def _server(document: Document, item: Mapping[str, Any], given: Mapping[str, Any], where: str) -> str | None:
    """The first server of the operation, the path or the document, its variables at their defaults."""
    servers = given.get("servers") or item.get("servers") or document.root.get("servers")
    first = servers[0] if isinstance(servers, list) and servers else None
    if not isinstance(first, Mapping) or not isinstance(first.get("url"), str):
        return None
    variables = first.get("variables")
    url = first["url"]
    for name, about in variables.items() if isinstance(variables, Mapping) else ():
        default = about.get("default") if isinstance(about, Mapping) else None
        url = url.replace(f"{{{name}}}", str(default) if default is not None else f"{{{name}}}")
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", url) or "{" in url:
        return None
    return checked_url(url, f"{where}: the server's URL")


def checked_url(url: str, what: str) -> str:
    """The URL of a server, which is a scheme, a host and at most a path. Raises ToolError."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        usable, parts = False, urlsplit("")
    if not usable or not url.isprintable() or " " in url:
        raise ToolError(f"{what} is not an address of http or https.", hint="Write it as in https://host/path.")
    if parts.username is not None or parts.password is not None:
        raise ToolError(f"{what} holds a user or a password.", hint="Credentials come from the environment.")
    if "?" in url or "#" in url:
        raise ToolError(f"{what} holds a query or a fragment.", hint="Write it as in https://host/path.")
    return url


def _call(operation: Operation, is_named: bool, timeout_s: float, arguments: Mapping[str, Any]) -> str:
    """Make the call. CallError, without any credential in it, where it gives no good answer.

    `is_named`: a person gave the address, and so allows it to get credentials.
    """
    sent_along = credentials(operation.security, os.environ)
    address = operation.base_url or ""
    if sent_along and not is_named:
        check_credentials_stay_safe(address)
    try:
        request = build_request(operation, arguments, address, sent_along)
        return send(request, timeout_s=timeout_s, hide=sent_along.hide)
    except CallError as error:
        raise CallError(sent_along.hide(str(error))) from None


def _credential_hosts(operations: Sequence[Operation]) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for operation in operations:
        host = urlsplit(operation.base_url or "").netloc
        for variable in (name for one in operation.security for scheme in one for name in scheme.variables):
            found[variable] = found.get(variable, frozenset()) | {host}
    return found
