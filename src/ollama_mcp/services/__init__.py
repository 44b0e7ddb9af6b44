"""Services: what happens around a model call, tested without MCP.

`backend` is one Ollama server as services see it: client, catalog, queue and context windows. Above it,
`generation`, `embedding`, `compare` and `web_search` answer; `model_manager`, `transfers` and `create`
change what the server holds, and want a `Confirmation` where that cannot be taken back; `files` reads
files of this machine for a model.
"""
