"""Retries, and the memory of a server that is down.

A request is sent again at most twice (a setting), only where the first one can have done nothing: the
connection was refused, or Ollama said before the first byte that it is busy (503, 429). A request that
changes the server's models is never sent again. A server that is known to be down does not make every
call wait: each tries once, and where a try takes all of the connect timeout, one call probes and the
others fail at once.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import contextmanager

from ollama_mcp.errors import OllamaError, Timeout, Unreachable

_WAITS_S = (0.2, 0.6)
"""Seconds before the second and the third try; each is stretched by chance, so that callers spread."""
_LONGEST_WAIT_S = 5.0
"""A server that asks for a longer wait is not waited for: the caller gets the error, with the wait."""
_BUSY = frozenset({429, 503})


def wait_before_next(error: OllamaError, tries: int) -> float | None:
    """Return the seconds to wait before the next try; None where there should be none.

    Args:
        error: The failure of the last try, before the first byte.
        tries: How many tries there were, from 1.
    """
    is_refused = isinstance(error, Unreachable) and error.retryable
    if not is_refused and error.upstream_status not in _BUSY:
        return None
    wait = _WAITS_S[min(tries, len(_WAITS_S)) - 1] * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
    if error.retry_after_s is not None:
        wait = error.retry_after_s + wait * 0.1
    return wait if wait <= _LONGEST_WAIT_S else None


class Health:
    """The reachability of one server, as the last tries on an event loop found it.

    with health.trying():
        answer = await send(request)
    """

    def __init__(self) -> None:
        self._down: OllamaError | None = None
        self._is_probing = False

    @property
    def is_down(self) -> bool:
        """Whether the last try that ended did not reach the server."""
        return self._down is not None

    @contextmanager
    def trying(self) -> Generator[None]:
        """Remember how the try ends that is made inside.

        Raises:
            OllamaError: The server is down, and another call is finding out whether it still is.
        """
        probes = self._down is not None and _took_connect_timeout(self._down)
        if self._down is not None and probes:
            if self._is_probing:
                raise Timeout(self._down.cause, self._down.remedy, **self._down.details)
            self._is_probing = True
        try:
            yield
            self._down = None
        except OllamaError as error:
            is_down = isinstance(error, Unreachable) or _took_connect_timeout(error)
            self._down = error if is_down else None
            raise
        finally:
            if probes:  # not a try that began before the server was known to be down
                self._is_probing = False


def _took_connect_timeout(error: OllamaError) -> bool:
    return isinstance(error, Timeout) and error.details.get("clock") == "connect"
