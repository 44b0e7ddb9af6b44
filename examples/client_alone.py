"""Only the client: stream a chat, without MCP. Runs against a fake Ollama, so that anybody can try it."""

import asyncio
import sys

from ollama_mcp import OllamaClient
from ollama_mcp.endpoints import CHAT, TAGS
from ollama_mcp.testing import FakeOllama, Script
from ollama_mcp.wire import ChatRequest, Message


async def main() -> None:
    async with FakeOllama() as fake, OllamaClient(fake.url) as client:
        models = (await client.call(TAGS)).models
        print("installed:", ", ".join(model.name for model in models))

        fake.script(Script(tokens=["Bread ", "wants ", "air."]))
        question = Message(role="user", content="How do I keep bread fresh?")
        request = ChatRequest(model=models[0].name, messages=[question])
        heard: list[str] = []
        async with client.stream(CHAT, request) as chunks:
            async for chunk in chunks:
                print(chunk.text, end="", flush=True)
                heard.append(chunk.text)
        print()

    assert "".join(heard) == "Bread wants air."
    assert "mcp" not in sys.modules, "the client alone must not cost the import of mcp"


asyncio.run(main())
