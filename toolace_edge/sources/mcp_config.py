"""The servers in an mcp.json file, in the form that MCP hosts share.

    {"mcpServers": {"files": {"command": "npx", "args": ["-y", "pkg", "${HOME}/notes"], "env": {"TOKEN": "${TOKEN}"}},
                    "wiki":  {"url": "https://host/mcp", "headers": {"Authorization": "Bearer ${WIKI_TOKEN}"}}}}

`servers` is read like `mcpServers`. `${NAME}`, `${env:NAME}` and `${NAME:-default}` are put in from the environment in
every text of a server; a variable that is not set is an error. `cwd` is the folder in which a command runs, `type` may
be stdio, http or streamable-http, `disabled` leaves a server out. Other keys belong to other hosts and are left alone,
unless they look like a misspelling.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolace_edge.errors import ToolError
from toolace_edge.json_file import read_json
from toolace_edge.sources.base import valid_name

MAX_FILE_BYTES = 2**20

_VARIABLE = re.compile(r"\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_SHORTEST_SECRET = 6  # characters: taking out shorter ones would only spoil the text
_SCHEMES = ("bearer", "basic", "digest", "token", "apikey")
_KEYS = ("command", "args", "env", "cwd", "url", "headers", "type", "disabled")


@dataclass(frozen=True, slots=True)
class Server:
    """One server: `command` with `args`, or `url` with `headers`. `shown` names it in errors, without secrets.

    `put_in` are the values of variables. `key` stands for the server in the file of accepted definitions: its name and
    how it is reached, as written.
    """

    name: str
    shown: str
    key: str
    command: str = ""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str | None = None
    url: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    put_in: tuple[str, ...] = field(default=(), repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no error may show: these texts and their words, as a server may quote a token without `Bearer`."""
        whole = [self.url, *self.headers.values(), *self.env.values(), *self.put_in]
        words = [word for text in whole for word in text.split() if word.lower() not in _SCHEMES]
        return tuple(dict.fromkeys(one for one in (*whole, *words) if len(one) >= _SHORTEST_SECRET))


def read_servers(path: Path, environment: Mapping[str, str] = os.environ) -> tuple[Server, ...]:
    """The servers of a file that are not disabled. Raises ToolError with the file and the server's name."""
    data = read_json(path, MAX_FILE_BYTES, 'a JSON file with "mcpServers"')
    listed = next((data[key] for key in ("mcpServers", "servers") if key in data), None) if _is_object(data) else None
    if not isinstance(listed, dict):
        raise ToolError(f"{path} has no object `mcpServers`.", hint='Write {"mcpServers": {"NAME": {"command": ...}}}.')
    found: dict[str, Server] = {}
    for name, entry in listed.items():
        where = f"{path}: the server {name!r:.60}"
        if not _is_object(entry):
            raise ToolError(f"{where} is not an object.", hint="Write a command or a url.")
        if entry.get("disabled") is True:
            continue
        server = _server(valid_name(name), entry, where, environment)
        if server.name in found:
            raise ToolError(f"{where} has the name of another one.", hint="Rename one of them.")
        found[server.name] = server
    if not found:
        raise ToolError(f"{path} names no server that is not disabled.", hint="Add one.")
    return tuple(found.values())


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _server(name: str, entry: Mapping[str, Any], where: str, environment: Mapping[str, str]) -> Server:
    for key in entry:
        near = difflib.get_close_matches(key.lower(), _KEYS, n=1, cutoff=0.8)
        if near and key not in _KEYS:
            raise ToolError(f"{where}: {key!r:.40} is not known.", hint=f"Did you mean {near[0]!r}?")
    if entry.get("type", "stdio") not in ("stdio", "http", "streamable-http", "streamableHttp"):
        raise ToolError(f"{where} has the type {entry['type']!r:.40}.", hint="stdio and streamable HTTP are spoken.")
    if ("command" in entry) == ("url" in entry):
        raise ToolError(f"{where} must have a command or a url, one of the two.", hint="Correct it there.")
    read = _Texts(entry, where, environment)
    reached = {key: entry[key] for key in ("command", "args", "cwd", "url") if key in entry}
    key = f"{name} {hashlib.sha256(json.dumps(reached, sort_keys=True).encode()).hexdigest()[:16]}"
    if "url" in entry:
        url = read.text("url")
        if not re.match(r"https?://[^/\s]", url):
            raise ToolError(
                f"{where}: its url is no address of http or https.", hint="Write it as in https://host/mcp."
            )
        headers = {name: value.strip() for name, value in read.members("headers").items()}
        return Server(name, f"the MCP server {name}", key, url=url, headers=headers, put_in=tuple(read.put_in))
    command = read.text("command")
    cwd = read.text("cwd") if "cwd" in entry else None
    shown = f"the MCP server {name} ({entry['command']})"
    args, env = read.texts("args"), read.members("env")
    return Server(name, shown, key, command, args, env, cwd, put_in=tuple(read.put_in))


class _Texts:
    """The texts of one entry, with the variables put in."""

    def __init__(self, entry: Mapping[str, Any], where: str, environment: Mapping[str, str]) -> None:
        self._entry = entry
        self._where = where
        self._environment = environment
        self.put_in: list[str] = []

    def text(self, key: str) -> str:
        found = self._filled(self._entry[key], key)
        if not found.strip():
            raise ToolError(f"{self._where}: its {key} is empty.", hint="Correct it there.")
        return found

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._entry.get(key) or ()
        if not isinstance(value, list | tuple):
            raise ToolError(f"{self._where}: its {key} is not a list.", hint="Write a list of texts.")
        return tuple(self._filled(one, f"{key}[{i}]") for i, one in enumerate(value))

    def members(self, key: str) -> dict[str, str]:
        value = self._entry.get(key) or {}
        if not isinstance(value, dict):
            raise ToolError(f"{self._where}: its {key} is not an object.", hint="Write names and texts.")
        return {name: self._filled(one, f"{key}.{name}") for name, one in value.items()}

    def _filled(self, value: object, key: str) -> str:
        if not isinstance(value, str) or "\0" in value:
            raise ToolError(f"{self._where}: its {key} is not text.", hint="Put it in quotes.")

        def put(match: re.Match[str]) -> str:
            found = self._environment.get(match[1]) or match[2]
            if found is None:
                raise ToolError(
                    f"{self._where}: {key} names {match[0]}, which is not set.", hint=f"Set {match[1]} first."
                )
            self.put_in.append(found)
            return found

        return _VARIABLE.sub(put, value)
