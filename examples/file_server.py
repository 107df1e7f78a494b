"""An MCP server for the files of one folder: `python file_server.py FOLDER` speaks over standard input and output.

It lists and reads; nothing outside the folder is reached, not by `..` and not by a link. examples/mcp_files.py starts
it, and so does any MCP host. It needs the official SDK, which comes with the extra `mcp`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

MAX_BYTES = 100_000

folder = Path(sys.argv[1]).resolve()
server = MCPServer("files")


@server.tool()
def list_files() -> list[str]:
    """List the names of all files."""
    return sorted(file.name for file in folder.iterdir() if file.is_file())


@server.tool()
def read_file(name: str) -> str:
    """Read a file and show what it says."""
    file = (folder / name).resolve()
    if file.parent != folder or not file.is_file():
        raise ToolError(f"there is no file {name!r}")
    if file.stat().st_size > MAX_BYTES:
        raise ToolError(f"{name} is larger than {MAX_BYTES} bytes")
    return file.read_text("utf-8")


server.run("stdio")
