"""A server of the SDK over its own HTTP, with a tool that can wait: the floor of `load.py`.

python benchmarks/bare_http.py PORT
"""

import sys

import anyio
from mcp.server.mcpserver import MCPServer

server = MCPServer("bare", log_level="WARNING")
released = anyio.Event()


@server.tool()
async def ollama_chat(prompt: str, model: str = "") -> str:
    """Answer a prompt; `held` once it may."""
    if prompt == "held":
        await released.wait()
    return prompt


@server.tool()
async def release() -> str:
    """Let all calls be answered, now and from now on."""
    released.set()
    return "released"


server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
