"""An MCP server as a child process: lines of JSON-RPC over its pipes, bounded, and the process always ended.

The streams are those that the SDK's client reads and writes; the SDK's own transport keeps a line of any length in
memory and lets the server write on our terminal. Here a line of more than MAX_MESSAGE_BYTES is thrown away and the
request that it answers gets an error, what is no JSON-RPC is remembered for the error message, and so is the end of
standard error.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

from toolace_edge.errors import ToolError
from toolace_edge.sources.mcp_config import Server

MAX_MESSAGE_BYTES = 16 * 2**20
GRACE_S = 2.0  # to end after standard input closes, and again after it was asked to
_TAIL_BYTES = 2000  # of standard error
_EDGE_BYTES = 300  # of a line that is too long

# What a server gets of our environment: enough to run, nothing that is secret.
_INHERITED = (
    "APPDATA", "COMSPEC", "HOME", "HOMEDRIVE", "HOMEPATH", "LANG", "LC_ALL", "LOCALAPPDATA", "LOGNAME", "PATH",
    "PATHEXT", "PROCESSOR_ARCHITECTURE", "PROGRAMDATA", "PROGRAMFILES", "SHELL", "SYSTEMDRIVE", "SYSTEMROOT", "TEMP",
    "TERM", "TMP", "TMPDIR", "USER", "USERNAME", "USERPROFILE",
)  # fmt: skip


class Child:
    """The process of one server and what it said beside the protocol."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.rubbish = ""  # the first line that is no JSON-RPC
        self.errors = b""  # the end of its standard error
        self._process: asyncio.subprocess.Process | None = None

    @property
    def exit_code(self) -> int | None:
        return self._process.returncode if self._process else None

    def why(self, hide: Callable[[str], str] = str) -> str:
        """What is known about a failure, as a part of a sentence; empty where nothing is. `hide` goes before a cut."""
        parts = []
        if self.exit_code is not None:
            parts.append(f"its process ended with code {self.exit_code}")
        if self.rubbish:
            parts.append(f"it writes what is not MCP on its standard output: {hide(self.rubbish)!r:.120}")
        if said := hide(" ".join(self.errors.decode("utf-8", "replace").split())):
            parts.append(f"it said: ...{said[-200:]}" if len(said) > 200 else f"it said: {said}")
        return "; ".join(parts)

    @contextlib.asynccontextmanager
    async def streams(self) -> AsyncIterator[Any]:
        """(read, write) as the SDK's client wants them; the process is gone when this ends."""
        import anyio

        process = self._process = await self._start()
        incoming, read = anyio.create_memory_object_stream[Any](0)
        write, outgoing = anyio.create_memory_object_stream[Any](0)
        tasks = [
            asyncio.create_task(self._read(process, incoming)),
            asyncio.create_task(self._write(process, outgoing, incoming)),
            asyncio.create_task(self._listen(process)),
        ]
        try:
            yield read, write
        finally:
            ending = asyncio.create_task(self._end(process, tasks))
            while not ending.done():  # whoever cancels us waits for the process to be gone
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.shield(ending)
            for stream in (incoming, read, write, outgoing):
                stream.close()

    async def _start(self) -> asyncio.subprocess.Process:
        server = self.server
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ} | dict(server.env)
        named = server.command
        if server.cwd is not None and os.path.dirname(named):  # from there: where it is absolute, it stays so
            named = os.path.abspath(os.path.join(server.cwd, named))
        command = shutil.which(named, path=environment.get("PATH"))
        if command is None:
            raise ToolError(f"{server.shown}: there is no such command.", hint="Install it, or give its full path.")
        try:
            return await asyncio.create_subprocess_exec(
                command,
                *server.args,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                cwd=server.cwd,
                limit=MAX_MESSAGE_BYTES,
                start_new_session=sys.platform != "win32",  # a group of its own: ended as a whole, by us alone
            )
        except OSError as error:
            raise ToolError(f"{server.shown} cannot be started: {error.strerror}.", hint="Correct its entry.") from None

    async def _read(self, process: asyncio.subprocess.Process, incoming: Any) -> None:
        from mcp.shared.message import SessionMessage
        from mcp.types import jsonrpc_message_adapter

        assert process.stdout is not None
        with contextlib.suppress(ConnectionError):
            async with incoming:
                while line := await self._line(process.stdout):
                    try:
                        message = jsonrpc_message_adapter.validate_json(line, by_name=False)
                    except ValueError:
                        self.rubbish = self.rubbish or line[:200].decode("utf-8", "replace").strip()
                        continue
                    with contextlib.suppress(Exception):  # the client is gone; what comes is read and dropped
                        await incoming.send(SessionMessage(message))

    async def _line(self, stream: asyncio.StreamReader) -> bytes:
        """The next line, or in place of one that is too long an error for whoever waits for it; b"" at the end."""
        head = tail = b""
        while True:
            try:
                line = await stream.readuntil(b"\n")
            except asyncio.IncompleteReadError as error:
                return error.partial if not head else b""
            except asyncio.LimitOverrunError as error:
                part = await stream.readexactly(max(error.consumed, 1))
                head, tail = head or part[:_EDGE_BYTES], (tail + part)[-_EDGE_BYTES:]
                continue
            if head:
                line = _too_long(head, (tail + line)[-_EDGE_BYTES:].rstrip())
                head = tail = b""
            if line.strip():
                return line

    async def _write(self, process: asyncio.subprocess.Process, outgoing: Any, incoming: Any) -> None:
        assert process.stdin is not None
        try:
            async for sent in outgoing:
                text: str = sent.message.model_dump_json(by_alias=True, exclude_unset=True)
                process.stdin.write(text.encode() + b"\n")
                await process.stdin.drain()
        except OSError:
            incoming.close()  # nobody reads any more: requests end now, not at their time limit

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while data := await process.stderr.read(4096):
            self.errors = (self.errors + data)[-_TAIL_BYTES:]

    async def _end(self, process: asyncio.subprocess.Process, tasks: list[asyncio.Task[None]]) -> None:
        """Close its input, wait, ask it to end, wait, kill: the process and all that it started."""
        tasks[1].cancel()
        if process.stdin is not None:
            process.stdin.close()
        if not await _is_gone(process):
            _signal(process, signal.SIGTERM)
            if not await _is_gone(process):
                _signal(process, getattr(signal, "SIGKILL", signal.SIGTERM))
                await _is_gone(process)
        _signal(process, getattr(signal, "SIGKILL", signal.SIGTERM))  # what it left behind in its group
        done, waiting = await asyncio.wait(tasks, timeout=GRACE_S)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*done, *waiting, return_exceptions=True)


def _too_long(head: bytes, tail: bytes) -> bytes:
    """An error in place of an answer of which only the two ends are left; its id stands at one of them."""
    found = re.match(rb'\{\s*"jsonrpc"\s*:\s*"2.0"\s*,\s*"id"\s*:\s*(\d+|"[^"\\]*")', head)
    found = found or re.search(rb'"id"\s*:\s*(\d+|"[^"\\]*")\s*\}$', tail)
    if found is None:
        return b""
    said = f"it answers with more than {MAX_MESSAGE_BYTES // 2**20} MB"
    return b'{"jsonrpc":"2.0","id":%s,"error":{"code":-32603,"message":"%s"}}' % (found[1], said.encode())


async def _is_gone(process: asyncio.subprocess.Process) -> bool:
    """Whether it ends in time. Asked again and again, as `wait` also waits for pipes that a grandchild may hold."""
    for _ in range(int(GRACE_S / 0.02)):
        if process.returncode is not None:
            return True
        await asyncio.sleep(0.02)
    return False


def _signal(process: asyncio.subprocess.Process, which: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if sys.platform != "win32":
            os.killpg(process.pid, which)
        elif process.returncode is None:
            subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, check=False)
