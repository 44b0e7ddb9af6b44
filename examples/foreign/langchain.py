# /// script
# dependencies = ["langchain-ollama>=0.3", "ollama-mcp"]
# ///
"""LangChain against the fake: a chain of yours is tested without a model.

Run it where both are installed: `python examples/foreign/langchain.py`.
"""

from langchain_ollama import ChatOllama, OllamaEmbeddings

from ollama_mcp.testing import FakeOllama


def main() -> None:
    with FakeOllama.in_thread() as fake:
        fake.script("Bread needs flour.")
        model = ChatOllama(model="llama3.2:3b", base_url=fake.url)
        assert model.invoke("What does bread need?").content == "Bread needs flour."
        assert fake.last.json["messages"][-1]["content"] == "What does bread need?"

        vectors = OllamaEmbeddings(model="nomic-embed-text", base_url=fake.url)
        assert len(vectors.embed_query("bread")) == 768
    print("LangChain was answered by the fake")


if __name__ == "__main__":
    main()
