"""What is known of MCP clients: how long each waits for a call, and how much of a result its model sees.

The one table to mend when a client changes. Seconds are those after which a call should have
returned. Clients that count from the last progress wait longer, but only for calls that carry a
progressToken; those that count from the start of the call do so whatever we report. A page is what
of one result reaches the model, in characters.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Client:
    """One kind of client.

    Attributes:
        name: How its name in `clientInfo` begins, in lower case.
        silent_s: Deadline of a call that carries no progressToken.
        reported_s: Deadline of a call that does.
        page: Characters of one result that its model is shown.
    """

    name: str
    silent_s: float
    reported_s: float
    page: int = 100_000


_LONG_S = 900.0
"""For those that wait as long as there is progress; a person may not."""

UNKNOWN = Client("", 50, 50)
"""Any other: as those that give up after a minute whatever happens."""

CLIENTS = (
    #      clientInfo.name              silent  with progress  page
    Client("claude-ai",                     50,            50),           # Claude Desktop: 60 s, hard
    Client("claude-code",                   50,       _LONG_S,  80_000),  # shows 25,000 tokens
    Client("codex-mcp-client",             280,           280,  40_000),  # 300 s, hard
    Client("opencode",                      50,       _LONG_S,  40_000),  # 60 s since the last progress
    Client("github-copilot-developer",     160,       _LONG_S,  40_000),  # Copilot CLI: 180 s since then
    Client("gemini-cli-mcp-client",        160,       _LONG_S,  40_000),  # none seen at 200 s
    Client("visual studio code",            50,       _LONG_S),
)  # fmt: skip


def client_named(name: str) -> Client:
    """The row of a client by its name in `clientInfo`, which may go on (`gemini-cli-mcp-client-ollama`).

    >>> client_named("claude-ai").silent_s, client_named("Visual Studio Code - Insiders").reported_s
    (50, 900.0)
    """
    lowered = name.strip().lower()
    return next((client for client in CLIENTS if lowered.startswith(client.name)), UNKNOWN)
