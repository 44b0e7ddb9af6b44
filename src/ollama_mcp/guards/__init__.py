"""Guards: how often a caller may call (`rate`), how many at once (`gate`), what they hold (`claims`)."""

from __future__ import annotations

from ollama_mcp.guards.claims import Claim, give_back, size_at_hand, working
from ollama_mcp.guards.gate import TRANSFERS, Gate, LineStatistics, Ticket
from ollama_mcp.guards.rate import Rate, RateLimit, parse_rates, written

__all__ = [
    "TRANSFERS",
    "Claim",
    "Gate",
    "LineStatistics",
    "Rate",
    "RateLimit",
    "Ticket",
    "give_back",
    "parse_rates",
    "size_at_hand",
    "working",
    "written",
]
