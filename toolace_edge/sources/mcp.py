"""MCP servers as a source of tools: the official SDK's client, in a thread of its own, behind plain functions.

Tools are called `SERVER.TOOL`, always: a further server never renames, nor hides, the tools of another. Each definition
is pinned (pins.py): one that the server changes is neither offered nor called until it is accepted again.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import logging
import threading
import time
from collections.abc import Coroutine, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from toolace_edge.errors import CallError, MissingDependency, SchemaError, ToolError
from toolace_edge.messages import Tool
from toolace_edge.schema import normalise_parameters
from toolace_edge.sources.base import CALL_TIMEOUT_S, MAX_DESCRIPTION, SourceTool, shorten, valid_name
from toolace_edge.sources.mcp_config import Server
from toolace_edge.sources.mcp_connection import Connection
from toolace_edge.sources.pins import Pins

START_TIMEOUT_S = 60.0  # npx and uvx may have to fetch the server first
CLOSE_TIMEOUT_S = 12.0  # what the steps of ending a server sum up to, and some more

T = TypeVar("T")


class McpSource:
    """The servers, running from `open` (or `with`) to `close`; every method may be called from any thread.

    `functions` are the tools that can be used, `problems` why others cannot, `changed` those (`server.tool`) whose
    definition is new or different since it was accepted: they are in neither until `accept_changes`. Without `pins`
    what the servers list first counts as accepted, and nothing is remembered. `only`: patterns of names.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        *,
        pins: Pins | None = None,
        only: Sequence[str] = (),
        start_timeout_s: float = START_TIMEOUT_S,
        call_timeout_s: float = CALL_TIMEOUT_S,
    ) -> None:
        self._servers = tuple(servers)
        self._pins = pins
        self._only = tuple(only)
        self._start_timeout_s = start_timeout_s
        self._call_timeout_s = call_timeout_s
        self._connections: list[Connection] = []
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self.functions: tuple[SourceTool, ...] = ()
        self.problems: tuple[ToolError, ...] = ()

    def __enter__(self) -> McpSource:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Start all servers at once and read their tools. CallError or ToolError for the first that does not work."""
        try:
            import mcp  # noqa: F401
        except ImportError:
            raise MissingDependency("mcp", "mcp") from None
        for name in ("mcp", "client", "httpx2"):  # the SDK's loggers: what matters becomes an error of ours
            logging.getLogger(name).addHandler(logging.NullHandler())
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main(started)), name="mcp", daemon=True)
        atexit.register(self.close)
        self._thread.start()
        try:
            started.wait()
            self._wait_until_ready()
            for connection in self._connections:
                self._recall(connection)
            self._describe()
        except BaseException:  # Ctrl-C too
            self.close()
            raise

    def close(self) -> None:
        """End every server and its process. Again is harmless; afterwards calls say that the server is closed."""
        atexit.unregister(self.close)
        thread, loop, stop = self._thread, self._loop, self._stop
        if thread is not None and loop is not None and stop is not None and not loop.is_closed():
            try:
                loop.call_soon_threadsafe(stop.set)
            except RuntimeError:  # closed in between
                return
            thread.join(CLOSE_TIMEOUT_S)

    @property
    def changed(self) -> tuple[str, ...]:
        """Tools whose definition is not the accepted one; asks a server again that announced a change."""
        self._relist()
        return tuple(f"{each.server.name}.{name}" for each in self._connections for name in each.changed)

    def changed_descriptions(self) -> dict[str, str]:
        """`changed`, each with what its server says of it now."""
        self._relist()
        return {
            f"{each.server.name}.{name}": shorten(each.definitions[name].description, MAX_DESCRIPTION)
            for each in self._connections
            for name in each.changed
        }

    def refresh(self) -> tuple[str, ...]:
        """Ask every server for its tools again, announced or not; `changed`."""
        for connection in self._connections:
            connection.stale = True
        return self.changed

    def accept_changes(self) -> None:
        """From now on the definitions are the servers' present ones, and `functions` holds them."""
        for connection in self._connections:
            connection.accepted = connection.digests
            if self._pins is not None:
                self._pins.accept(connection.server.key, connection.accepted)
        self._describe()

    def _relist(self) -> None:
        for connection in self._connections:
            if connection.stale:
                self._run(connection.refresh(self._call_timeout_s), self._call_timeout_s)

    async def _main(self, started: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._connections = [Connection(server) for server in self._servers]
        tasks = [asyncio.create_task(each.serve()) for each in self._connections]
        started.set()
        await self._stop.wait()
        for task, connection in zip(tasks, self._connections, strict=True):
            connection.closing.set()
            if not connection.ready.done():
                task.cancel()
        _, waiting = await asyncio.wait(tasks, timeout=CLOSE_TIMEOUT_S / 2)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + self._start_timeout_s
        for connection in self._connections:
            try:
                connection.ready.result(max(0.0, end - time.monotonic()))
            except concurrent.futures.TimeoutError:
                raise connection.late(self._start_timeout_s) from None

    def _recall(self, connection: Connection) -> None:
        accepted = self._pins.accepted(connection.server.key) if self._pins is not None else None
        if accepted is None:
            accepted = connection.digests
            if self._pins is not None:
                self._pins.accept(connection.server.key, accepted)
        connection.accepted = dict(accepted)

    def _describe(self) -> None:
        """`functions` and `problems` from the definitions that are accepted."""
        functions: dict[str, SourceTool] = {}
        problems: list[ToolError] = []
        for connection in self._connections:
            unaccepted = connection.changed
            for one in connection.definitions.values():
                name = valid_name(f"{connection.server.name}.{one.name}", functions)
                picked = not self._only or any(fnmatchcase(name, pattern) for pattern in self._only)
                if one.name in unaccepted or not picked:
                    continue
                try:
                    schema = normalise_parameters(one.schema, f"{name}.inputSchema")
                except SchemaError as error:
                    problems.append(error)
                    continue
                tool = Tool(name, shorten(one.description, MAX_DESCRIPTION), schema)
                functions[name] = SourceTool(tool, partial(self._call, connection, one.name))
        self.functions, self.problems = tuple(functions.values()), tuple(problems)

    def _call(self, connection: Connection, name: str, arguments: Mapping[str, Any]) -> str:
        return self._run(connection.call(name, arguments, self._call_timeout_s), self._call_timeout_s)

    def _run(self, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """Have the loop do it. CallError where it is closed, or where even the loop does not come back in time."""
        loop = self._loop
        if loop is None or loop.is_closed() or self._thread is None or not self._thread.is_alive():
            work.close()
            raise CallError("the MCP servers are closed")
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return future.result(2 * timeout_s + 2)  # a call may have to list the tools first
        except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError):
            future.cancel()
            raise CallError("the MCP servers are closed or do not answer") from None
        except BaseException:
            future.cancel()
            raise
