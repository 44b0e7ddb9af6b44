"""The pytest plugin: a fixture `fake_ollama`. Everything is imported inside, since every run loads it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ollama_mcp.testing.fake import FakeOllama


@pytest.fixture
def fake_ollama() -> Iterator[FakeOllama]:
    """A fake Ollama on its own port and in its own thread, for tests of any kind."""
    from ollama_mcp.testing.fake import FakeOllama  # noqa: PLC0415  (only when a test asks for it)

    with FakeOllama.in_thread() as fake:
        yield fake
