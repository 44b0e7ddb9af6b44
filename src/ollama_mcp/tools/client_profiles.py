"""Profiles of MCP clients: how long each waits for a call, and how much of a result its model sees.

The one table to mend when a client changes. Seconds are those after which a call should have
returned. Clients that count from the last progress wait longer, but only for calls that carry a
progressToken; those that count from the start of the call do so whatever we report.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class PageSize:
    """Size of the part of a result that reaches the model, in the unit that its client counts, or in both."""

    chars: int = sys.maxsize
    bytes: int = sys.maxsize

    @property
    def widest(self) -> int:
        """The most characters that can fit."""
        return min(self.chars, self.bytes)

    def holds(self, text: str) -> bool:
        """Return whether all of a text fits."""
        return len(text) <= self.chars and len(text) <= self.bytes and _bytes(text) <= self.bytes

    def beside(self, text: str) -> PageSize:
        """Return the size that is left beside a text; always some, so that a page makes headway."""
        return PageSize(max(self.chars - len(text), 1), max(self.bytes - _bytes(text), 4))

    def fitting(self, text: str) -> int:
        """Return how many characters of a text fit, from its beginning.

        >>> PageSize(bytes=5).fitting("äöü"), PageSize(chars=2).fitting("äöü")
        (2, 2)
        """
        start = text[: self.widest]
        if _bytes(start) <= self.bytes:
            return len(start)
        return len(start.encode(errors="surrogatepass")[: self.bytes].decode(errors="ignore"))


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))


@dataclass(frozen=True)
class ClientProfile:
    """Deadlines and page size of an MCP client.

    Attributes:
        name: How its name in `clientInfo` begins, in lower case.
        silent_s: Deadline of a call that carries no progressToken.
        reported_s: Deadline of a call that does.
        page: What of one result its model is shown.
    """

    name: str
    silent_s: float
    reported_s: float
    page: PageSize


_LONG_S = 900.0
"""For those that wait as long as there is progress; a person may not."""
_LARGE = PageSize(chars=100_000)
_COPILOT = PageSize(bytes=20_000)

DEFAULT_PROFILE = ClientProfile("", 50, 50, PageSize(bytes=20_000))
"""Any other: as those that give up after a minute whatever happens, and show the least."""

CLIENTS = (
    #             clientInfo.name           silent  reported  page
    ClientProfile("claude-ai",                  50,       50, _LARGE),  # Claude Desktop: 60 s, hard
    ClientProfile("claude-code",                50,  _LONG_S, PageSize(48_000, 48_000)),  # above: a file
    ClientProfile("codex-mcp-client",          280,      280, PageSize(chars=40_000)),  # 300 s, hard
    ClientProfile("opencode",                   50,  _LONG_S, PageSize(chars=40_000)),  # 60 s of silence
    ClientProfile("copilot-cli",               160,  _LONG_S, _COPILOT),  # 180 s of silence; above: a file
    ClientProfile("github-copilot-developer",  160,  _LONG_S, _COPILOT),  # the same, under its older name
    ClientProfile("gemini-cli-mcp-client",     160,  _LONG_S, PageSize(chars=39_000)),  # none seen at 200 s
    ClientProfile("visual studio code",         50,  _LONG_S, _LARGE),
)  # fmt: skip


def client_profile(name: str) -> ClientProfile:
    """The row of a client by its name in `clientInfo`, which may go on (`gemini-cli-mcp-client-ollama`).

    >>> client_profile("claude-ai").silent_s, client_profile("Visual Studio Code - Insiders").reported_s
    (50, 900.0)
    """
    lowered = name.strip().lower()
    return next((client for client in CLIENTS if lowered.startswith(client.name)), DEFAULT_PROFILE)
