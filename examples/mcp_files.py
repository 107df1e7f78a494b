"""A file helper: the tools of an MCP server (file_server.py), on a folder of its own. Run: python examples/mcp_files.py

The requests are some that the bundled model gets right. The server may only read, so all of its calls are allowed;
`policy={"files.read_file": "ask", ...}` with `approve=` asks first.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from toolace_edge import Agent
from toolace_edge.sources import open_sources

REQUESTS = ("list all files", "read the file shopping.txt")
FILES = {"shopping.txt": "milk, bread, apples", "plan.md": "Paint the door on Saturday."}
# As in the mcp.json of any host; ${FOLDER} is put in from the environment.
SERVER = {"command": sys.executable, "args": [str(Path(__file__).with_name("file_server.py")), "${FOLDER}"]}

with tempfile.TemporaryDirectory() as place:
    folder, config = Path(place, "files"), Path(place, "mcp.json")
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text, "utf-8")
    os.environ["FOLDER"] = str(folder)
    config.write_text(json.dumps({"mcpServers": {"files": SERVER}}), "utf-8")
    with (
        open_sources(mcp=[config]) as sources,
        Agent(tools=sources.functions, policy={"files.*": "allow"}, max_steps=1) as agent,
    ):
        for request in sys.argv[1:] or REQUESTS:
            agent.reset()
            run = agent.run(request)
            print(f"> {request}")
            for call, result in zip(run.calls, run.results, strict=True):
                print(f"{call}\n{result.content}")
