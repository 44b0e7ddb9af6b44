"""Guards: how often a caller may call (`rate`), and how many calls a model has at once (`gate`)."""

from __future__ import annotations

from ollama_mcp.guards.gate import TRANSFERS, Gate, LineStatistics, Ticket
from ollama_mcp.guards.rate import Rate, RateLimit, parse_rates, written

__all__ = [
    "TRANSFERS",
    "Gate",
    "LineStatistics",
    "Rate",
    "RateLimit",
    "Ticket",
    "parse_rates",
    "written",
]
