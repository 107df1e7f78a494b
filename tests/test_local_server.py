"""A server made from an OpenAPI document (document_server.py) understands what the tools of that document send.

`airflow` is the published document of Apache Airflow, unchanged (data/README.md); `pets` and `tasks` are ours, for the
headers, cookies and styles of writing that it does not use.
"""

from __future__ import annotations

import gzip
import http.client
import json
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from toolace_edge.cli import App, cli
from toolace_edge.errors import CallError
from toolace_edge.execute import Executor
from toolace_edge.messages import ToolCall, ToolResult
from toolace_edge.registry import Model, open_model
from toolace_edge.sources.base import SourceTool
from toolace_edge.sources.openapi import load_openapi

from .schema_sampler import sample
from .test_evaluate import scripted

pytest.importorskip("yaml")
from .document_server import DocumentServer, read, send, serving

DATA = Path(__file__).parent / "data"
FILES = {"airflow": DATA / "airflow.yaml.gz", "pets": DATA / "pets.yaml", "tasks": DATA / "tasks.json"}
PREFIX = "/api/v1"
CREDENTIALS = {
    "TOOLACE_EDGE_PETKEY_KEY": "k",
    "TOOLACE_EDGE_TOKEN_TOKEN": "t",
    "TOOLACE_EDGE_BASIC_USER": "u",
    "TOOLACE_EDGE_BASIC_PASSWORD": "p",
}
NO_FORM = ("cannot be a part of a path", "a header cannot carry", "stands between its values")
MUCH_S = 120


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each as the file that a user has."""
    found = dict(FILES)
    found["airflow"] = tmp_path_factory.mktemp("documents") / "airflow.yaml"
    found["airflow"].write_bytes(gzip.decompress(FILES["airflow"].read_bytes()))
    return found


@pytest.fixture(scope="module")
def roots(documents: dict[str, Path]) -> dict[str, dict[str, Any]]:
    return {name: read(file) for name, file in documents.items()}


@pytest.fixture(scope="module")
def _airflow(roots: dict[str, dict[str, Any]]) -> Iterator[DocumentServer]:
    with serving(roots["airflow"], PREFIX) as server:
        yield server


@pytest.fixture
def airflow(_airflow: DocumentServer) -> DocumentServer:
    _airflow.seen.clear()
    _airflow.instead = None
    return _airflow


@pytest.fixture(scope="module")
def tools(documents: dict[str, Path], _airflow: DocumentServer) -> dict[str, SourceTool]:
    """Those of the Airflow document: it takes a while to read."""
    return {one.tool.name: one for one in load_openapi(documents["airflow"], base_url=_airflow.url).functions}


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


def called(tool: SourceTool, **arguments: Any) -> ToolResult:
    return Executor([tool], timeout_s=MUCH_S).run(ToolCall(tool.tool.name, arguments))


def understood(result: str) -> dict[str, Any]:
    """What the server took for arguments, without their places; a body's members stand among the others."""
    places: dict[str, Any] = json.loads(result)["arguments"]
    body = places.pop("body", {})
    flat = {name: value for place in places.values() for name, value in place.items()}
    return {**flat, **(body if isinstance(body, dict) and not flat.keys() & body.keys() else {"body": body})}


# --- by hand -----------------------------------------------------------------------------------------------------

RUN = "manual__2026-11-21T09:00:00+00:00"
RUN_IN_PATH = "manual__2026-11-21T09%3A00%3A00%2B00%3A00"


@pytest.mark.parametrize(
    ("tool", "arguments", "line", "body"),
    [
        ("get_health", {}, "GET /health", None),
        ("get_dag", {"dag_id": "etl/daily 1"}, "GET /dags/etl%2Fdaily%201", None),
        (
            "get_dags",
            {"limit": 5, "order_by": "-dag_id", "tags": ["prod", "a&b"], "only_active": False, "fields": ["dag_id"]},
            "GET /dags?limit=5&order_by=-dag_id&tags=prod&tags=a%26b&only_active=false&fields=dag_id",
            None,
        ),
        (
            "get_dag_runs",
            {"dag_id": "etl", "state": ["failed", "queued"], "start_date_gte": "2026-11-21T00:00:00Z"},
            "GET /dags/etl/dagRuns?start_date_gte=2026-11-21T00%3A00%3A00Z&state=failed&state=queued",
            None,
        ),
        (
            "get_task_instances",
            {"dag_id": "etl", "dag_run_id": RUN, "duration_gte": 1.5, "pool": ["default_pool"]},
            f"GET /dags/etl/dagRuns/{RUN_IN_PATH}/taskInstances?duration_gte=1.5&pool=default_pool",
            None,
        ),
        (
            "get_log",
            {"dag_id": "etl", "dag_run_id": "r", "task_id": "load", "task_try_number": 2, "full_content": True},
            "GET /dags/etl/dagRuns/r/taskInstances/load/logs/2?full_content=true",
            None,
        ),
        ("patch_dag", {"dag_id": "etl", "is_paused": True}, "PATCH /dags/etl", b'{"is_paused":true}'),
        (
            "patch_pool",
            {"pool_name": "big", "update_mask": ["slots", "description"], "slots": 64, "description": "über"},
            "PATCH /pools/big?update_mask=slots,description",
            '{"slots":64,"description":"über"}'.encode(),
        ),
        (
            "post_dag_run",
            {"dag_id": "etl", "conf": {"days": [1, 2], "dry": None}, "note": "by hand"},
            "POST /dags/etl/dagRuns",
            b'{"conf":{"days":[1,2],"dry":null},"note":"by hand"}',
        ),
        (
            "update_dag_run_state",
            {"dag_id": "etl", "dag_run_id": RUN, "state": "failed"},
            f"PATCH /dags/etl/dagRuns/{RUN_IN_PATH}",
            b'{"state":"failed"}',
        ),
        (
            "get_dag_runs_batch",
            {"dag_ids": ["a", "b"], "states": ["running"], "page_limit": 2},
            "POST /dags/~/dagRuns/list",
            b'{"page_limit":2,"dag_ids":["a","b"],"states":["running"]}',
        ),
        (
            "post_user",
            {"username": "ada", "email": "ada@example.org", "roles": [{"name": "Viewer"}], "password": "x"},
            "POST /users",
            b'{"username":"ada","email":"ada@example.org","roles":[{"name":"Viewer"}],"password":"x"}',
        ),
        ("delete_variable", {"variable_key": "api.key"}, "DELETE /variables/api.key", None),
    ],
)
def test_calls_reach_a_server_of_a_real_document_as_it_says(
    tools: dict[str, SourceTool],
    airflow: DocumentServer,
    tool: str,
    arguments: dict[str, Any],
    line: str,
    body: bytes | None,
) -> None:
    result = called(tools[tool], **arguments)
    assert not result.error, result.content
    (seen,) = airflow.seen
    method, target = line.split()
    assert (seen.line, seen.body, seen.status) == (f"{method} {PREFIX}{target}", body or b"", 200)
    assert seen.headers.get("content-type") == ("application/json" if body else None)
    assert json.loads(result.content)["operation"] == tool
    assert understood(result.content) == arguments


@pytest.mark.parametrize(
    ("document", "tool", "arguments"),
    [
        ("pets", "list_pets", {"X-Trace": "t-1", "session": "s;1", "ids": [1, 2], "kinds": ["x", "y z"]}),
        ("pets", "list_pets", {"filter": {"color": "é", "old": True}, "page": {"limit": 5}, "where": {"near": "/a?"}}),
        ("pets", "get_pets_id_notes_ids", {"id": "a/b c", "ids": ["1,2", "ü"]}),
        ("pets", "addPet", {"X-Trace": "t-2", "name": "Zoë", "age": 3, "owner": None}),
        ("tasks", "batch", {"body": [{"title": "a", "due": None, "place": [1, 2.5]}]}),
    ],
)
def test_headers_cookies_and_styles_are_understood(
    documents: dict[str, Path], roots: dict[str, Any], document: str, tool: str, arguments: dict[str, Any]
) -> None:
    with serving(roots[document]) as server:
        (found,) = load_openapi(documents[document], base_url=server.url, only=[tool]).functions
        result = called(found, **arguments)
        assert not result.error, result.content
        assert understood(result.content) == arguments
        places = json.loads(result.content)["arguments"]
        assert places.get("header", {}) == {name: arguments[name] for name in arguments if name == "X-Trace"}


@pytest.mark.parametrize("document", ["pets", "tasks"])
def test_whatever_obeys_a_tools_schema_is_taken_by_every_operation(
    documents: dict[str, Path], roots: dict[str, Any], document: str
) -> None:
    with serving(roots[document]) as server:
        _check_operations(load_openapi(documents[document], base_url=server.url).functions, server)


def test_every_operation_of_a_real_document_takes_whatever_obeys_its_schema(
    tools: dict[str, SourceTool], airflow: DocumentServer
) -> None:
    assert len(tools) == 89
    _check_operations(tools.values(), airflow)


def _check_operations(functions: Collection[SourceTool], server: DocumentServer) -> None:
    """Random arguments; those that HTTP has no form for (empty path segments) are refused before, drawn anew."""
    assert len(functions) == len(server.routes)
    for function in functions:
        arguments, said = _accepted(function, random.Random(function.tool.name))
        assert server.seen[-1].status == 200
        assert _written(understood(said)) == _written(arguments), server.seen[-1].line


def _accepted(function: SourceTool, rng: random.Random) -> tuple[Mapping[str, Any], str]:
    for _ in range(50):
        arguments = sample(dict(function.tool.parameters), rng)
        try:
            return arguments, function(arguments)
        except CallError as error:
            if not any(words in str(error) for words in NO_FORM):
                raise
    raise AssertionError(f"{function.tool.name} took none of 50")


def _written(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is not written (an empty list in a query), the spaces that a header loses, and made-up prefixes."""
    found = {}
    for name, value in arguments.items():
        if name == "body" and isinstance(value, dict):
            found.update(_written(value))
        elif value not in (None, [], {}):
            found[name.removeprefix("query_")] = value.strip() if name == "X-Trace" else value
    return found


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "words"),
    [
        ("GET", "/nothing", None, 404, "nothing is at"),
        ("PUT", "/dags/etl", None, 405, "has no PUT"),
        ("GET", "/dags?limit=many", None, 422, "'many' is not of type 'integer'"),
        ("GET", "/dags?colour=red", None, 422, "'colour', which nothing asks for"),
        ("PATCH", "/dags/etl/dagRuns/r", b'{"state":"lost"}', 422, "'lost' is not one of"),
        ("PATCH", "/dags/etl", None, 422, "there is no body"),
        ("GET", "/dags/etl", b"{}", 422, "the document has none"),
        ("GET", "/dagStats", None, 422, "lacks 'dag_ids'"),
    ],
)
def test_that_server_takes_nothing_else(
    airflow: DocumentServer, method: str, target: str, body: bytes | None, status: int, words: str
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", airflow.server_port, timeout=MUCH_S)
    connection.request(method, PREFIX + target, body, {"Content-Type": "application/json"} if body else {})
    response = connection.getresponse()
    assert (response.status, words in response.read().decode()) == (status, True)
    connection.close()


# --- from the command line ---------------------------------------------------------------------------------------


def run(*args: str, model: Callable[[], Model]) -> Result:
    return CliRunner().invoke(cli, ["run", *args, "--execute", "--yes"], obj=App(lambda *_, **__: model()))


PAUSE = '<|call|>{"name":"patch_dag","arguments":{"dag_id":"etl_daily","is_paused":true}}<|end|>'


def test_run_reaches_the_server(documents: dict[str, Path], airflow: DocumentServer) -> None:
    flags = ("--openapi", str(documents["airflow"]), "--base-url", airflow.url, "--only", "*_dag")
    result = run("pause etl_daily", *flags, model=lambda: scripted(PAUSE))
    call, said = result.stdout.splitlines()
    assert (result.exit_code, call) == (0, 'patch_dag(dag_id="etl_daily", is_paused=true)')
    assert understood(said) == {"dag_id": "etl_daily", "is_paused": True}
    (seen,) = airflow.seen
    assert (seen.line, seen.body) == ("PATCH /api/v1/dags/etl_daily", b'{"is_paused":true}')


def test_run_says_what_the_server_refused_and_fails(documents: dict[str, Path], airflow: DocumentServer) -> None:
    airflow.instead = lambda handler: send(handler, 404, "application/json", b'{"title":"DAG not found"}')
    flags = ("--openapi", str(documents["airflow"]), "--base-url", airflow.url, "--only", "*_dag")
    result = run("pause etl_daily", *flags, model=lambda: scripted(PAUSE))
    assert (result.exit_code, result.stdout) == (1, 'patch_dag(dag_id="etl_daily", is_paused=true)\n')
    assert result.stderr == 'Error: HTTP 404 Not Found: {"title":"DAG not found"}\n'


@pytest.mark.slow
@pytest.mark.parametrize("request_", ["show me the variable api_url", "delete the pool big_jobs", "pause the dag etl"])
def test_what_the_bundled_model_calls_is_what_the_server_gets(
    documents: dict[str, Path], airflow: DocumentServer, request_: str
) -> None:
    """Whether the call is the right one is another question: here it arrives as it was made."""
    flags = ["--openapi", str(documents["airflow"]), "--base-url", airflow.url, "--tool-choice", "required", "--json"]
    for name in ("get_variable", "delete_pool", "patch_dag"):
        flags += ["--only", name]
    result = run(request_, *flags, model=open_model)
    assert result.exit_code == 0, result.output
    (step,) = json.loads(result.stdout)["steps"]
    assert len(airflow.seen) == len(step["calls"]) >= 1
    for call, outcome in zip(step["calls"], step["results"], strict=True):
        assert json.loads(outcome["content"])["operation"] == call["name"]
        assert _written(understood(outcome["content"])) == _written(call["arguments"])


# --- what goes wrong at the server -------------------------------------------------------------------------------


def _hang(handler: BaseHTTPRequestHandler) -> None:
    server = handler.server
    assert isinstance(server, DocumentServer)
    server.over.wait(MUCH_S)


def _huge(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(50 * 2**20))
    handler.end_headers()
    try:
        for _ in range(50):
            handler.wfile.write(b"7" * 2**20)
    except OSError:  # the client has read enough
        pass


def _answer(status: int, kind: str, data: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    return lambda handler: send(handler, status, kind, data)


@pytest.mark.parametrize(
    ("instead", "is_error", "content"),
    [
        (_answer(404, "application/json", b'{"title":"no such DAG"}'), True, 'Error: HTTP 404 Not Found: {"title":"no'),
        (_answer(500, "text/html", b"<h1>Oops</h1>"), True, "Error: HTTP 500 Internal Server Error: <h1>Oops</h1>"),
        (lambda handler: None, True, "Error: 127.0.0.1:"),
        (_answer(200, "text/html", b"<h1>Log in</h1>"), False, "<h1>Log in</h1>"),
        (_answer(200, "application/json", b'{"dags": ['), False, '{"dags": ['),
        (_answer(200, "application/json", b"\xff\xfe\x00"), False, "\ufffd\ufffd\x00"),
        (_answer(200, "application/zip", b"PK\x03\x04"), False, "[application/zip, 4 bytes]"),
    ],
    ids=["404", "500", "closed", "html", "broken JSON", "no UTF-8", "binary"],
)
def test_what_goes_wrong_at_the_server_comes_back_as_a_result(
    tools: dict[str, SourceTool],
    airflow: DocumentServer,
    instead: Callable[[BaseHTTPRequestHandler], None],
    is_error: bool,
    content: str,
) -> None:
    airflow.instead = instead
    result = called(tools["get_dags"])
    assert (result.error, result.content[: len(content)]) == (is_error, content)
    assert result.outcome == ("failed" if is_error else "done")
    airflow.instead = None
    assert not called(tools["get_dags"]).error  # the next call is as any


def test_a_server_that_hangs_is_left_and_the_result_says_so(
    documents: dict[str, Path], airflow: DocumentServer
) -> None:
    airflow.instead = _hang
    (tool,) = load_openapi(documents["airflow"], base_url=airflow.url, only=["get_dags"], timeout_s=0.5).functions
    result = called(tool)
    assert (result.content, result.outcome) == ("Error: the server did not answer within 0.5 s", "failed")


def test_an_answer_of_50_mb_is_cut_and_says_so(tools: dict[str, SourceTool], airflow: DocumentServer) -> None:
    airflow.instead = _huge
    begun = time.monotonic()
    result = called(tools["get_dags"])
    assert not result.error
    assert result.whole is not None
    assert result.whole == "7" * 2**20 + "\n[cut: more than 1048576 bytes]"
    assert len(result.content) < 8100
    assert result.content.endswith("characters are left out]")
    assert time.monotonic() - begun < MUCH_S
