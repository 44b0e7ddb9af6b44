"""Replies: what is being generated now, kept strongly until it ends, in whichever call or loop."""

from __future__ import annotations

from ollama_mcp.replies.kept import Retention
from ollama_mcp.replies.registry import Replies
from ollama_mcp.replies.reply import InputRequired, Part, Reply, State, StillRunning

__all__ = ["InputRequired", "Part", "Replies", "Reply", "Retention", "State", "StillRunning"]
