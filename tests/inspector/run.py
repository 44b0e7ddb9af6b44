"""MCP Inspector's command line in front of our server: `run.py NODE`, a Node of 22.19 or newer.

Both eras on stdio and over HTTP, in front of a fake Ollama. `--strict` fails for a tool's schema that
some client could not take, and warnings fail here, too; every other call must give what is expected of it.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
INSPECTOR = HERE / "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js"
SNAPSHOTS = HERE.parent / "snapshots"
COMMAND = Path(sys.executable).with_name("ollama-mcp")
ERAS = ("legacy", "modern")
PATIENCE = 120
"""Seconds for one call, most of which is the start of two processes."""
EVERY_TOOL = {
    "OLLAMA_MCP_TOOLSETS": "all",
    "OLLAMA_MCP_ROOTS": str(HERE),
    "OLLAMA_MCP_STORE": str(HERE / "none"),
}


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
    """One call of the Inspector, which must end well and silently; returns the JSON that it prints."""
    options = ["--protocol-era", era, "--connect-timeout", str(PATIENCE * 1000), "--method", *method]
    command = [node, str(INSPECTOR), "--cli", *target, *options]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert run.returncode == 0, (command, run.returncode, run.stdout[-1000:], run.stderr[-3000:])
    assert not re.search(r"\d warnings? across", run.stderr), run.stderr
    return json.loads(run.stdout)


def examine(node: str, era: str, target: list[str]) -> str:
    """What a client asks for first, and one answer of a model."""
    tools = inspect(node, era, target, "tools/list", "--strict")["tools"]
    assert {tool["name"] for tool in tools} == {path.stem for path in SNAPSHOTS.glob("*.json")}
    said = inspect(node, era, target, "tools/call", "--tool-name", "ollama_chat", "--tool-arg", "prompt=hi")
    assert not said.get("isError"), said
    assert said["content"][0]["text"]
    resources = inspect(node, era, target, "resources/list")["resources"]
    assert resources, "no resources"
    assert inspect(node, era, target, "resources/read", "--uri", resources[0]["uri"])["contents"]
    assert isinstance(inspect(node, era, target, "prompts/list")["prompts"], list)
    return f"{era}, {target[0]}: {len(tools)} tools"


def main(node: str) -> None:
    """Everything, over both transports, in both eras."""
    plain = {"PATH": os.environ["PATH"], **EVERY_TOOL}
    fake = (sys.executable, "-m", "ollama_mcp.testing")
    with running(*fake, said=r"(http://\S+)", on="stdout", **plain) as host:
        settings = {"OLLAMA_HOST": host, **EVERY_TOOL}
        given = [word for setting in settings.items() for word in ("-e", "=".join(setting))]
        stdio = [str(COMMAND), *given, "--transport", "stdio"]
        served = (str(COMMAND), "serve", "--http", "127.0.0.1:0")
        with running(*served, said=r"(http://\S+/mcp)", on="stderr", OLLAMA_HOST=host, **plain) as url:
            targets = (stdio, [url, "--transport", "http"])
            _examine_all(node, [(era, target) for era in ERAS for target in targets])


def _examine_all(node: str, cases: list[tuple[str, list[str]]]) -> None:
    """Two at a time: the Inspector and our server take seconds of CPU to start; CI has two cores."""
    with ThreadPoolExecutor(2) as pool:
        for figures in pool.map(lambda case: examine(node, *case), cases):
            print(figures)


if __name__ == "__main__":
    main(sys.argv[1])
