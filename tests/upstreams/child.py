"""An upstream as a process of its own: `child.py KIND [PORT]`. It writes its pid and its children's to $PIDS.

normal; stubborn: ignores EOF and SIGTERM, and so does its own child; parent: its own child outlives it;
noisy: prints to stdout; dies_on_discover: knows only the handshake; exits: says why, and ends.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

kind, port = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0
SLEEP = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
pids = [os.getpid()]
if kind == "exits":
    print(f"no such database: {os.environ.get('KEY')}", file=sys.stderr)
    sys.exit(2)
if kind == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=time.sleep, args=[600]).start()
if kind in ("stubborn", "parent"):
    pids.append(
        subprocess.Popen(
            [sys.executable, "-c", SLEEP if kind == "stubborn" else "import time; time.sleep(600)"]
        ).pid
    )
if "PIDS" in os.environ:
    with Path(os.environ["PIDS"]).open("a") as file:
        file.write("".join(f"{pid}\n" for pid in pids))
if kind == "noisy":
    print("Welcome!", flush=True)
if kind == "dies_on_discover":  # by hand: the SDK's server knows every version
    answers = {
        "initialize": {
            "protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
            "serverInfo": {"name": "old", "version": "1"},
        },
        "tools/list": {
            "tools": [
                {"name": "rows", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}}
            ]
        },
    }  # fmt: skip
    for line in sys.stdin:
        request = json.loads(line)
        if "id" in request:
            answer = answers.get(request["method"]) or sys.exit(3)
            print(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": answer}), flush=True)
    sys.exit()

from mcp.server.mcpserver.exceptions import ToolError  # noqa: E402
from mcp_types import ToolAnnotations  # noqa: E402
from servers import make_server  # noqa: E402

from ollama_mcp import App, ollama_rag_query  # noqa: E402
from ollama_mcp.errors import InvalidArgument  # noqa: E402

server = make_server()


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def environment(query: str) -> list[dict[str, str]]:
    return [{"title": name, "text": value} for name, value in os.environ.items()]


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def dies(query: str) -> str:
    print("I die of it", file=sys.stderr, flush=True)
    os._exit(9)


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
async def recurses(query: str) -> str:
    async with App.create() as app:
        try:
            return str(await ollama_rag_query(app, query, context_tools=["up__rows"]))
        except InvalidArgument as error:
            raise ToolError(str(error)) from None


if port:
    server.run("streamable-http", port=port)
else:
    server.run("stdio")
