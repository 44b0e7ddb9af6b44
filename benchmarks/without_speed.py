"""Our server as it is without the extra `speed`: what the extra brings."""

import sys

sys.modules["aiohttp"] = None  # type: ignore[assignment] - None: it is not found

from ollama_mcp.cli import main  # noqa: E402 - after that

raise SystemExit(main())
