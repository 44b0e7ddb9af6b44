"""The same request made directly with httpx, in the clothes of a server: what a call costs without one."""

import asyncio
import json
import os
import sys

import httpx

REQUEST = {"model": "llama3.2:3b", "messages": [{"role": "user", "content": "Hi"}]}


async def ask(http: httpx.AsyncClient) -> str:
    """One chat."""
    async with http.stream("POST", os.environ["OLLAMA_HOST"] + "/api/chat", json=REQUEST) as response:
        return "".join([json.loads(line)["message"]["content"] async for line in response.aiter_lines()])


async def main() -> None:
    """Answer each line with an id, whatever it asks, with a chat."""
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        for line in sys.stdin:
            call = json.loads(line)
            if "id" in call:
                result = {"content": [{"type": "text", "text": await ask(http)}]}
                print(json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": result}), flush=True)


asyncio.run(main())
