"""A server that has upstreams, and tools beside ours: `host.py own|foreign stdio|PORT`; settings as usual."""

import sys
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from servers import add_tools

from ollama_mcp import App, create_server, ollama_rag_query, register, sources
from ollama_mcp.errors import InvalidArgument
from ollama_mcp.settings import load

EACH_S = 3.0
"""Seconds that a tool has here, so that a test need not wait for half a minute."""


def make_host(app: App, kind: str) -> MCPServer[Any]:
    host: MCPServer[Any]
    host = (
        create_server(app)
        if kind == "own"
        else MCPServer("host", lifespan=app.lifespan, log_level="CRITICAL")
    )
    add_tools(host)

    @host.tool(annotations=ToolAnnotations(read_only_hint=True))
    async def recurses(query: str, ctx: Context[Any, Any]) -> str:
        try:
            return str(await ollama_rag_query(app, query, context_tools=["rows", "up__rows"], ctx=ctx))
        except InvalidArgument as error:
            raise ToolError(str(error)) from None

    if kind == "foreign":
        register(host, app, context_tools=["read-only"])
    return host


if __name__ == "__main__":
    sources.gather.__defaults__ = (EACH_S,)
    app = App.create(load())
    kind, where = sys.argv[1:]
    host = make_host(app, kind)
    if kind == "foreign":
        host.run("stdio") if where == "stdio" else host.run("streamable-http", port=int(where))
    elif where == "stdio":
        from ollama_mcp.transports.stdio import run_stdio

        sys.exit(run_stdio(host, on_stop=app.aclose))
    else:
        from ollama_mcp.transports import http

        access, _ = http.listen(app.settings)
        sys.exit(
            http.run_http(http.http_app(host, app), http.open_sockets(("127.0.0.1", int(where))), access)
        )
