"""A small server that speaks the part of the Hugging Face hub's protocol that huggingface_hub downloads with.

    GET  /api/models/OWNER/REPO[/revision/REVISION]   the repository as JSON: commit, files with sizes and hashes, card
    HEAD /OWNER/REPO/resolve/COMMIT/PATH              of a large file a 302 to the other server, with X-Linked-Etag
                                                      (SHA-256) and X-Linked-Size; of a small one a 307 to the next
    HEAD /api/resolve-cache/models/OWNER/REPO/COMMIT/PATH      ETag (git's SHA-1), X-Repo-Commit, the size
    GET  the same; on the other server /SHA256        the bytes, whole or a Range; 416 for a Range that begins too late

The other server, of the large files, is another host to every client, as the hub's is. A test can have them break off,
send other bytes than were promised, refuse access, move a repository, or know no such thing.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".gguf", ".safetensors", ".onnx")


@dataclass
class Repository:
    """`status` other than 200 is what every request for it gets; `code` goes with it as X-Error-Code."""

    files: dict[str, bytes]
    card: dict[str, Any] = field(default_factory=dict)
    commit: str = COMMIT
    status: int = 200
    code: str = ""


@dataclass
class Hub:
    """`requests` are (method, path, Range header). The next `breaks` downloads end after `break_after` bytes.

    `tokens` are the Authorization headers that came to the hub, `cdn_tokens` those to the server of large files.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)  # a repository's old name -> its new one
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    cdn_tokens: list[str] = field(default_factory=list)
    breaks: int = 0
    break_after: int = 0
    corrupt: str = ""  # the name of a file of which other bytes are sent
    short: str = ""  # of which the last byte is missing, as if it had never been there
    ranges: bool = True  # whether a Range is heard; else the whole file is sent for any
    etags: bool = True
    xet: bool = False  # whether large files are offered by the other protocol too
    url: str = ""
    cdn_url: str = ""

    def downloads(self) -> list[str]:
        """The Range header of each request for a file's bytes."""
        return [wanted for method, path, wanted in self.requests if method == "GET" and "/api/models/" not in path]


def info(repo: str, one: Repository) -> dict[str, Any]:
    siblings = []
    for path, content in one.files.items():
        entry: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": git_sha1(content)}
        if path.endswith(LARGE):
            sha256 = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
        siblings.append(entry)
    return {"id": repo, "modelId": repo, "sha": one.commit, "siblings": siblings, "cardData": one.card, "tags": []}


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: Hub, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.hub = hub
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *args: Any) -> None:
        pass

    def _answer(self) -> None:
        hub, path = self.server.hub, unquote(urlsplit(self.path).path)
        hub.requests.append((self.command, path, self.headers.get("Range", "")))
        hub.tokens.append(self.headers.get("Authorization", ""))
        inner = path.removeprefix("/api/resolve-cache").removeprefix("/api").removeprefix("/models")
        repo = "/".join(inner.split("/")[1:3])
        if repo in hub.renamed:
            return self._send(307, {"Location": path.replace(repo, hub.renamed[repo], 1)})
        one = hub.repositories.get(repo, Repository({}, status=404, code="RepoNotFound"))
        if one.status != 200:
            return self._send(one.status, {"X-Error-Code": one.code} if one.code else {})
        if path.startswith("/api/resolve-cache/"):
            return self._small(one, inner.split(f"/{one.commit}/", 1)[1])
        if not path.startswith("/api/"):
            return self._resolve(repo, one, path.split(f"/resolve/{one.commit}/", 1)[1])
        if path.partition("/revision/")[2] not in ("", "main", one.commit):
            return self._send(404, {"X-Error-Code": "RevisionNotFound"})
        return self._send(200, {"Content-Type": "application/json"}, json.dumps(info(repo, one)).encode())

    def _resolve(self, repo: str, one: Repository, name: str) -> None:
        content, hub = one.files[name], self.server.hub
        if not name.endswith(LARGE):
            cached = f"/api/resolve-cache/models/{repo}/{one.commit}/{quote(name)}"
            return self._send(307, {"Location": f"{cached}?etag=0", "X-Repo-Commit": one.commit})
        sha256 = hashlib.sha256(content).hexdigest()
        headers = {"X-Repo-Commit": one.commit, "Location": f"{hub.cdn_url}/{sha256}"}
        if hub.etags:
            headers |= {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(content))}
        if hub.xet:
            headers |= {"X-Xet-Hash": sha256, "Link": f'<{hub.url}/api/xet-token>; rel="xet-auth"'}
        return self._send(302, headers)

    def _small(self, one: Repository, name: str) -> None:
        content = one.files[name]
        etag = {"ETag": f'"{git_sha1(content)}"'} if self.server.hub.etags else {}
        self._content(name, content, {**etag, "X-Repo-Commit": one.commit})

    def _content(self, name: str, content: bytes, headers: dict[str, str]) -> None:
        if name == self.server.hub.corrupt:
            content = content[:-1] + bytes([content[-1] ^ 1])
        if name == self.server.hub.short:
            content = content[:-1]
        first = int(self.headers.get("Range", "bytes=0-")[6:].partition("-")[0]) if self.server.hub.ranges else 0
        if first >= max(1, len(content)):
            return self._send(416, {"Content-Range": f"bytes */{len(content)}"})
        part = {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"} if first else {}
        return self._send(206 if first else 200, {**headers, **part}, content[first:])

    def _send(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        hub = self.server.hub
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if hub.breaks and len(body) > hub.break_after and not self.path.startswith("/api/models/"):
            hub.breaks -= 1
            body, self.close_connection = body[: hub.break_after], True
        self.wfile.write(body)


class _CdnHandler(_Handler):
    """The server of large files, by SHA-256: it wants no token, and its addresses are signed on the real hub."""

    def _answer(self) -> None:
        hub, path = self.server.hub, urlsplit(self.path).path
        hub.requests.append((self.command, path, self.headers.get("Range", "")))
        hub.cdn_tokens.append(self.headers.get("Authorization", ""))
        files = (file for one in hub.repositories.values() for file in one.files.items())
        name, content = next(file for file in files if hashlib.sha256(file[1]).hexdigest() == path[1:])
        self._content(name, content, {})


@contextmanager
def serve() -> Iterator[Hub]:
    """A running hub without repositories."""
    hub = Hub()
    servers = (_Server(hub, _Handler), _Server(hub, _CdnHandler))
    hub.url, hub.cdn_url = (server.url for server in servers)
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
