"""Ollama's API as data: endpoints, requests and answers, options, model names, hosts.

Nothing here opens a connection. An endpoint is a row in `endpoints`; its request and its answer are
classes in `api_models`.

    from ollama_mcp.ollama.endpoints import CHAT
    from ollama_mcp.ollama.api_models import ChatRequest
"""
