"""The published definition of every tool, a file each.

`python tests/snapshots/accept.py` writes them anew: clients cache and permit tools by what stands in
these files, so a change is looked at and accepted by hand.
"""

import asyncio
import json
from pathlib import Path

from mcp.client import Client

from ollama_mcp import App, create_server
from ollama_mcp.settings import load

HERE = Path(__file__).parent


async def definitions(mode: str = "legacy") -> dict[str, str]:
    """Each tool's definition as a client sees it, as JSON text, by name and in order."""
    settings = load({"OLLAMA_MCP_TOOLSETS": "all", "OLLAMA_MCP_STORE": str(HERE / "none")})
    async with Client(create_server(App.create(settings)), mode=mode) as client:
        listed = (await client.list_tools()).tools
    return {tool.name: _written(tool.model_dump(by_alias=True, exclude_none=True)) for tool in listed}


def _written(definition: dict) -> str:
    for schema in definition.keys() & {"inputSchema", "outputSchema"}:
        definition[schema] = {"type": "object", **definition[schema]}  # the modes differ in where it stands
    return json.dumps(definition, indent=2, ensure_ascii=False) + "\n"


def accepted() -> dict[str, str]:
    """What was accepted."""
    return {path.stem: path.read_text(encoding="utf-8") for path in HERE.glob("*.json")}


def main() -> None:
    """Accept what is published now."""
    published = asyncio.run(definitions())
    for name in accepted().keys() - published.keys():
        (HERE / f"{name}.json").unlink()
    for name, text in published.items():
        (HERE / f"{name}.json").write_text(text, encoding="utf-8")
        print(f"accepted {name}, {len(text)} bytes")


if __name__ == "__main__":
    main()
