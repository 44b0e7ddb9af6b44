"""Our server over aiohttp instead of httpcore: `App.create(transport=…)` takes any transport of httpx."""

from httpx_aiohttp import AiohttpTransport

from ollama_mcp import App, create_server
from ollama_mcp.transports.stdio import run_stdio

app = App.create(transport=AiohttpTransport(verify=False))
raise SystemExit(run_stdio(create_server(app), on_stop=app.aclose))
