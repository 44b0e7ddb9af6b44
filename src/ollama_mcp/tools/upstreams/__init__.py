"""Upstreams: tools of other MCP servers, as a source of context.

`child_process` runs a server on stdio, `connection` makes a client of it, `source` lists and calls its tools.
"""
