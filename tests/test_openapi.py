"""OpenAPI documents as tools: what they accept (jsonschema decides), and what reaches a server, byte for byte."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from toolace_edge.errors import CallError, InputError, ToolError
from toolace_edge.execute import Executor
from toolace_edge.messages import ToolCall
from toolace_edge.schema import check
from toolace_edge.sources import open_sources
from toolace_edge.sources.base import SourceTool, shorten, valid_name
from toolace_edge.sources.openapi import load_openapi
from toolace_edge.sources.openapi_document import read_document
from toolace_edge.sources.openapi_http import send
from toolace_edge.sources.openapi_request import Request
from toolace_edge.sources.openapi_text import plain

DATA = Path(__file__).parent / "data"
DOCUMENTS = {"pets": DATA / "pets.yaml", "tasks": DATA / "tasks.json", "refused": DATA / "refused.yaml"}


@pytest.fixture(autouse=True)
def _needs_yaml(request: pytest.FixtureRequest) -> None:
    pytest.importorskip("yaml")


def tools(document: str, **options: Any) -> dict[str, SourceTool]:
    return {one.tool.name: one for one in load_openapi(DOCUMENTS[document], **options).functions}


class Recorder(ThreadingHTTPServer):
    """Answers `/...` as `answers` says, and keeps what it was sent: request line, chosen headers, body."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.slow: threading.Event | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Recorder
    close_connection = True

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append((self.requestline, {name.lower(): value for name, value in self.headers.items()}, body))
        status, headers, data = self.server.answers.get(self.path, (200, {"Content-Type": "application/json"}, b"{}"))
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.server.slow is not None:
            for i in range(len(data)):
                if self.server.slow.wait(0.05):
                    return
                self.wfile.write(data[i : i + 1])
        else:
            self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Recorder]:
    recorder = Recorder()
    thread = threading.Thread(target=recorder.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield recorder
    if recorder.slow is not None:
        recorder.slow.set()
    recorder.shutdown()
    recorder.server_close()
    thread.join()


# --- schemas -----------------------------------------------------------------------------------------------------

LIST_PETS = {
    "type": "object",
    "properties": {
        "X-Trace": {"type": "string", "maxLength": 20},
        "tags": {"type": "array", "items": {"type": "string"}},
        "ids": {"type": "array", "items": {"type": "integer"}},
        "kinds": {"type": "array", "items": {"type": "string"}},
        "filter": {
            "type": "object",
            "properties": {"color": {"type": "string"}, "old": {"type": "boolean"}},
            "additionalProperties": False,
        },
        "page": {
            "type": "object",
            "properties": {"limit": {"type": "integer", "minimum": 1, "maximum": 100}, "offset": {"type": "integer"}},
            "additionalProperties": False,
        },
        "where": {
            "type": "object",
            "properties": {"near": {"type": "string"}},
            "required": ["near"],
            "additionalProperties": False,
        },
        "session": {"type": "string"},
    },
    "additionalProperties": False,
}
ADD_PET = {
    "type": "object",
    "properties": {
        "X-Trace": {"type": "string", "maxLength": 20},
        "name": {"type": "string", "minLength": 1},
        "age": {"type": "integer", "exclusiveMinimum": 0, "maximum": 99},
        "owner": {"type": ["string", "null"]},
        "answer": {"enum": ["on", "off"]},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
TASK = {
    "type": "object",
    "required": ["title"],
    "properties": {
        "title": {"type": "string", "maxLength": 80},
        "state": {"const": "open"},
        "due": {"anyOf": [{"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}, {"type": "null"}]},
        "place": {"type": "array", "prefixItems": [{"type": "number"}] * 2, "items": False, "minItems": 2},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "at": {"type": ["integer", "null"], "exclusiveMinimum": 0, "maximum": 10},
    },
    "additionalProperties": False,
}
BATCH = {
    "type": "object",
    "properties": {"body": {"type": "array", "maxItems": 3, "items": TASK}},
    "required": ["body"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("document", "tool", "wanted", "samples"),
    [
        (
            "pets",
            "list_pets",
            LIST_PETS,
            [
                {},
                {"tags": ["a"], "ids": [1], "page": {"limit": 100}, "where": {"near": "x"}},
                {"ids": ["1"]},
                {"page": {"limit": 0}},
                {"page": {"limit": 101}},
                {"where": {}},
                {"filter": {"color": "red", "size": 1}},
                {"X-Trace": "x" * 21},
                {"Accept": "text/html"},
                {"session": None},
            ],
        ),
        (
            "pets",
            "addPet",
            ADD_PET,
            [
                {"name": "a", "age": 1},
                {"name": "a", "age": 0},
                {"name": "a", "age": 99, "owner": None, "answer": "on"},
                {"name": "a", "age": 100},
                {"name": "", "age": 1},
                {"name": "a", "age": 1, "answer": True},
                {"name": "a", "age": 1, "id": 3},
                {"name": "a", "age": 1, "created": "2026-01-01T00:00:00Z"},
                {"age": 1},
            ],
        ),
        (
            "tasks",
            "batch",
            BATCH,
            [
                {"body": []},
                {"body": [{"title": "a", "state": "open", "due": None, "place": [1, 2.5], "labels": {"a": "b"}}]},
                {"body": [{"title": "a", "state": "done"}]},
                {"body": [{"title": "a", "due": "tomorrow"}]},
                {"body": [{"title": "a", "due": "2026-11-21", "at": None}]},
                {"body": [{"title": "a", "at": 11}]},
                {"body": [{"title": "a", "at": 0}]},
                {"body": [{"title": "a", "place": [1]}]},
                {"body": [{"title": "a", "place": [1, 2, 3]}]},
                {"body": [{"title": "a", "labels": {"a": 1}}]},
                {"body": [{"title": "a"}] * 4},
                {},
            ],
        ),
    ],
)
def test_arguments_are_what_the_document_allows(
    document: str, tool: str, wanted: Mapping[str, Any], samples: list[Any]
) -> None:
    """`wanted` is the document's meaning in 2020-12, written by hand; jsonschema judges both it and our schema."""
    schema = tools(document)[tool].tool.parameters
    verdicts = [jsonschema.Draft202012Validator(wanted).is_valid(one) for one in samples]
    assert len(set(verdicts)) == 2
    assert [jsonschema.Draft202012Validator(dict(schema)).is_valid(one) for one in samples] == verdicts
    assert [not check(schema, one) for one in samples] == verdicts


def test_names_and_descriptions() -> None:
    assert {name: one.tool.description for name, one in tools("pets").items()} == {
        "list_pets": "List the pets.",
        "addPet": "Add a pet.",
        "get_pets_id_notes_ids": "GET /pets/{id}/notes/{ids}",
        "putNote": "PUT /pets/{id}/notes/{ids}",
    }
    assert tools("tasks")["createTask"].tool.description == "Create a task. With all its parts."
    assert tools("pets")["addPet"].tool.parameters["properties"]["name"]["description"] == "(format: pet-name)"


@pytest.mark.parametrize(
    ("text", "taken", "name"),
    [
        ("list pets!", (), "list_pets"),
        ("", (), "tool"),
        ("a" * 70, (), "a" * 64),
        ("a" * 70, ("a" * 64,), "a" * 62 + "_2"),
        ("a", ("a", "a_2"), "a_3"),
        ("日本", (), "tool"),
    ],
)
def test_names_are_made_valid_and_unique(text: str, taken: tuple[str, ...], name: str) -> None:
    assert valid_name(text, taken) == name


def test_long_descriptions_are_cut_between_words() -> None:
    assert shorten("one two,\n three", 10) == "one two…"
    assert shorten("one\ttwo", 10) == "one two"


def test_what_cannot_be_called_as_written_is_refused_with_its_place() -> None:
    loaded = load_openapi(DOCUMENTS["refused"])
    assert [one.tool.name for one in loaded.functions] == ["fine"]
    assert [str(one).split(": ")[0] for one in loaded.problems] == [
        "paths./form.post.requestBody.content",
        "paths./matrix/{id}.get.parameters.id.style",
        "paths./unique.get.parameters.a.schema.uniqueItems",
        "paths./recursive.post.requestBody.schema.$ref.properties.next.$ref",
        "paths./outside.get.parameters[0].$ref",
        "paths./missing/{id}.get.parameters",
        "paths./deep.get.parameters.a.schema",
        "paths./host.get.parameters.Host.name",
        "paths./digest.get.security",
    ]


@pytest.mark.parametrize(
    ("patterns", "names"),
    [(["list*"], ["list_pets"]), (["GET *", "add*"], ["list_pets", "addPet", "get_pets_id_notes_ids"]), (["x"], [])],
)
def test_only_picks_by_name_or_by_method_and_path(patterns: list[str], names: list[str]) -> None:
    assert list(tools("pets", only=patterns)) == names


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.yaml", "openapi: 3.0.0\npaths: {a: [}", r"a.yaml is not YAML: .* at line 2, column 13"),
        ("a.json", '{"openapi": "3.0.0",}', r"a.json is not JSON: .* at line 1"),
        ("a.yaml", "swagger: '2.0'", "is Swagger 2.0"),
        ("a.yaml", "openapi: 3.2.0", "says `openapi: 3.2.0`"),
        ("a.yaml", "- 1", "is list, not an object"),
        ("a.yaml", "openapi: 3.0.0\nopenapi: 3.0.0", "gives 'openapi' twice in one mapping, line 1"),
        ("a.yaml", "openapi: 3.0.0\nx: !!python/object/apply:os.getcwd []", "is not YAML: could not determine"),
        ("a.yaml", "openapi: 3.0.0\nx: &x [*x]", "holds more than .* levels, its aliases written out"),
        (
            "a.json",
            '{"openapi": "3.0.0", "paths": {"/a": {"get": {}}}}',
            "names no server with a full address for get_a",
        ),
        (
            "a.json",
            '{"openapi": "3.0.0", "servers": [{"url": "ftp://x"}], "paths": {"/a": {"get": {}}}}',
            "is not an address of http",
        ),
        (
            "a.json",
            '{"openapi": "3.0.0", "servers": [{"url": "https://u:p@x"}], "paths": {"/a": {"get": {}}}}',
            "holds a user or a password",
        ),
    ],
)
def test_a_file_that_is_no_such_document_is_refused(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(ToolError, match=words) as caught:
        load_openapi(tmp_path / name)
    assert "p@x" not in str(caught.value)


def test_aliases_that_blow_up_are_refused(tmp_path: Path) -> None:
    lines = ["openapi: 3.0.0", "a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    (tmp_path / "a.yaml").write_text("\n".join(lines), "utf-8")
    with pytest.raises(ToolError, match="holds more than 3,000,000 values"):
        read_document(tmp_path / "a.yaml")


def test_yaml_is_read_as_yaml_1_2_reads_it(tmp_path: Path) -> None:
    text = "openapi: 3.0.0\nx: [no, 010, 0o10, 2026-01-01, 1e3, ~, 12:30]\n200: ok"
    (tmp_path / "a.yaml").write_text(text, "utf-8")
    root = read_document(tmp_path / "a.yaml").root
    assert root["x"] == ["no", 10, 8, "2026-01-01", 1000.0, None, "12:30"]
    assert root["200"] == "ok"


# --- what is sent ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "tool", "arguments", "line", "headers", "body"),
    [
        (
            "pets",
            "list_pets",
            {"tags": ["a b", "c&d"], "ids": [1, 2], "kinds": ["x", "y z"], "session": "s;1", "X-Trace": "t-1"},
            "GET /v1/pets?tags=a%20b&tags=c%26d&ids=1,2&kinds=x%7Cy%20z HTTP/1.1",
            {"x-trace": "t-1", "cookie": "session=s%3B1", "x-pet-key": "K-secret"},
            b"",
        ),
        (
            "pets",
            "list_pets",
            {
                "filter": {"color": "é", "old": True},
                "page": {"limit": 5},
                "where": {"near": "/a?"},
                "tags": [],
            },
            (
                "GET /v1/pets?filter%5Bcolor%5D=%C3%A9&filter%5Bold%5D=true&limit=5"
                "&where=%7B%22near%22%3A%22%2Fa%3F%22%7D HTTP/1.1"
            ),
            {"x-pet-key": "K-secret"},
            b"",
        ),
        (
            "pets",
            "addPet",
            {"name": "Zoë", "age": 3, "owner": None},
            "POST /v1/pets HTTP/1.1",
            {"content-type": "application/json"},
            '{"name":"Zoë","age":3,"owner":null}'.encode(),
        ),
        (
            "pets",
            "get_pets_id_notes_ids",
            {"id": "a/b c", "ids": ["1,2", "ü"], "query_id": 7},
            "GET /v1/pets/a%2Fb%20c/notes/1%2C2,%C3%BC?id=7 HTTP/1.1",
            {},
            b"",
        ),
        (
            "pets",
            "putNote",
            {"id": "1", "ids": "2", "body": {"text": "t"}},
            "PUT /v1/pets/1/notes/2 HTTP/1.1",
            {"content-type": "application/vnd.note+json; charset=utf-8"},
            b'{"text":"t"}',
        ),
        (
            "tasks",
            "createTask",
            {},
            "POST /v1/tasks HTTP/1.1",
            {"authorization": "Basic dTpQLXNlY3JldA=="},
            b"",
        ),
        ("tasks", "delete_tasks", {"older": None}, "DELETE /v1/tasks HTTP/1.1", {}, b""),
        (
            "tasks",
            "batch",
            {"body": [{"title": "a"}]},
            "PATCH /v1/tasks/batch HTTP/1.1",
            {"content-type": "application/json", "authorization": "Bearer T-secret"},
            b'[{"title":"a"}]',
        ),
    ],
)
def test_requests_are_written_as_the_document_says(
    server: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    document: str,
    tool: str,
    arguments: dict[str, Any],
    line: str,
    headers: dict[str, str],
    body: bytes,
) -> None:
    monkeypatch.setenv("TOOLACE_EDGE_PETKEY_KEY", "K-secret")
    monkeypatch.setenv("TOOLACE_EDGE_TOKEN_TOKEN", "T-secret")
    monkeypatch.setenv("TOOLACE_EDGE_BASIC_USER", "u")
    monkeypatch.setenv("TOOLACE_EDGE_BASIC_PASSWORD", "P-secret")
    chosen = tools(document, base_url=f"{server.url}/v1")[tool]
    result = Executor([chosen]).run(ToolCall(tool, arguments))
    assert (result.content, result.error) == ("{}", False)
    ((sent_line, sent_headers, sent_body),) = server.seen
    assert (sent_line, sent_body) == (line, body)
    assert {name: sent_headers.get(name) for name in headers} == headers
    if tool == "delete_tasks":  # the alternative without credentials comes first, but a token is there
        assert sent_headers["authorization"] == "Bearer T-secret"


def test_all_credentials_of_an_alternative_go_together(server: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BASIC_USER", "BASIC_PASSWORD"):
        monkeypatch.delenv(f"TOOLACE_EDGE_{name}", raising=False)
    monkeypatch.setenv("TOOLACE_EDGE_QUERY_KEY", "a b")
    create = tools("tasks", base_url=server.url)["createTask"]
    with pytest.raises(
        CallError, match="set TOOLACE_EDGE_BASIC_USER and TOOLACE_EDGE_BASIC_PASSWORD or TOOLACE_EDGE_Q"
    ):
        create({"body": {"title": "a"}})
    monkeypatch.setenv("TOOLACE_EDGE_COOKIE_KEY", "c1")
    create({"body": {"title": "a"}})
    ((line, headers, body),) = server.seen
    assert (line, headers["cookie"], body) == ("POST /tasks?api%20key=a%20b HTTP/1.1", "sid=c1", b'{"title":"a"}')


@pytest.mark.parametrize("value", ["..", ".", "", "../admin", "a/../../b", "..\\b"])
def test_a_path_argument_never_leaves_its_place(server: Recorder, value: str) -> None:
    get = tools("pets", base_url=server.url)["get_pets_id_notes_ids"]
    result = Executor([get]).run(ToolCall(get.tool.name, {"id": value, "ids": ["x"]}))
    assert result.error
    assert "cannot be a part of a path" in result.content
    assert server.seen == []


def test_a_header_argument_cannot_add_headers(server: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLACE_EDGE_PETKEY_KEY", "K-secret")
    with pytest.raises(CallError, match="X-Trace holds a character that a header cannot carry"):
        tools("pets", base_url=server.url)["list_pets"]({"X-Trace": "a\r\nX-Admin: 1"})
    assert server.seen == []


def test_a_value_with_the_character_between_values_is_refused_and_not_taken_apart(
    server: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOOLACE_EDGE_PETKEY_KEY", "K-secret")
    with pytest.raises(CallError, match=r"kinds holds a '\|', which stands between its values"):
        tools("pets", base_url=server.url)["list_pets"]({"kinds": ["x", "y|z"]})
    assert server.seen == []


# --- what comes back ---------------------------------------------------------------------------------------------


def fetch(server: Recorder, path: str = "/x", timeout_s: float = 10, method: str = "GET", **options: Any) -> str:
    return send(Request(method, server.url + path, {"Authorization": "Bearer T"}, None), timeout_s=timeout_s, **options)


@pytest.mark.parametrize(
    ("status", "headers", "data", "text"),
    [
        (200, {"Content-Type": "text/plain; charset=iso-8859-1"}, b"caf\xe9", "café"),
        (200, {"Content-Type": "application/json"}, '"é"'.encode(), '"é"'),
        (200, {"Content-Type": "text/plain; charset=nonsense"}, "é".encode(), "é"),
        (200, {"Content-Type": "text/plain; charset=hex"}, b"6162", "6162"),
        (200, {"Content-Type": "text/plain"}, b"\xff", "�"),
        (200, {"Content-Type": "image/png"}, b"\x89PNG", "[image/png, 4 bytes]"),
        (200, {"Content-Type": "application/json", "Content-Encoding": "gzip"}, b"xx", "[application/json packed as "),
        (204, {}, b"", "done (HTTP 204)"),
        (200, {}, b"plain", "plain"),
    ],
)
def test_an_answer_is_text(server: Recorder, status: int, headers: dict[str, str], data: bytes, text: str) -> None:
    server.answers["/x"] = (status, headers, data)
    assert fetch(server).startswith(text)


def test_an_answer_that_is_too_long_is_cut_and_says_so(server: Recorder) -> None:
    server.answers["/x"] = (200, {"Content-Type": "text/plain"}, b"x" * 5000)
    assert fetch(server, max_bytes=1000) == "x" * 1000 + "\n[cut: more than 1000 bytes]"
    assert fetch(server, max_bytes=5000) == "x" * 5000


def test_an_error_of_the_server_is_an_error_that_the_model_can_read(
    server: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOOLACE_EDGE_PETKEY_KEY", "K-secret/1")
    said = b'{"error": "no pet for K-secret/1 or K-secret%2F1"}'
    server.answers["/pets"] = (422, {"Content-Type": "application/json"}, said)
    add = tools("pets", base_url=server.url)["addPet"]
    result = Executor([add]).run(ToolCall("addPet", {"name": "a", "age": 1}))
    assert result.error
    words = 'Error: HTTP 422 Unprocessable Entity: {"error": "no pet for [credential] or [credential]"}'
    assert result.content.replace("Content", "Entity") == words


def test_a_result_does_not_give_the_credential_back(server: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLACE_EDGE_BASIC_USER", "u")
    monkeypatch.setenv("TOOLACE_EDGE_BASIC_PASSWORD", "P-secret")
    server.answers["/tasks"] = (200, {"Content-Type": "text/plain"}, b"you: Basic dTpQLXNlY3JldA== (P-secret)")
    assert tools("tasks", base_url=server.url)["createTask"]({}) == "you: Basic [credential] ([credential])"


def test_a_credential_that_http_cannot_carry_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLACE_EDGE_TOKEN_TOKEN", "abc\ndef")
    with pytest.raises(CallError, match=r"^TOOLACE_EDGE_TOKEN_TOKEN holds a character that HTTP cannot carry$"):
        tools("tasks", base_url="http://127.0.0.1:9")["batch"]({"body": []})


def test_credentials_do_not_go_to_a_documents_server_without_https(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = DOCUMENTS["tasks"].read_text("utf-8").replace("https://tasks.example", "http://tasks.invalid")
    (tmp_path / "plain.json").write_text(text, "utf-8")
    monkeypatch.setenv("TOOLACE_EDGE_TOKEN_TOKEN", "T-secret")
    batch = next(one for one in load_openapi(tmp_path / "plain.json").functions if one.tool.name == "batch")
    with pytest.raises(CallError, match=r"credentials are not sent to tasks.invalid without https"):
        batch({"body": []})


def test_redirects_stay_on_their_host(server: Recorder) -> None:
    server.answers["/x"] = (302, {"Location": "/y?a=1#part"}, b"")
    server.answers["/y?a=1"] = (200, {"Content-Type": "text/plain"}, b"there")
    assert fetch(server) == "there"
    other = Recorder()
    try:
        server.answers["/x"] = (307, {"Location": f"{other.url}/steal"}, b"")
        with pytest.raises(CallError, match=r"redirects to another one, http://127.0.0.1; that is not followed"):
            fetch(server)
        server.answers["/x"] = (302, {"Location": "file:///etc/passwd"}, b"")
        with pytest.raises(CallError, match="redirects to another one"):
            fetch(server)
        assert other.seen == []
    finally:
        other.server_close()
    server.answers["/x"] = (302, {"Location": "/x"}, b"")
    with pytest.raises(CallError, match="redirects more than 5 times"):
        fetch(server)
    with pytest.raises(CallError, match="HTTP 302: the server redirects a POST"):
        fetch(server, method="POST")


def test_a_server_that_drips_is_left_at_the_time_limit(server: Recorder) -> None:
    server.slow = threading.Event()
    server.answers["/x"] = (200, {"Content-Type": "text/plain"}, b"x" * 2000)
    begun = time.monotonic()
    with pytest.raises(CallError, match=r"did not answer within 0.5 s"):
        fetch(server, timeout_s=0.5)
    assert time.monotonic() - begun < 20  # the bytes would take 100 s


def test_nothing_is_sent_once_the_time_is_over(server: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    find = socket.getaddrinfo

    def slow(*arguments: Any, **options: Any) -> Any:
        time.sleep(0.3)
        return find(*arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with pytest.raises(CallError, match=r"did not answer within 0.1 s"):
        fetch(server, method="POST", timeout_s=0.1)
    assert server.seen == []


def test_a_credential_is_hidden_before_an_error_is_cut(server: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLACE_EDGE_PETKEY_KEY", "K-secret-that-is-cut")
    server.answers["/pets"] = (400, {"Content-Type": "text/plain"}, b"x" * 1995 + b"K-secret-that-is-cut")
    result = Executor([tools("pets", base_url=server.url)["addPet"]]).run(ToolCall("addPet", {"name": "a", "age": 1}))
    assert result.content.endswith("x" * 1995 + "[cred")


def test_an_answer_that_breaks_off_is_no_answer(server: Recorder) -> None:
    server.answers["/x"] = (200, {"Content-Type": "text/plain", "Content-Length": "100"}, b"half")
    with pytest.raises(CallError, match=r"cannot be reached or understood: .*breaks off"):
        fetch(server)


def test_a_server_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(CallError, match=r"^127.0.0.1:9 cannot be reached or understood: "):
        send(Request("GET", "http://127.0.0.1:9/x", {}, None), timeout_s=5)


# --- several sources ---------------------------------------------------------------------------------------------


def test_a_variable_never_goes_to_two_hosts(tmp_path: Path) -> None:
    text = DOCUMENTS["tasks"].read_text("utf-8").replace("tasks.example", "other.example")
    (tmp_path / "other.json").write_text(text.replace("createTask", "create").replace('"batch"', '"many"'), "utf-8")
    files = [DOCUMENTS["tasks"], tmp_path / "other.json"]
    with (
        pytest.raises(InputError, match="would send TOOLACE_EDGE_BASIC_USER to different hosts"),
        open_sources(openapi=files),
    ):
        pass


def test_two_tools_of_one_name_are_refused_with_both_places() -> None:
    with (
        pytest.raises(ToolError, match=r"tasks.json and .*tasks.json both have a tool createTask"),
        open_sources(openapi=[DOCUMENTS["tasks"]] * 2),
    ):
        pass


def test_a_pattern_that_fits_nothing_is_a_mistake() -> None:
    with (
        pytest.raises(InputError, match="No tool fits --only lst"),
        open_sources(openapi=[DOCUMENTS["tasks"]], only=["lst*"]),
    ):
        pass


def test_one_base_url_is_for_one_document() -> None:
    with pytest.raises(InputError, match="for one OpenAPI document"), open_sources(base_url="https://x"):
        pass


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('<p>Set of <a href="https://a.example/b_(c)">pairs</a>.</p><p>Or <code>x</code>s</p>', "Set of pairs. Or xs"),
        ("See [the docs](https://a.example/b), ![x](y.png) and [1] (one)", "See the docs, x and [1] (one)"),
        ('[a](https://b.example "title")<br/>b<BR>c', "a b c"),
        ("at <host>:<port>, a < b and c > d, <pair of> <idle>", "at <host>:<port>, a < b and c > d, <pair of> <idle>"),
        ("R&amp;D &lt;p&gt;", "R&D <p>"),
        ("one two, three", "one two…"),
        (7, ""),
    ],
)
def test_a_description_is_the_words_alone(text: object, words: str) -> None:
    assert plain(text, 10 if text == "one two, three" else 90) == words
