"""`python -m ollama_mcp` is the command `ollama-mcp`."""

from ollama_mcp.cli import main

raise SystemExit(main())
