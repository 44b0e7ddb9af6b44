"""Our tools over HTTP inside a web application of yours, behind a token.

Run it: `python examples/mounted.py`. It needs no Ollama: a fake one answers. In a program of yours the
ASGI server is whichever you have, such as `uvicorn your_module:web`.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx2
import uvicorn
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import TextContent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from ollama_mcp import App, create_server
from ollama_mcp.settings import load
from ollama_mcp.testing import FakeOllama
from ollama_mcp.transports.http import http_app

TOKEN = "a-secret-that-nobody-can-guess-0000"  # `openssl rand -hex 32` writes a better one


def make_web(app: App) -> Starlette:
    ollama = http_app(create_server(app), app)  # lets in whom the App's settings let in

    async def home(_: Request) -> PlainTextResponse:
        return PlainTextResponse("a site of yours")

    return Starlette(
        routes=[Route("/", home), *ollama.metadata, Mount("/ollama", ollama.application)],
        lifespan=ollama.lifespan,  # mounted, it does not run by itself; compose it with yours
    )


@asynccontextmanager
async def serving(web: Starlette) -> AsyncGenerator[str]:
    # Without the last, the first Ctrl-C would wait for calls that go on, however long they take.
    config = uvicorn.Config(web, port=0, log_level="warning", timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn tells it in no other way
        await asyncio.sleep(0.01)
    try:
        yield "http://{}:{}".format(*server.servers[0].sockets[0].getsockname())
    finally:
        server.should_exit = True
        await task


async def main() -> None:
    async with FakeOllama() as fake:
        # In your program the settings are those of the environment: App.create()
        app = App.create(load({"OLLAMA_HOST": fake.url, "OLLAMA_MCP_TOKEN": TOKEN}))
        async with serving(make_web(app)) as url, httpx2.AsyncClient() as http:
            assert (await http.get(url)).text == "a site of yours"
            stranger = await http.post(f"{url}/ollama/mcp", json={})
            print("without the token:", stranger.status_code, stranger.headers["www-authenticate"])
            assert stranger.status_code == 401

            http.headers["authorization"] = f"Bearer {TOKEN}"
            async with Client(streamable_http_client(f"{url}/ollama/mcp", http_client=http)) as client:
                answer = await client.call_tool("ollama_chat", {"prompt": "Is rye bread sour?"})
            print("with it:", answer.content)
            assert answer.content == [TextContent(text="You said: Is rye bread sour?")]


asyncio.run(main())
