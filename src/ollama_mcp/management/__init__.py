"""Managing the models of an Ollama server. Everything here changes the server, or says what it holds.

What cannot be taken back wants a `Confirmation`; whoever has none gets `NotConfirmed`, which says what
to confirm. Asking somebody is the business of the rings above.
"""

from ollama_mcp.management.confirmation import Confirmation
from ollama_mcp.management.creation import Creation, creation
from ollama_mcp.management.shelf import Copied, Deleted, Loaded, Shelf, Unloaded
from ollama_mcp.management.summary import Summary
from ollama_mcp.management.transfers import Transferred, Transfers

__all__ = [
    "Confirmation",
    "Copied",
    "Creation",
    "Deleted",
    "Loaded",
    "Shelf",
    "Summary",
    "Transferred",
    "Transfers",
    "Unloaded",
    "creation",
]
