"""Serve a host over stdin and stdout, and end in time.

Our own, because the SDK's stdio loop ignores SIGINT, skips clean-up on SIGTERM, hangs at the end of
stdin while nobody reads stdout, answers a malformed line with silence and dies of one lone surrogate.

The SDK lets the first request decide the protocol version for good. A client that asks `server/discover`
first, finds nothing that it likes in the answer and begins a handshake on the same pipe is refused by it
(-32022). Here such a question alone decides nothing: the handshake then gets a session of its own.

How it ends, and how long each step may take:

- It begins with a signal, the end of stdin, or a stdout that nobody reads any more.
- 0.2 s, only at the end of stdin: requests already read may still be answered, so that
  `printf '…' | ollama-mcp` works. What takes longer is cancelled and answered "Connection closed".
- 0.1 s: handlers are cancelled and their upstream sockets close. `send` fails where it would wait.
- 0.5 s: `on_stop`. Meanwhile what was produced is written, for as long as the client reads.
- At 0.85 s the process ends whatever still runs: a tool in a thread cannot be cancelled.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
from mcp.server import MCPServer
from mcp.server.lowlevel import Server
from mcp.server.runner import serve_dual_era_loop, serve_loop
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCRequest

from ollama_mcp.transports.pipes import Incoming, Stream, start_thread
from ollama_mcp.transports.process import Stop
from ollama_mcp.transports.standard_streams import Wires, claim_stdio
from ollama_mcp.transports.stdio.framing import LINE_LIMIT
from ollama_mcp.transports.stdio.inbox import Inbox
from ollama_mcp.transports.stdio.outbox import Outbox

AUTO, LEGACY = "auto", "legacy"


async def serve_protocols(server: Server[Any], inbox: Inbox, outbox: Outbox, protocol: str) -> None:
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
            jobs = ResponseStream(outbox)
            await serve_dual_era_loop(server, session, jobs, lifespan_state=state, init_options=options)
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
        """Do nothing: the inbox and the outbox live longer than a session."""


class ResponseStream(Stream):
    """The outbox as one session has it: the end of the session is not its end."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.send = outbox.send

    async def aclose(self) -> None:
        """Do nothing: the inbox and the outbox live longer than a session."""


_logger = logging.getLogger(__name__)

_GRACE = 0.2
_UNWIND = 0.1
_ON_STOP = 0.5

OnStop = Callable[[], Awaitable[None]]


def run_stdio(
    host: MCPServer[Any],
    *,
    wires: Wires | None = None,
    on_stop: OnStop | None = None,
    line_limit: int = LINE_LIMIT,
    protocol: str = AUTO,
) -> int:
    """Serve `host` on this process's stdin and stdout until EOF or a signal; returns the exit status (0).

    Call it last: it takes the standard streams and the signals for good, and the process ends within
    a second of the stop, whether or not the caller has finished. The second signal ends it at once.

    Args:
        host: The server. Its lifespan is entered and left as usual.
        wires: What `claim_stdio` returned, of a process that claimed them before it imported what prints.
        on_stop: Awaited for at most half a second once the handlers have been cancelled: the place
            to close clients and cancel work that outlives its call.
        line_limit: The largest message that is read, in bytes; a larger one is answered with an error.
        protocol: "auto": whichever era the client speaks. "legacy": only that of the handshake.

    Returns:
        The exit status: 0, or 1 if the host itself failed, for example in its lifespan.
    """
    # Before there is anything else: a parent may have closed fd 0, and what opens next gets that number.
    stdin, stdout = wires or claim_stdio()
    stop = Stop()
    stop.listen()
    serve = partial(
        serve_stdio,
        host,
        stdin,
        stdout,
        stop=stop,
        on_stop=on_stop,
        line_limit=line_limit,
        protocol=protocol,
    )
    try:
        anyio.run(serve, backend="asyncio")
    except Exception:  # the top of the process: a host that fails is a line on stderr and a status
        _logger.exception("the server failed")
        return 1
    gc.freeze()  # a last collection would take 0.15 s to tidy what goes anyway
    return 0


async def serve_stdio(
    host: MCPServer[Any],
    stdin: int,
    stdout: int,
    *,
    stop: Stop,
    on_stop: OnStop | None = None,
    line_limit: int = LINE_LIMIT,
    protocol: str = AUTO,
) -> None:
    """Serve until `stop` is asked for; what `run_stdio` runs.

    Args:
        host: The server.
        stdin: The descriptor to read from.
        stdout: The descriptor to write to.
        stop: Asked by us, too, at the end of stdin.
        on_stop: As for `run_stdio`.
        line_limit: As for `run_stdio`.
        protocol: As for `run_stdio`.
    """
    outbox = Outbox()
    inbox = Inbox(outbox, line_limit)
    start_thread("reader", partial(inbox.pump, stdin, partial(stop.ask, eof=True)))
    start_thread("writer", partial(outbox.pump, stdout, stop.ask))
    async with anyio.create_task_group() as tasks:
        ended = anyio.Event()
        tasks.start_soon(_serve, host, inbox, outbox, protocol, stop, ended)
        await stop.asked()
        if stop.eof:
            await _at_most(_GRACE, inbox.settled)
        outbox.hurry()
        inbox.close()
        await _at_most(_UNWIND, ended.wait)
        tasks.start_soon(outbox.flush)
        if on_stop is not None:
            await _at_most(_ON_STOP, on_stop)


async def _serve(
    host: MCPServer[Any], inbox: Inbox, outbox: Outbox, protocol: str, stop: Stop, ended: anyio.Event
) -> None:
    server = host._lowlevel_server  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    try:
        await serve_protocols(server, inbox, outbox, protocol)
    finally:
        ended.set()
    stop.ask()


async def _at_most(seconds: float, work: Callable[[], Awaitable[object]]) -> None:
    with anyio.move_on_after(seconds):
        await work()
