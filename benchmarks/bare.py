"""A server of the SDK with one tool that does nothing: what starting and answering cost at least."""

from mcp.server.mcpserver import MCPServer

server = MCPServer("bare", log_level="WARNING")


@server.tool()
async def ollama_chat(prompt: str, model: str = "") -> str:
    """Answer a prompt."""
    return prompt


server.run()
