"""A small server that speaks the part of the Hugging Face hub's protocol that huggingface_hub downloads with.

    GET  /api/models/OWNER/REPO[/revision/REVISION]    the repository as JSON: commit, files with sizes and hashes, card
    HEAD /OWNER/REPO/resolve/COMMIT/PATH               ETag, X-Repo-Commit, size; large files are linked to /cdn/
    GET  the same, or /cdn/SHA256                      the bytes, whole or a Range

A test can have it break off, send other bytes than it promised, refuse access, or know no such repository.
"""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

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
    """`requests` are (method, path, Range header). The next `breaks` downloads end after `break_after` bytes."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    breaks: int = 0
    break_after: int = 0
    corrupt: str = ""  # the name of a file of which other bytes are sent
    short: str = ""  # of which the last byte is missing, as if it had never been there
    url: str = ""

    def downloads(self) -> list[str]:
        """The Range header of each request for a file's bytes."""
        return [wanted for method, path, wanted in self.requests if method == "GET" and "/api/" not in path]


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

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = Hub(url=f"http://127.0.0.1:{self.server_address[1]}")


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
        if path.startswith("/cdn/"):
            return self._send_large(path.removeprefix("/cdn/"))
        repo = "/".join(path.removeprefix("/api/models").split("/")[1:3])
        one = hub.repositories.get(repo, Repository({}, status=404, code="RepoNotFound"))
        if one.status != 200:
            return self._send(one.status, {"X-Error-Code": one.code} if one.code else {})
        if not path.startswith("/api/"):
            return self._resolve(one, path.split(f"/resolve/{one.commit}/", 1)[1])
        if path.partition("/revision/")[2] not in ("", "main", one.commit):
            return self._send(404, {"X-Error-Code": "RevisionNotFound"})
        return self._send(200, {"Content-Type": "application/json"}, json.dumps(info(repo, one)).encode())

    def _resolve(self, one: Repository, name: str) -> None:
        content = one.files[name]
        if not name.endswith(LARGE):
            return self._content(name, content, {"ETag": f'"{git_sha1(content)}"', "X-Repo-Commit": one.commit})
        sha256 = hashlib.sha256(content).hexdigest()
        linked = {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(content)), "X-Repo-Commit": one.commit}
        return self._send(302, {**linked, "Location": f"{self.server.hub.url}/cdn/{sha256}"})

    def _send_large(self, sha256: str) -> None:
        files = (file for one in self.server.hub.repositories.values() for file in one.files.items())
        name, content = next(file for file in files if hashlib.sha256(file[1]).hexdigest() == sha256)
        self._content(name, content, {})

    def _content(self, name: str, content: bytes, headers: dict[str, str]) -> None:
        if name == self.server.hub.corrupt:
            content = content[:-1] + bytes([content[-1] ^ 1])
        if name == self.server.hub.short:
            content = content[:-1]
        first = int(self.headers.get("Range", "bytes=0-")[6:].partition("-")[0])
        part = {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"} if first else {}
        self._send(206 if first else 200, {**headers, **part}, content[first:])

    def _send(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        hub = self.server.hub
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if hub.breaks and len(body) > hub.break_after and not self.path.startswith("/api/"):
            hub.breaks -= 1
            body, self.close_connection = body[: hub.break_after], True
        self.wfile.write(body)


def serve() -> tuple[Hub, ThreadingHTTPServer]:
    """A running hub without repositories; shut the server down in the end."""
    server = _Server()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server.hub, server
