"""A server made from an OpenAPI document: it answers the document's operations and refuses everything else.

Nothing of the project is used here, so that it can be the judge: PyYAML reads the document, `referencing` follows its
references, jsonschema says whether each parameter and the body are what the document allows. What was understood goes
back as JSON: {"operation": ..., "arguments": {"path": ..., "query": ..., "header": ..., "cookie": ..., "body": ...}}.
404 is for a path that the document does not have, 405 for another method, 422 for arguments that it does not allow.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jsonschema
import yaml
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4, DRAFT202012

URN = "urn:document"
NOTHING = object()
METHODS = ("get", "put", "post", "delete", "patch")


def read(file: Path) -> dict[str, Any]:
    text = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    document: dict[str, Any] = yaml.safe_load(text)  # JSON is YAML
    return document


# --- what the document's schemas mean in a request ---------------------------------------------------------------


def _or_null(keyword: str) -> Callable[..., Iterator[Any]]:
    original = jsonschema.Draft4Validator.VALIDATORS[keyword]

    def validate(validator: Any, value: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
        if instance is not None or not schema.get("nullable"):
            yield from original(validator, value, instance, schema) or ()

    return validate


def _read_only(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if value:
        yield jsonschema.ValidationError("is read-only, so no request holds it")


def _required(validator: Any, names: list[str], instance: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
    for name in names if isinstance(instance, dict) else ():
        if name not in instance and not (schema.get("properties", {}).get(name) or {}).get("readOnly"):
            yield jsonschema.ValidationError(f"{name!r} is missing")


_OF_REQUESTS = {"readOnly": _read_only, "required": _required}
_VALIDATORS = {
    "3.0": jsonschema.validators.extend(
        jsonschema.Draft4Validator, {**_OF_REQUESTS, "type": _or_null("type"), "enum": _or_null("enum")}
    ),
    "3.1": jsonschema.validators.extend(jsonschema.Draft202012Validator, _OF_REQUESTS),
}


class Document:
    """Pointers into the document, and the verdict of the schema at one."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.root = root
        version = root["openapi"][:3]
        specification = DRAFT4 if version == "3.0" else DRAFT202012
        self.registry: Registry[Any] = Registry().with_resource(URN, Resource(root, specification))
        self.validator = _VALIDATORS[version]

    def at(self, pointer: str) -> tuple[str, Any]:
        """The pointer, references followed, and what lies there."""
        node = self.registry.resolver(URN).lookup(f"#{pointer}").contents
        while isinstance(node, dict) and "$ref" in node:
            pointer = node["$ref"].removeprefix("#")
            node = self.registry.resolver(URN).lookup(f"#{pointer}").contents
        return pointer, node

    def problems(self, pointer: str, value: Any) -> list[str]:
        found = self.validator({"$ref": f"{URN}#{pointer}"}, registry=self.registry).iter_errors(value)
        return [f"{error.json_path}: {error.message}" for error in found]

    def typed(self, pointer: str, text: str) -> Any:
        """A word of the URL or of a header as the value that the schema there wants; the text where it wants none."""
        values: list[Any] = [text]
        if re.fullmatch(r"true|false|null|-?\d+(\.\d+)?([eE][-+]?\d+)?", text):
            values.append(json.loads(text))
        return next((value for value in values if not self.problems(pointer, value)), text)


# --- one operation -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Route:
    """`names` of the path's parameters; `parameters` as pointers."""

    method: str
    pattern: re.Pattern[str]
    names: tuple[str, ...]
    name: str
    parameters: tuple[str, ...]
    body: str | None


def routes(document: Document) -> list[Route]:
    found = []
    for path, item in document.root["paths"].items():
        at = f"/paths/{_escaped(path)}"
        for method in METHODS:
            if method not in item:
                continue
            operation = item[method]
            listed = {}
            for owner, where in ((item, at), (operation, f"{at}/{method}")):
                for i in range(len(owner.get("parameters", ()))):
                    pointer, parameter = document.at(f"{where}/parameters/{i}")
                    listed[parameter["name"], parameter["in"]] = pointer
            body = document.at(f"{at}/{method}/requestBody")[0] if "requestBody" in operation else None
            pieces = re.split(r"\{([^}]*)\}", path)
            pattern = "".join("([^/]+)" if i % 2 else re.escape(piece) for i, piece in enumerate(pieces))
            name = operation.get("operationId") or f"{method} {path}"
            names = tuple(pieces[1::2])
            found.append(Route(method.upper(), re.compile(pattern), names, name, tuple(listed.values()), body))
    return sorted(found, key=lambda route: len(route.names))  # a path without parameters goes first


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


class Reader:
    """What a request says to an operation; `problems` are what the document does not allow."""

    def __init__(self, document: Document, route: Route, segments: tuple[str, ...], query: str, headers: Any) -> None:
        self.document = document
        self.problems: list[str] = []
        self.arguments: dict[str, Any] = {}
        self._segments = dict(zip(route.names, segments, strict=True))
        self._pairs = [tuple(pair.partition("=")[::2]) for pair in query.split("&") if pair]
        self._headers = headers
        self._cookies = dict(pair.split("=", 1) for pair in headers.get("Cookie", "").split("; ") if pair)
        for pointer in route.parameters:
            self._take(pointer)
        self.problems += [f"the query has {name!r}, which nothing asks for" for name, _ in self._pairs]

    def _take(self, pointer: str) -> None:
        parameter = self.document.at(pointer)[1]
        name, place = parameter["name"], parameter["in"]
        media = "content" in parameter
        schema_at = f"{pointer}/content/application~1json/schema" if media else f"{pointer}/schema"
        schema_at, schema = self.document.at(schema_at)
        value = getattr(self, f"_from_{place}")(parameter, schema_at, {} if media else schema)
        if value is NOTHING:
            if parameter.get("required"):
                self.problems.append(f"the {place} lacks {name!r}")
            return
        if media:
            value = json.loads(unquote(value))
        self.arguments.setdefault(place, {})[name] = value
        self.problems += [f"{place} {name}: {one}" for one in self.document.problems(schema_at, value)]

    def _from_path(self, parameter: Any, at: str, schema: Any) -> Any:
        return self._split(self._segments[parameter["name"]], ",", parameter.get("explode", False), at, schema)

    def _from_header(self, parameter: Any, at: str, schema: Any) -> Any:
        text = self._headers.get(parameter["name"])
        if text is None or parameter["name"].lower() == "accept":  # OpenAPI: such a definition is ignored
            return NOTHING
        return self._split(text.replace("%", "%25"), ",", parameter.get("explode", False), at, schema)

    def _from_cookie(self, parameter: Any, at: str, schema: Any) -> Any:
        text = self._cookies.get(parameter["name"])
        return NOTHING if text is None else self.document.typed(at, unquote(text))

    def _from_query(self, parameter: Any, at: str, schema: Any) -> Any:
        name, style = parameter["name"], parameter.get("style", "form")
        explode = parameter.get("explode", style == "form")
        if schema.get("type") == "object" and explode:
            members = {f"{name}[{key}]" if style == "deepObject" else key: key for key in schema["properties"]}
            found = [(members[key], text) for key, text in self._pop(lambda one: one in members)]
            return {key: self._typed(f"{at}/properties/{key}", text) for key, text in found} or NOTHING
        words = [text for _, text in self._pop(lambda one: one == name)]
        if not words:
            return NOTHING
        if schema.get("type") == "array" and explode:
            return [self._typed(f"{at}/items", text) for text in words]
        if len(words) > 1:
            self.problems.append(f"the query has {name!r} {len(words)} times")
        if "content" in parameter:
            return words[0]
        between = {"form": ",", "pipeDelimited": "(?i:%7c)", "spaceDelimited": "%20"}[style]
        return self._split(words[0], between, False, at, schema)

    def _pop(self, wanted: Callable[[str], bool]) -> list[tuple[str, str]]:
        found = [(unquote(name), text) for name, text in self._pairs if wanted(unquote(name))]
        self._pairs = [(name, text) for name, text in self._pairs if not wanted(unquote(name))]
        return found

    def _split(self, text: str, between: str, explode: bool, at: str, schema: Any) -> Any:
        if schema.get("type") == "array":
            return [self._typed(f"{at}/items", word) for word in re.split(between, text)]
        if schema.get("type") == "object":
            words = re.split(between, text)
            pairs = [word.split("=", 1) for word in words] if explode else zip(words[::2], words[1::2], strict=True)
            return {unquote(key): self._typed(f"{at}/properties/{key}", word) for key, word in pairs}
        return self._typed(at, text)

    def _typed(self, pointer: str, text: str) -> Any:
        return self.document.typed(self.document.at(pointer)[0], unquote(text, errors="strict"))

    def read_body(self, pointer: str | None, data: bytes) -> None:
        kind = self._headers.get("Content-Type")
        if pointer is None:
            self.problems += ["there is a body, and the document has none"] if data or kind else []
            return
        body = self.document.at(pointer)[1]
        if not data:
            self.problems += ["there is no body"] if body.get("required") else []
            return
        listed = next((one for one in body["content"] if one in (kind, "*/*")), None)
        if kind is None or listed is None:
            self.problems.append(f"the body is {kind}, not {', '.join(body['content'])}")
            return
        value = self.arguments["body"] = json.loads(data)
        self.problems += [
            f"body {one}" for one in self.document.problems(f"{pointer}/content/{_escaped(listed)}/schema", value)
        ]


# --- the server --------------------------------------------------------------------------------------------------


@dataclass
class Seen:
    """A request as it came, and the answer's status."""

    line: str
    headers: dict[str, str]
    body: bytes
    status: int = 0


class DocumentServer(ThreadingHTTPServer):
    """Serves the operations of a document below `prefix`. `instead`, where it is set, answers in their place."""

    daemon_threads = True

    def __init__(self, root: dict[str, Any], prefix: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.prefix = prefix
        self.document = Document(root)
        self.routes = routes(self.document)
        self.seen: list[Seen] = []
        self.instead: Callable[[BaseHTTPRequestHandler], None] | None = None
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}{self.prefix}"

    def answer(self, method: str, target: str, headers: Any, data: bytes) -> tuple[int, dict[str, Any]]:
        path, _, query = target.partition("?")
        fits = [
            (route, match)
            for route in self.routes
            if path.startswith(self.prefix) and (match := route.pattern.fullmatch(path.removeprefix(self.prefix)))
        ]
        if not fits:
            return 404, {"problem": f"nothing is at {path}"}
        route, match = next((one for one in fits if one[0].method == method), (None, None))
        if route is None or match is None:
            return 405, {"problem": f"{path} has no {method}"}
        reader = Reader(self.document, route, match.groups(), query, headers)
        reader.read_body(route.body, data)
        if reader.problems:
            return 422, {"problems": reader.problems}
        return 200, {"operation": route.name, "arguments": reader.arguments}


class _Handler(BaseHTTPRequestHandler):
    server: DocumentServer
    close_connection = True

    def serve(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append(Seen(self.requestline.removesuffix(" HTTP/1.1"), headers, data))
        if self.server.instead is not None:
            self.server.instead(self)
            return
        status, said = self.server.answer(self.command, self.path, self.headers, data)
        self.server.seen[-1].status = status
        send(self, status, "application/json", json.dumps(said).encode())

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = serve  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


def send(handler: BaseHTTPRequestHandler, status: int, kind: str, data: bytes) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


@contextmanager
def serving(root: dict[str, Any], prefix: str = "") -> Iterator[DocumentServer]:
    server = DocumentServer(root, prefix)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def main() -> None:
    """`python -m tests.document_server FILE [PREFIX]` serves until Ctrl-C."""
    import sys

    with serving(read(Path(sys.argv[1])), *sys.argv[2:]) as server:
        print(server.url, flush=True)
        while True:
            time.sleep(1)


if __name__ == "__main__":
    main()
