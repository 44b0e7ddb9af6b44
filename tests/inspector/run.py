"""MCP Inspector's command line in front of our server: `run.py NODE`, a Node of 22.19 or newer.

Both eras on stdio and over HTTP, in front of a fake Ollama. `--strict` fails for a tool's schema that
some client could not take; every other call must give what is expected of it.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
INSPECTOR = HERE / "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js"
COMMAND = Path(sys.executable).with_name("ollama-mcp")
ERAS = ("legacy", "modern")
PATIENCE = 120
"""Seconds for one call, most of which is the start of two processes."""


@contextmanager
def running(*command: str, said: str, on: str, **environment: str) -> Iterator[str]:
    """A process, once a line of its stdout or stderr has matched; gives the first group of it."""
    with subprocess.Popen(command, env=environment, text=True, **{on: subprocess.PIPE}) as process:
        try:
            lines = iter(getattr(process, on).readline, "")
            yield next(found[1] for line in lines if (found := re.search(said, line)))
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE)


def inspect(node: str, era: str, target: list[str], *method: str) -> Any:
    """One call of the Inspector, which must end well; returns the JSON that it prints."""
    options = ["--protocol-era", era, "--method", *method]
    command = [node, str(INSPECTOR), "--cli", *target, *options]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert run.returncode == 0, (command, run.returncode, run.stdout[-1000:], run.stderr[-3000:])
    return json.loads(run.stdout)


def examine(node: str, era: str, target: list[str]) -> None:
    """What a client asks for first, and one answer of a model."""
    tools = inspect(node, era, target, "tools/list", "--strict")["tools"]
    assert "ollama_chat" in {tool["name"] for tool in tools}
    said = inspect(node, era, target, "tools/call", "--tool-name", "ollama_chat", "--tool-arg", "prompt=hi")
    assert not said.get("isError"), said
    assert said["content"][0]["text"]
    resources = inspect(node, era, target, "resources/list")["resources"]
    assert resources, "no resources"
    assert inspect(node, era, target, "resources/read", "--uri", resources[0]["uri"])["contents"]
    assert isinstance(inspect(node, era, target, "prompts/list")["prompts"], list)


def main(node: str) -> None:
    """Everything, over both transports, in both eras."""
    plain = {"PATH": os.environ["PATH"]}
    fake = (sys.executable, "-m", "ollama_mcp.testing")
    with running(*fake, said=r"(http://\S+)", on="stdout", **plain) as host:
        stdio = [str(COMMAND), "-e", f"OLLAMA_HOST={host}", "--transport", "stdio"]
        served = (str(COMMAND), "serve", "--http", "127.0.0.1:0")
        with running(*served, said=r"(http://\S+/mcp)", on="stderr", OLLAMA_HOST=host, **plain) as url:
            for era in ERAS:
                for name, target in (("stdio", stdio), ("HTTP", [url, "--transport", "http"])):
                    examine(node, era, target)
                    print(f"{name}, {era}: as it should be")


if __name__ == "__main__":
    main(sys.argv[1])
