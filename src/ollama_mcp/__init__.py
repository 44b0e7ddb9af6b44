"""Local models for every MCP client and every MCP server: Ollama's API as well-behaved MCP tools.

What most programs need is importable from here, and loaded at first use: `OllamaClient` does not cost the
import of mcp. The rest of what is public:

    ollama_mcp.settings             load(environment) -> Settings; SettingsError, Backend, Timeouts
    ollama_mcp.ollama.endpoints     a row for each endpoint, for the client: CHAT, TAGS, EMBED …
    ollama_mcp.ollama.api_models    their requests and answers: ChatRequest, Message, Options …
    ollama_mcp.errors               the tree of failures under OllamaError
    ollama_mcp.testing              a server that is not there: FakeOllama, Script, Model, Recorder …

Other modules can change with any version.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ollama_mcp.app import App as App
    from ollama_mcp.client import OllamaClient as OllamaClient
    from ollama_mcp.errors import OllamaError as OllamaError
    from ollama_mcp.jobs.job import StillRunning as StillRunning
    from ollama_mcp.server import create_server as create_server
    from ollama_mcp.server import offer as offer
    from ollama_mcp.server import register as register
    from ollama_mcp.settings import Backend as Backend
    from ollama_mcp.settings import Settings as Settings
    from ollama_mcp.tools.resources import complete_models as complete_models
    from ollama_mcp.tools.tasks import Tasks as Tasks
    from ollama_mcp.transports.http import http_app as http_app

if TYPE_CHECKING:
    # generated: imports
    from ollama_mcp.tools.agent import ollama_agent as ollama_agent
    from ollama_mcp.tools.chat import ollama_cancel as ollama_cancel
    from ollama_mcp.tools.chat import ollama_chat as ollama_chat
    from ollama_mcp.tools.chat import ollama_compare as ollama_compare
    from ollama_mcp.tools.chat import ollama_continue as ollama_continue
    from ollama_mcp.tools.chat import ollama_generate as ollama_generate
    from ollama_mcp.tools.embeddings import ollama_embeddings as ollama_embeddings
    from ollama_mcp.tools.embeddings import ollama_rank as ollama_rank
    from ollama_mcp.tools.files import ollama_map_files as ollama_map_files
    from ollama_mcp.tools.manage import ollama_copy_model as ollama_copy_model
    from ollama_mcp.tools.manage import ollama_create_model as ollama_create_model
    from ollama_mcp.tools.manage import ollama_delete_model as ollama_delete_model
    from ollama_mcp.tools.manage import ollama_pull_model as ollama_pull_model
    from ollama_mcp.tools.manage import ollama_push_model as ollama_push_model
    from ollama_mcp.tools.models import ollama_list_models as ollama_list_models
    from ollama_mcp.tools.models import ollama_load_model as ollama_load_model
    from ollama_mcp.tools.models import ollama_show_model as ollama_show_model
    from ollama_mcp.tools.models import ollama_status as ollama_status
    from ollama_mcp.tools.models import ollama_unload_model as ollama_unload_model
    from ollama_mcp.tools.rag import ollama_rag_query as ollama_rag_query
    from ollama_mcp.tools.storage import ollama_collections as ollama_collections
    from ollama_mcp.tools.storage import ollama_conversations as ollama_conversations
    from ollama_mcp.tools.storage import ollama_forget as ollama_forget
    from ollama_mcp.tools.storage import ollama_index as ollama_index
    from ollama_mcp.tools.storage import ollama_search as ollama_search
    from ollama_mcp.tools.web import ollama_web_fetch as ollama_web_fetch
    from ollama_mcp.tools.web import ollama_web_search as ollama_web_search

    # end

__version__ = "0.1.0"

_ROOMS = {
    "App": "app",
    "Backend": "settings",
    "OllamaClient": "client",
    "OllamaError": "errors",
    "Settings": "settings",
    "StillRunning": "jobs.job",
    "Tasks": "tools.tasks",
    "complete_models": "tools.resources",
    "create_server": "server",
    "http_app": "transports.http",
    "offer": "server",
    # generated: modules
    "ollama_agent": "tools.agent",
    "ollama_cancel": "tools.chat",
    "ollama_chat": "tools.chat",
    "ollama_collections": "tools.storage",
    "ollama_compare": "tools.chat",
    "ollama_continue": "tools.chat",
    "ollama_conversations": "tools.storage",
    "ollama_copy_model": "tools.manage",
    "ollama_create_model": "tools.manage",
    "ollama_delete_model": "tools.manage",
    "ollama_embeddings": "tools.embeddings",
    "ollama_forget": "tools.storage",
    "ollama_generate": "tools.chat",
    "ollama_index": "tools.storage",
    "ollama_list_models": "tools.models",
    "ollama_load_model": "tools.models",
    "ollama_map_files": "tools.files",
    "ollama_pull_model": "tools.manage",
    "ollama_push_model": "tools.manage",
    "ollama_rag_query": "tools.rag",
    "ollama_rank": "tools.embeddings",
    "ollama_search": "tools.storage",
    "ollama_show_model": "tools.models",
    "ollama_status": "tools.models",
    "ollama_unload_model": "tools.models",
    "ollama_web_fetch": "tools.web",
    "ollama_web_search": "tools.web",
    # end
    "register": "server",
}

__all__ = [
    "App",
    "Backend",
    "OllamaClient",
    "OllamaError",
    "Settings",
    "StillRunning",
    "Tasks",
    "__version__",
    "complete_models",
    "create_server",
    "http_app",
    "offer",
    # generated: names
    "ollama_agent",
    "ollama_cancel",
    "ollama_chat",
    "ollama_collections",
    "ollama_compare",
    "ollama_continue",
    "ollama_conversations",
    "ollama_copy_model",
    "ollama_create_model",
    "ollama_delete_model",
    "ollama_embeddings",
    "ollama_forget",
    "ollama_generate",
    "ollama_index",
    "ollama_list_models",
    "ollama_load_model",
    "ollama_map_files",
    "ollama_pull_model",
    "ollama_push_model",
    "ollama_rag_query",
    "ollama_rank",
    "ollama_search",
    "ollama_show_model",
    "ollama_status",
    "ollama_unload_model",
    "ollama_web_fetch",
    "ollama_web_search",
    # end
    "register",
]


def __getattr__(name: str) -> Any:
    room = _ROOMS.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{room}"), name)


def __dir__() -> list[str]:
    return list(__all__)
