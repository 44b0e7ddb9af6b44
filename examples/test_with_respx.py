"""Our client with respx in the place of the network: for exact answers, and for failures of HTTP.

Run it: `pytest examples/test_with_respx.py`, with respx installed. A tool asks Ollama for its models
before it asks a model, so for tools the fake of test_with_fake.py is shorter.
"""

import json

import httpx
import pytest
import respx

from ollama_mcp import App, OllamaClient, ollama_list_models
from ollama_mcp.errors import RateLimited, Unreachable
from ollama_mcp.ollama.api_models import ChatRequest, Message, Options
from ollama_mcp.ollama.endpoints import CHAT, TAGS
from ollama_mcp.settings import load

pytestmark = pytest.mark.anyio
URL = "http://ollama.test:11434"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_an_answer_is_streamed(respx_mock: respx.MockRouter) -> None:
    lines = [
        {"message": {"role": "assistant", "content": "Bread "}, "done": False},
        {"message": {"role": "assistant", "content": "rises"}, "done": True, "done_reason": "stop"},
    ]
    route = respx_mock.post(f"{URL}/api/chat")
    route.respond(
        text="".join(json.dumps(line) + "\n" for line in lines), content_type="application/x-ndjson"
    )
    question = Message(role="user", content="A headline!")
    request = ChatRequest(model="qwen3:8b", messages=[question], options=Options(temperature=0.0))
    async with OllamaClient(URL) as client, client.stream(CHAT, request) as chunks:
        assert "".join([chunk.text async for chunk in chunks]) == "Bread rises"
    assert json.loads(route.calls.last.request.content)["model"] == "qwen3:8b"


async def test_a_limit_says_when_to_try_again(respx_mock: respx.MockRouter) -> None:
    respx_mock.get(f"{URL}/api/tags").respond(429, headers={"Retry-After": "7"})
    async with OllamaClient(URL) as client:
        with pytest.raises(RateLimited) as limited:
            await client.call(TAGS)
    assert limited.value.retry_after_s == 7


async def test_a_server_that_is_not_there_is_unreachable(respx_mock: respx.MockRouter) -> None:
    respx_mock.get(f"{URL}/api/tags").mock(side_effect=httpx.ConnectError)
    async with OllamaClient(URL) as client:
        with pytest.raises(Unreachable, match="ollama serve"):
            await client.call(TAGS)


@pytest.mark.respx(base_url=URL)
async def test_a_tool_goes_the_same_way(respx_mock: respx.MockRouter) -> None:
    respx_mock.get("/api/tags").respond(json={"models": [{"name": "qwen3:8b"}]})
    respx_mock.post("/api/show").respond(json={"capabilities": ["completion"]})
    respx_mock.get("/api/ps").respond(json={"models": []})
    app = App.create(load({"OLLAMA_HOST": URL}))
    async with app.lifespan():
        (row,) = await ollama_list_models(app)
    assert row.info.name == "qwen3:8b"
    assert row.model.capabilities == {"completion"}
