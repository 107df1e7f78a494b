"""One MCP server from its start to its end, inside the event loop: its tools as accepted, and their calls."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from toolace_edge import __version__
from toolace_edge.errors import CallError, ToolaceEdgeError
from toolace_edge.sources.mcp_config import Server
from toolace_edge.sources.mcp_results import result_text
from toolace_edge.sources.mcp_stdio import MAX_MESSAGE_BYTES, Child
from toolace_edge.sources.pins import changes, fingerprint

MAX_TOOLS = 1000
MAX_PAGES = 100
LAST_WORDS_S = 0.5  # for a server that is ending to write why

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Definition:
    """A tool as its server describes it."""

    name: str
    description: str
    schema: Mapping[str, Any]
    digest: str


class Connection:
    """`ready` is done when the tools are known, or holds why they are not."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.ready: Future[None] = Future()
        self.definitions: dict[str, Definition] = {}
        self.accepted: dict[str, str] = {}
        self.stale = False  # the server said that its tools are others now
        self.closing = asyncio.Event()
        self._child = Child(server) if server.command else None
        self._client: Any = None
        self._ended: str | None = None
        self._listing = asyncio.Lock()
        self._forgotten = asyncio.Event()
        self._wanted = asyncio.Event()  # a call waits for a session
        self._tried = asyncio.Event()  # what began last is a session, or has failed

    @property
    def digests(self) -> dict[str, str]:
        return {name: one.digest for name, one in self.definitions.items()}

    @property
    def changed(self) -> tuple[str, ...]:
        return changes(self.accepted, self.digests)

    async def serve(self) -> None:
        """Start the server, learn its tools, and stay until `closing` is set."""
        try:
            while not self.closing.is_set():
                try:
                    await self._serve_session()
                except Exception as error:
                    if self._child is not None or not self.ready.done():
                        raise
                    self._ended = self._sentence(error)  # over HTTP it may come back: the next call tries again
                    self._tried.set()
                    await self._first_of(self.closing, self._wanted)
        except BaseException as error:  # cancelled, or a group of whatever the SDK's tasks met
            self._ended = self._sentence(error)
            if not self.ready.done():
                failure = _leaf(error)
                given = failure if isinstance(failure, ToolaceEdgeError) else self._failure(self._ended)
                self.ready.set_exception(given)
        finally:
            self._ended = self._ended or f"{self.server.shown} is closed"
            self._tried.set()

    async def _serve_session(self) -> None:
        """From one handshake to the end, or until the server has forgotten the session: it may have been restarted."""
        self._forgotten.clear()
        self._wanted.clear()
        async with contextlib.AsyncExitStack() as stack:
            self._client = await self._connect(stack)
            stack.callback(setattr, self, "_client", None)  # first: nothing is asked of one that is being closed
            await self.list_tools()
            if not self.ready.done():
                self.ready.set_result(None)
            self._ended = None
            self._tried.set()
            await self._first_of(self.closing, self._forgotten)

    async def _first_of(self, *events: asyncio.Event) -> None:
        ends = [asyncio.create_task(event.wait()) for event in events]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()

    async def list_tools(self) -> None:
        """Ask for the tools. What was accepted stays so; `changed` names what is not."""
        self.stale = False  # before the question: what is announced while it is answered counts
        try:
            self.definitions = await self._listed()
        except BaseException:
            self.stale = True
            raise

    async def _listed(self) -> dict[str, Definition]:
        """The tools of all pages. A page that brings nothing new is the last: some servers give it for ever."""
        found: dict[str, Definition] = {}
        cursor = None
        for _ in range(MAX_PAGES):
            page, known = await self._client.list_tools(cursor=cursor), len(found)
            for one in page.tools:
                digest = fingerprint(one.name, one.description, one.input_schema)
                found[one.name] = Definition(one.name, one.description or "", one.input_schema, digest)
            cursor = page.next_cursor
            if cursor is None or (known and len(found) == known):
                cursor = None
                break
        if cursor is not None or len(found) > MAX_TOOLS:
            raise self._failure(f"{self.server.shown} lists more than {MAX_TOOLS} tools or {MAX_PAGES} pages")
        return found

    async def refresh(self, timeout_s: float) -> None:
        """`list_tools`, where they are not known to be the present ones. CallError where the server does not answer.

        One caller asks, and the others wait: none goes by the old definitions meanwhile.
        """
        async with self._listing:
            if self.stale:
                await self._answered(self._client_call(lambda client: self.list_tools()), timeout_s)

    async def call(self, name: str, arguments: Mapping[str, Any], timeout_s: float) -> str:
        """The result as text. CallError says what went wrong, and that a definition is not the accepted one."""
        await self.refresh(timeout_s)
        if name not in self.definitions:
            raise CallError(f"{self.server.shown} has no tool {name} any more")
        if name in self.changed:
            raise CallError(
                f"{self.server.shown} has changed the definition of {name} since it was accepted; "
                "it is not called before that is accepted again"
            )
        given = dict(arguments)
        result = await self._answered(self._client_call(lambda client: client.call_tool(name, given)), timeout_s)
        try:
            return result_text(result)
        except CallError as error:
            raise CallError(self._without_secrets(str(error))) from None

    async def _client_call(self, ask: Callable[[Any], Awaitable[T]]) -> T:
        if self._client is None and self._child is None and not self.closing.is_set():
            self._tried.clear()
            self._wanted.set()
            await self._tried.wait()
        if self._client is None:
            raise CallError(self._ended or f"{self.server.shown} is closed")
        return await ask(self._client)

    async def _answered(self, asked: Awaitable[T], timeout_s: float) -> T:
        """What a request gives, within its time."""
        work = asyncio.ensure_future(asked)
        try:
            await asyncio.wait([work], timeout=timeout_s)
            if work.done():
                return await work
            raise CallError(f"{self.server.shown} did not answer within {timeout_s:g} s")
        except (CallError, asyncio.CancelledError):
            raise
        except Exception as error:  # of the SDK, its transport, or the schema of a result
            await self._last_words()
            raise CallError(self._sentence(error)) from None
        finally:
            if not work.done():
                work.cancel()  # the SDK tells the server
                await asyncio.wait([work], timeout=1)

    async def _connect(self, stack: contextlib.AsyncExitStack) -> Any:
        from mcp import Client, Implementation

        transport = self._child.streams() if self._child else await self._http(stack)
        client = Client(
            transport,
            mode="legacy",  # the handshake that every server knows, and no question that an older one may not answer
            cache=None,
            client_info=Implementation(name="toolace-edge", version=__version__),
            message_handler=self._notice,
        )
        return await stack.enter_async_context(client)

    async def _http(self, stack: contextlib.AsyncExitStack) -> Any:
        import httpx2
        from mcp.client.streamable_http import streamable_http_client

        loopback = httpx2.URL(self.server.url).host in ("localhost", "127.0.0.1", "::1")

        class Client(httpx2.AsyncClient):
            async def send(self, request: Any, **options: Any) -> Any:
                """What the network does to one request is that one's answer; the SDK would give up on the server."""
                try:
                    return await super().send(request, **options)
                except httpx2.TransportError as error:
                    said = {"code": -32000, "message": str(error) or type(error).__name__}
                    return httpx2.Response(503, request=request, json={"jsonrpc": "2.0", "id": 0, "error": said})

        client = Client(
            headers=dict(self.server.headers),
            timeout=httpx2.Timeout(30, read=300),  # a call has a limit of its own
            trust_env=not loopback,  # no proxy for this machine's own servers
            event_hooks={"response": [_bounded, self._hear]},
        )
        await stack.enter_async_context(client)
        return streamable_http_client(self.server.url, http_client=client, max_sse_event_size=MAX_MESSAGE_BYTES)

    async def _hear(self, response: Any) -> None:
        """404 to a session's own request says that there is no such session, and a client is to begin another."""
        if response.status_code == 404 and "mcp-session-id" in response.request.headers:
            self._forgotten.set()

    async def _notice(self, message: Any) -> None:
        if getattr(message, "method", "") == "notifications/tools/list_changed":
            self.stale = True

    async def _last_words(self) -> None:
        if self._child is not None:
            for _ in range(int(LAST_WORDS_S / 0.05)):
                if self._child.exit_code is not None:
                    break
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.02)

    def late(self, timeout_s: float) -> CallError:
        """The error of a server that is not ready in time."""
        return self._failure(f"{self.server.shown} did not answer within {timeout_s:g} s{self._why()}")

    def _failure(self, sentence: str) -> CallError:
        return CallError(f"{sentence}.", hint="Run its command by hand to see what it says, or take it out.")

    def _why(self) -> str:
        why = self._child.why(self._without_secrets) if self._child else ""
        return f"; {why}" if why else ""

    def _sentence(self, error: BaseException) -> str:
        leaf = _leaf(error)
        if isinstance(leaf, ToolaceEdgeError):
            return str(leaf)
        said = self._without_secrets(" ".join(str(leaf).split()))[:300]
        gone = said in ("", "Connection closed") or isinstance(leaf, asyncio.CancelledError)
        what = "has gone" if gone else f"failed: {said}"
        explained = self._why() if gone or not self.ready.done() else ""
        return f"{self.server.shown} {what}{explained}"

    def _without_secrets(self, text: str) -> str:
        for secret in sorted(self.server.secrets, key=len, reverse=True):
            for spelling in (secret, " ".join(secret.split()), repr(secret)[1:-1]):
                text = text.replace(spelling, "[hidden]")
        return text


def _leaf(error: BaseException) -> BaseException:
    """The first error inside groups, which the SDK's task groups raise."""
    while inner := getattr(error, "exceptions", None):
        error = inner[0]
    return error


async def _bounded(response: Any) -> None:
    """Have the body of a response end with an error when it is too long; streams of events bound each event."""
    import httpx2

    class Bounded(httpx2.AsyncByteStream):
        def __init__(self, stream: Any) -> None:
            self.stream = stream

        async def __aiter__(self) -> Any:
            size = 0
            async for chunk in self.stream:
                size += len(chunk)
                if size > MAX_MESSAGE_BYTES:
                    raise httpx2.StreamError(f"an answer of more than {MAX_MESSAGE_BYTES // 2**20} MB")
                yield chunk

        async def aclose(self) -> None:
            await self.stream.aclose()

    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        response.stream = Bounded(response.stream)
