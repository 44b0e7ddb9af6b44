"""How the soak speaks to a server: requests that may be left, and what came that nobody waits for."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from child import Child

PATIENCE_S = 120.0
"""Seconds after which a call counts as never answered: longer than a busy machine stands still."""

MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "soak", "version": "1"},
}


class Unanswered(Exception):
    """A request got no answer in `PATIENCE_S`."""


class Wire(Protocol):
    """One client of a server.

    Attributes:
        strays: Messages that answer nothing: second answers, and answers to nobody.
        left: Calls that were given up before they were answered.
    """

    strays: list[Any]
    left: int

    async def exchange(
        self, method: str, params: dict[str, Any], leave_s: float | None = None
    ) -> dict[str, Any] | None:
        """Send a request; returns the message that answers it.

        Args:
            method: The method.
            params: Its parameters; the era's own are added.
            leave_s: Seconds after which the call is cancelled, as far as it is not answered: None then.

        Raises:
            Unanswered: It never was.
        """
        ...

    async def visit(self) -> None:
        """What a client does that comes and goes: on a wire of its own, where there can be more than one."""
        ...

    async def settle(self) -> None:
        """Wait until all that was sent has arrived; from then on an answer to what was left is a stray."""
        ...


class Pipes(Child):
    """A client over stdin and stdout."""

    modern = False

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.strays: list[Any] = []
        self.left = 0
        self._forgiven: set[int] = set()
        super().__init__(process)

    async def open(self, *, modern: bool) -> None:
        """Begin in the way of the era."""
        self.modern = modern
        if modern:
            await self.exchange("server/discover", {})
        else:
            await self.initialize()

    def _take(self, message: dict[str, Any]) -> None:
        answers = message.get("id")
        if answers is None and message.get("method"):
            self.reports += 1
        elif answers in self._waiting:
            waiting = self._waiting.pop(answers)
            if not waiting.done():  # it is cancelled in the moment in which the call is left
                waiting.set_result(message)
        elif answers in self._forgiven:  # it was on its way when the call was cancelled
            self._forgiven.discard(answers)
        else:
            self.strays.append(message)

    async def exchange(
        self, method: str, params: dict[str, Any], leave_s: float | None = None
    ) -> dict[str, Any] | None:
        """As for every Wire."""
        self._last += 1
        call_id = self._last
        answer = self._waiting[call_id] = asyncio.get_running_loop().create_future()
        self._send(id=call_id, method=method, params=with_meta(params, call_id, modern=self.modern))
        try:
            async with asyncio.timeout(PATIENCE_S if leave_s is None else leave_s):
                return await answer
        except TimeoutError:
            waits = self._waiting.pop(call_id, None) is not None
            if leave_s is None:
                raise Unanswered(f"{method} {params}") from None
            if waits:
                self._leave(call_id)
            return None

    def _leave(self, call_id: int) -> None:
        self._forgiven.add(call_id)
        self._send(method="notifications/cancelled", params={"requestId": call_id})
        self.left += 1

    async def visit(self) -> None:
        """As for every Wire."""
        await self.exchange("tools/list", {})

    async def settle(self) -> None:
        """As for every Wire."""
        await self.exchange("tools/list", {})
        self._forgiven.clear()


def with_meta(params: dict[str, Any], call_id: int, *, modern: bool) -> dict[str, Any]:
    """The era's own parameters; a `progressToken` that is asked for is the call's id."""
    meta = MODERN.copy() if modern else dict[str, Any]()
    if params.pop("progress", False):
        meta["progressToken"] = call_id
    return params | {"_meta": meta} if meta else params
