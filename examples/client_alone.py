"""Only the client, without MCP: list the models, stream a chat, and catch what can go wrong.

Run it: `python examples/client_alone.py`. It needs no Ollama: a fake one answers.
"""

import asyncio
import sys

from ollama_mcp import OllamaClient, OllamaError
from ollama_mcp.ollama.api_models import ChatRequest, Message
from ollama_mcp.ollama.endpoints import CHAT, TAGS
from ollama_mcp.testing import FakeOllama, Script


async def ask(client: OllamaClient, model: str, question: str) -> str:
    request = ChatRequest(model=model, messages=[Message(role="user", content=question)])
    heard: list[str] = []
    async with client.stream(CHAT, request) as chunks:  # leaving early stops the model
        async for chunk in chunks:
            print(chunk.text, end="", flush=True)
            heard.append(chunk.text)
    print()
    return "".join(heard)


async def main() -> None:
    async with FakeOllama() as fake, OllamaClient(fake.url) as client:
        models = (await client.call(TAGS)).models
        print("installed:", ", ".join(model.name for model in models))

        fake.script(Script(tokens=["Bread ", "wants ", "air."]))
        assert await ask(client, models[0].name, "How do I keep bread fresh?") == "Bread wants air."

        try:
            await ask(client, "bread:7b", "How do I keep bread fresh?")
        except OllamaError as error:
            print(error)
            assert error.code == "MODEL_NOT_FOUND"
            assert not error.retryable

    assert "mcp" not in sys.modules, "the client alone must not cost the import of mcp"


asyncio.run(main())
