"""A server of Ollama's API, without the models: sockets, HTTP, Go's JSON, checks, listings, records.

What the models say is a back end's, of which there are two: the scripted one of `ollama_mcp.testing` and
llama.cpp in `ollama_mcp.embedded`. Only the standard library is used.

    http_connections → routes.answer(backend, …) → a ModelBackend's records → api_answers.RecordFramer
"""
