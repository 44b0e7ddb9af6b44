"""What every test shares."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """The one event loop that we run on."""
    return "asyncio"
