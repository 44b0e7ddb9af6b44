"""Trying again, and what is remembered of a server that is down.

A request is sent again at most twice (a setting), only when nothing can have come of it: the connection was
refused, or Ollama said before the first byte that it is busy (503, 429). Never what changes the
server's models. A server that is known to be down is not waited for by every call: each tries once,
and where trying takes the connect clock, one probes and the others are told at once.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import contextmanager

from ollama_mcp.errors import OllamaError, Timeout, Unreachable

_WAITS_S = (0.2, 0.6)
"""Before the second and the third try; each is stretched by chance, so that callers spread."""
_LONGEST_WAIT_S = 5.0
"""A server that wants more patience than this gets it from the caller, who is told how much."""
_BUSY = frozenset({429, 503})


def wait_before_next(error: OllamaError, tries: int) -> float | None:
    """Seconds to wait before trying again; None where that is not right.

    Args:
        error: How the last try ended, before the first byte.
        tries: How many there were.
    """
    is_refused = isinstance(error, Unreachable) and error.retryable
    if not is_refused and error.upstream_status not in _BUSY:
        return None
    wait = _WAITS_S[min(tries, len(_WAITS_S)) - 1] * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
    if error.retry_after_s is not None:
        wait = error.retry_after_s + wait * 0.1
    return wait if wait <= _LONGEST_WAIT_S else None


class Health:
    """What the last tries on one event loop told of the server."""

    def __init__(self) -> None:
        self._down: OllamaError | None = None
        self._is_probing = False

    @property
    def is_down(self) -> bool:
        """Whether the last try that ended did not reach the server."""
        return self._down is not None

    @contextmanager
    def trying(self) -> Generator[None]:
        """Around one try to reach the server: remembers how it ended.

        Raises:
            OllamaError: It is down, and somebody else is finding out whether it still is.
        """
        if self._down is not None and _is_slow(self._down):
            if self._is_probing:
                raise Timeout(self._down.cause, self._down.remedy, **self._down.details)
            self._is_probing = True
        try:
            yield
            self._down = None
        except OllamaError as error:
            self._down = error if _is_slow(error) or isinstance(error, Unreachable) else None
            raise
        finally:
            self._is_probing = False


def _is_slow(error: OllamaError) -> bool:
    """Whether it took the connect clock to find out."""
    return isinstance(error, Timeout) and error.details.get("clock") == "connect"
