"""Write the generated parts of README.md, or check that they are what the code says.

python scripts/docs.py            # write
python scripts/docs.py --check    # exit 1 if they differ
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from pathlib import Path

from ollama_mcp import App, create_server
from ollama_mcp.settings import FIELDS, Settings
from ollama_mcp.tools import TOOLSETS

README = Path(__file__).resolve().parent.parent / "README.md"


def tools_table() -> str:
    """Every tool with its parameters."""
    server = create_server(App.create(Settings(toolsets=("all",))))
    published = {tool.name: tool for tool in asyncio.run(server.list_tools())}
    rows = ["| toolset | tool | what it does | parameters |", "|---|---|---|---|"]
    for toolset in TOOLSETS.values():
        for tool in toolset:
            entry = published[tool.name]
            names = ", ".join(f"`{name}`" for name in entry.input_schema["properties"])
            rows.append(f"| {toolset.name} | `{tool.name}` | {entry.description} | {names} |")
    return "\n".join(rows)


def settings_table() -> str:
    """Every setting with its name in the file and its default."""
    rows = ["| variable | in the file | default | |", "|---|---|---|---|"]
    for entry in FIELDS:
        key = f"`{entry.key}`" if entry.key else ""
        default = f"`{entry.default}`" if entry.default else ""
        rows.append(f"| `{entry.variable}` | {key} | {default} | {entry.says} |")
    return "\n".join(rows)


def generated(text: str) -> str:
    """The text of README with its tables made anew."""
    for name, table in (("tools", tools_table()), ("settings", settings_table())):
        pattern = rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)"
        text = re.sub(pattern, lambda m, t=table: f"{m[1]}{t}\n{m[2]}", text, flags=re.DOTALL)
    return text


def main() -> int:
    """Do what argv says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    text = README.read_text(encoding="utf-8")
    wanted = generated(text)
    if arguments.check and wanted != text:
        print("README.md is not what the code says: run python scripts/docs.py", file=sys.stderr)
        return 1
    if not arguments.check:
        README.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
