"""Which era of the protocol a connection is in: the handshake's, or that of 2026-07-28.

The SDK lets the first request decide for good. A client that asks `server/discover` first, finds
nothing that it likes in the answer and begins a handshake on the same pipe is refused by it (-32022).
Here such a question alone decides nothing: the handshake then gets a session of its own.
"""

from __future__ import annotations

from typing import Any

import anyio
from mcp.server.lowlevel import Server
from mcp.server.runner import serve_dual_era_loop, serve_loop
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCRequest

from ollama_mcp.transports.pipes import Incoming, Stream
from ollama_mcp.transports.stdio.inbox import Inbox
from ollama_mcp.transports.stdio.outbox import Outbox

AUTO, LEGACY = "auto", "legacy"


async def serve_eras(server: Server[Any], inbox: Inbox, outbox: Outbox, protocol: str) -> None:
    """Serve one client until the inbox ends.

    Args:
        server: The SDK's server; its lifespan is entered once.
        inbox: What the client writes; closed at the end.
        outbox: What we write; closed at the end.
        protocol: AUTO, or LEGACY for the handshake's versions only, to which `server/discover` is an
            unknown method.
    """
    options = server.create_initialization_options()
    async with inbox, outbox, server.lifespan(server) as state:
        if protocol == LEGACY:
            await serve_loop(server, inbox, outbox, lifespan_state=state, init_options=options)
            return
        session: Session | None = Session(inbox, outbox)
        while session is not None:
            replies = Replies(outbox)
            await serve_dual_era_loop(server, session, replies, lifespan_state=state, init_options=options)
            session = session.next


class Session(Incoming):
    """The client's messages, up to a handshake that follows nothing but questions what we speak.

    Args:
        inbox: Where the messages come from.
        outbox: Knows which of them are still to be answered.
        opening: The first one, if it was read already.
    """

    def __init__(self, inbox: Inbox, outbox: Outbox, opening: SessionMessage | None = None) -> None:
        self._inbox = inbox
        self._outbox = outbox
        self._opening = opening
        self._asked = False
        self._settled = False
        self.next: Session | None = None
        """The one that the handshake begins."""

    async def receive(self) -> SessionMessage:
        """Return the next message.

        Raises:
            anyio.EndOfStream: The client has gone, or begins anew.
        """
        item, self._opening = self._opening or await self._inbox.receive(), None
        if isinstance(item.message, JSONRPCRequest):
            await self._look_at(item, item.message)
        return item

    async def _look_at(self, item: SessionMessage, request: JSONRPCRequest) -> None:
        if request.method == "initialize" and self._asked and not self._settled:
            await self._outbox.settled(but=request.id)  # the answers to the questions go first
            self.next = Session(self._inbox, self._outbox, item)
            raise anyio.EndOfStream
        self._asked = True
        self._settled = self._settled or request.method != "server/discover"

    async def aclose(self) -> None:
        """Nothing: the inbox lives longer than a session."""


class Replies(Stream):
    """The outbox as one session has it: the end of the session is not its end."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.send = outbox.send

    async def aclose(self) -> None:
        """Nothing, as above."""
