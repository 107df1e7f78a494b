"""Sends one HTTP request and gives what came back as text: bounded in time and size, on the one host it was meant for.

Redirects are followed on the same scheme, host and port only, so that nothing that was sent along reaches another
server. Answers that are no success raise CallError with what the server said.
"""

from __future__ import annotations

import codecs
import contextlib
import http.client
import ipaddress
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.error import URLError
from urllib.parse import urljoin, urlsplit

from toolace_edge import __version__
from toolace_edge.errors import CallError
from toolace_edge.sources.openapi_request import Request

MAX_RESPONSE_BYTES = 2**20
MAX_REDIRECTS = 5
MAX_ERROR_TEXT = 2000  # characters of what a server says about an error

_TEXT_TYPES = ("json", "xml", "yaml", "javascript", "x-www-form-urlencoded", "graphql", "csv")
_SLOW_CHARSETS = ("idna", "punycode", "unicode-escape", "raw-unicode-escape")


def send(
    request: Request,
    *,
    timeout_s: float,
    max_bytes: int = MAX_RESPONSE_BYTES,
    hide: Callable[[str], str] = str,
) -> str:
    """The text of the answer, cut after `max_bytes`. CallError for everything that is not a success.

    `hide` takes out of it what nobody may see, before an error's text is cut.
    """
    deadline = _Deadline(timeout_s)
    try:
        with deadline:
            for _ in range(MAX_REDIRECTS + 1):
                response = _open(request, deadline)
                with response:
                    following = _redirected(request, response)
                    if following is None:
                        return _answer(response, max_bytes, deadline, hide)
                request = following
        raise CallError(f"the server redirects more than {MAX_REDIRECTS} times")
    except (OSError, http.client.HTTPException, ValueError) as error:  # a connection that is cut may show as any
        if deadline.over:
            raise CallError(f"the server did not answer within {timeout_s:g} s") from None
        reason = error.reason if isinstance(error, URLError) else error
        raise CallError(f"{urlsplit(request.url).netloc} cannot be reached or understood: {_words(reason)}") from None


def check_credentials_stay_safe(base_url: str) -> None:
    """A document's own address gets credentials only where nobody can read them on the way. Raises CallError."""
    parts = urlsplit(base_url)
    if parts.scheme != "https" and not _is_loopback(parts.hostname or ""):
        raise CallError(f"credentials are not sent to {parts.netloc} without https; --base-url decides otherwise")


class _Deadline:
    """Ends the connections that it is told about when the time is over, whatever they are waiting for."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._end = time.monotonic() + timeout_s
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(timeout_s, self._cut)
        self._timer.daemon = True
        self._lock = threading.Lock()

    def __enter__(self) -> _Deadline:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    @property
    def over(self) -> bool:
        return time.monotonic() >= self._end

    def watch(self, connection: socket.socket) -> None:
        """TimeoutError where it was made too late: then nothing may be sent over it any more."""
        with self._lock:
            if self.over:
                raise TimeoutError("the connection was made too late")
            self._sockets.append(connection)

    def _cut(self) -> None:
        with self._lock:
            for each in self._sockets:
                with contextlib.suppress(OSError):
                    # of the plain socket: TLS would want to say goodbye first
                    socket.socket.shutdown(each, socket.SHUT_RDWR)


class _Connection(http.client.HTTPConnection):
    deadline: _Deadline

    def connect(self) -> None:
        super().connect()
        self.deadline.watch(self.sock)


class _SecureConnection(http.client.HTTPSConnection):
    deadline: _Deadline

    def connect(self) -> None:
        super().connect()
        self.deadline.watch(self.sock)


class _Handler(urllib.request.HTTPHandler):
    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self.connection: Any = type("_Watched", (_Connection,), {"deadline": deadline})

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self.connection, request)


class _SecureHandler(urllib.request.HTTPSHandler):
    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self.connection: Any = type("_WatchedSecure", (_SecureConnection,), {"deadline": deadline})

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self.connection, request)


def _open(request: Request, deadline: _Deadline) -> Any:
    """The response, whatever its status. This machine's own servers are asked without a proxy."""
    opener = urllib.request.OpenerDirector()
    opener.addheaders = [("User-Agent", f"toolace-edge/{__version__}")]
    if not _is_loopback(urlsplit(request.url).hostname or ""):
        opener.add_handler(urllib.request.ProxyHandler())
    opener.add_handler(_Handler(deadline))
    opener.add_handler(_SecureHandler(deadline))
    sent = urllib.request.Request(request.url, request.body, dict(request.headers), method=request.method)
    return opener.open(sent, timeout=deadline.timeout_s)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _redirected(request: Request, response: Any) -> Request | None:
    """The request that a redirect asks for; None where this is no redirect."""
    location = response.headers.get("Location")
    if response.status not in (301, 302, 303, 307, 308) or not location:
        return None
    target = urljoin(request.url, location.strip())
    here, there = urlsplit(request.url), urlsplit(target)
    if (here.scheme, here.netloc.lower()) != (there.scheme, there.netloc.lower()):
        raise CallError(f"the server redirects to another one, {there.scheme}://{there.hostname}; that is not followed")
    if not target.isprintable() or " " in target:
        raise CallError("the server redirects to something that is no address")
    target = target.split("#")[0]
    if request.method in ("GET", "HEAD") or response.status in (307, 308):
        return Request(request.method, target, request.headers, request.body)
    if response.status == 303:
        kept = {name: value for name, value in request.headers.items() if name != "Content-Type"}
        return Request("GET", target, kept, None)
    raise CallError(f"HTTP {response.status}: the server redirects a {request.method}; that is not followed")


def _answer(response: Any, max_bytes: int, deadline: _Deadline, hide: Callable[[str], str]) -> str:
    data = b""
    while len(data) <= max_bytes and (chunk := response.read1(65536)):
        data += chunk
    if len(data) <= max_bytes and (deadline.over or response.length):  # `length` is what is still to come
        raise http.client.HTTPException("the answer breaks off")
    text = hide(_text(data[:max_bytes], response.headers))
    if len(data) > max_bytes:
        text += f"\n[cut: more than {max_bytes} bytes]"
    if not 200 <= response.status < 300:
        said = f": {text[:MAX_ERROR_TEXT]}" if text else ""
        raise CallError(f"HTTP {response.status} {response.reason or ''}".rstrip() + said)
    return text or f"done (HTTP {response.status})"


def _text(data: bytes, headers: Any) -> str:
    """The body as text where it is some; otherwise a note of what it is."""
    kind = headers.get_content_type() if headers.get("Content-Type") else ""
    if packed := headers.get("Content-Encoding", "").strip().lower().replace("identity", ""):
        return f"[{kind or 'data'} packed as {packed:.20}, {len(data)} bytes]"
    is_text = kind.startswith("text/") or any(kind.endswith(name) for name in _TEXT_TYPES)
    if not data or (kind and not is_text):
        return f"[{kind:.60}, {len(data)} bytes]" if data else ""
    try:
        charset = codecs.lookup(headers.get_content_charset("utf-8")).name
        if charset in _SLOW_CHARSETS:
            charset = "utf-8"
        return data.decode(charset, "replace")
    except (LookupError, ValueError):  # a charset that nobody knows, or one that is not of text
        return data.decode("utf-8", "replace")


def _words(reason: object) -> str:
    return " ".join(str(reason).split())[:200] or type(reason).__name__
