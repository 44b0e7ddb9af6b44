"""MCP over the standard streams: our own loop around the SDK's sessions (`serving` says why)."""

from ollama_mcp.transports.stdio.serve_stdio import run_stdio

__all__ = ["run_stdio"]
