"""The floor: a streaming chat tool in 45 lines, without a check, a limit or an error of its own."""

import json
import os
import sys

import httpx
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("floor", log_level="WARNING")
shared: list[httpx.AsyncClient] = []


def ollama() -> httpx.AsyncClient:
    """One pool for all calls, every connection kept alive."""
    if not shared:
        most = int(os.environ.get("CONNECTIONS", "256"))
        limits = httpx.Limits(max_connections=most, max_keepalive_connections=most)
        url = os.environ["OLLAMA_HOST"]
        shared.append(
            httpx.AsyncClient(base_url=url, limits=limits, timeout=300, trust_env=False, verify=False)
        )
    return shared[0]


@server.tool()
async def ollama_chat(prompt: str, ctx: Context, model: str = "llama3.2:3b") -> str:
    """Answer a prompt, and report each token."""
    request = {"model": model, "messages": [{"role": "user", "content": prompt}], "stream": True}
    parts: list[str] = []
    async with ollama().stream("POST", "/api/chat", json=request) as response:
        if response.status_code != 200:
            raise ToolError(f"HTTP {response.status_code}")
        async for line in response.aiter_lines():
            chunk = json.loads(line)
            if "error" in chunk:
                raise ToolError(chunk["error"])
            parts.append(chunk["message"]["content"])
            await ctx.report_progress(len(parts), message=parts[-1])
    return "".join(parts)


if sys.argv[1:]:
    server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
else:
    server.run()
