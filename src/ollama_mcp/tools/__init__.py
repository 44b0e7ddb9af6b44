"""The MCP face: one function a tool, grouped in toolsets. No logic lives here."""

from __future__ import annotations

from ollama_mcp.tools.agent import agent
from ollama_mcp.tools.chat import chat
from ollama_mcp.tools.embeddings import embeddings
from ollama_mcp.tools.files import files
from ollama_mcp.tools.manage import manage
from ollama_mcp.tools.models import models
from ollama_mcp.tools.rag import rag
from ollama_mcp.tools.storage import storage
from ollama_mcp.tools.toolset import Toolset
from ollama_mcp.tools.web import web

TOOLSETS: dict[str, Toolset] = {
    toolset.name: toolset for toolset in (chat, embeddings, models, rag, storage, agent, manage, files, web)
}
"""Every toolset by its name, in the order in which clients see them."""

BYPASSES_QUEUE = frozenset(
    tool.name for toolset in TOOLSETS.values() for tool in toolset if tool.bypasses_queue
)
"""Names of the tools that never wait for a model's turn."""
