"""Record what your Ollama answers, once, and test against that without it.

Run it: `python examples/cassette.py`. It needs no Ollama: a fake one stands for yours. From a shell:
`python -m ollama_mcp.testing record --to DIR`, and later `python -m ollama_mcp.testing --replay DIR`.
"""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from ollama_mcp import App, OllamaError, ollama_chat
from ollama_mcp.settings import load
from ollama_mcp.testing import FakeOllama, Recorder, Script


async def ask(ollama_host: str, question: str) -> str:
    """What you would test: anything that speaks to Ollama."""
    async with App.create(load({"OLLAMA_HOST": ollama_host})) as app:
        return await ollama_chat(app, question, model="llama3.2:3b")


async def record(folder: Path) -> str:
    async with FakeOllama() as yours, Recorder(yours.url, folder) as recorder:
        yours.script(Script(tokens=["Rye, ", "water, ", "time."]))
        answer = await ask(recorder.url, "What is in rye bread?")
    print("recorded:", ", ".join(file.name for file in recorder.written))
    return answer


async def main(folder: Path) -> None:
    answer = await record(folder)

    # From here on there is no Ollama.
    async with FakeOllama() as fake:
        fake.replay_all(folder)
        assert await ask(fake.url, "What is in rye bread?") == answer == "Rye, water, time."
        try:
            await ask(fake.url, "What is in wheat bread?")
        except OllamaError as error:
            print("not recorded:", error)
            assert "differs in messages" in str(error)
        else:
            raise AssertionError("an answer that was never recorded")


with TemporaryDirectory() as folder:
    asyncio.run(main(Path(folder)))
