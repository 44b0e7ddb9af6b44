"""The official `ollama` package against the fake: a program of yours is tested without a model.

Run it: `python examples/official_client.py` (`pip install ollama`).
"""

# pyright: basic
import asyncio

from ollama import AsyncClient, Client, ResponseError

from ollama_mcp.testing import FakeOllama, Script

HI = [{"role": "user", "content": "Hi"}]


def in_a_plain_program(fake: FakeOllama) -> None:
    client = Client(host=fake.url)
    fake.script("Hello from the fake.")
    assert client.chat(model="llama3.2:3b", messages=HI).message.content == "Hello from the fake."
    assert fake.last.json["messages"] == HI

    fake.script(Script(tool_calls=[{"function": {"name": "add", "arguments": {"a": 1, "b": 2}}}]))
    calls = client.chat(model="llama3.2:3b", messages=HI).message.tool_calls or []
    assert [call.function.name for call in calls] == ["add"]

    fake.busy()
    try:
        client.chat(model="llama3.2:3b", messages=HI)
    except ResponseError as error:
        assert error.status_code == 503

    bread, fresh, violin = client.embed(
        model="nomic-embed-text", input=["bread", "fresh bread", "violin"]
    ).embeddings
    assert sum(a * b for a, b in zip(bread, fresh, strict=True)) > sum(
        a * b for a, b in zip(bread, violin, strict=True)
    )


async def in_an_asynchronous_one(fake: FakeOllama) -> None:
    fake.script(Script(tokens=["One ", "two ", "three."]))
    stream = await AsyncClient(host=fake.url).chat(model="llama3.2:3b", messages=HI, stream=True)
    assert [part.message.content async for part in stream][:3] == ["One ", "two ", "three."]


def main() -> None:
    with FakeOllama.in_thread() as fake:
        in_a_plain_program(fake)
        asyncio.run(in_an_asynchronous_one(fake))
    print("the official client was answered by the fake")


if __name__ == "__main__":
    main()
