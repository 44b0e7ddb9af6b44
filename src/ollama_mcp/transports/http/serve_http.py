"""Serve an `HttpServer` as a process of its own, and end in time.

Our own configuration of uvicorn, because the SDK's does not end with a call in flight, and because
uvicorn raises the signal anew that ended it: a supervisor would read that as a crash.

How it ends: no new call is taken; those that go on have `grace` seconds; what is left is answered with what
it had written, and its upstream sockets close; half a second after the grace the process is gone, whatever
still runs. Its status is 0.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial

import anyio
import uvicorn

from ollama_mcp.settings import Settings
from ollama_mcp.settings.listening import AllowedNames, Authority
from ollama_mcp.transports.http.application import MCP_PATH, HttpServer
from ollama_mcp.transports.http.auth import Access, access_of, require_auth_for_other_machines
from ollama_mcp.transports.process import Stop

if sys.platform != "win32":
    import resource

_log = logging.getLogger(__name__)

_KEEP_ALIVE_S = 15
"""Longer than the usual clients keep an idle connection, so that they close it and not we."""
_BACKLOG = 1024
_LAST_MOMENT_S = 0.45
_FILES_BESIDE = 256
"""Descriptors that are no clients' connections."""


def listen(settings: Settings) -> tuple[Access, list[socket.socket]]:
    """See who is to be let in, and bind where nobody else can come; as many as the system has room for.

    Args:
        settings: An operator's; where they name no address, any port of this machine's.

    Raises:
        ValueError: They are contrary to one another, or let in others without their having a token.
        OSError: The port is taken, or the name is none of this machine's.
    """
    access, bind = access_of(settings), settings.http.bind or (AllowedNames.bound, 0)
    require_auth_for_other_machines(access, [address for _, address in resolved(bind)])
    return replace(access, connections=_connections(access.connections)), open_sockets(bind)


def open_sockets(bind: tuple[str, int]) -> list[socket.socket]:
    """Bind every address of the name, all to one port.

    Raises:
        OSError: The port is taken, or the name is none of this machine's.
    """
    found: list[socket.socket] = []
    for family, address in resolved(bind):
        port = found[0].getsockname()[1] if found else bind[1]
        found.append(_bound(family, address, port))
    return found


def resolved(bind: tuple[str, int]) -> list[tuple[socket.AddressFamily, str]]:
    """The addresses of what is to be bound.

    Raises:
        OSError: The name is unknown.
    """
    infos = socket.getaddrinfo(*bind, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((info[0], str(info[4][0])) for info in infos))


def _bound(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    # With its protocol: asyncio turns Nagle off only for those, and 40 ms a call are lost else.
    opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if sys.platform != "win32":
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # `::` is every address, as people expect of it
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address != "::"))
        opened.bind((address, port))
        opened.setblocking(False)
    except OSError:
        opened.close()
        raise
    return opened


def addresses_of(sockets: Sequence[socket.socket]) -> list[str]:
    """URLs at which the server can be called."""
    names = [(_callable(n[0]), n[1]) for n in (opened.getsockname() for opened in sockets)]
    return [f"http://{Authority(*name)}{MCP_PATH}" for name in names]


def _callable(address: str) -> str:
    """A name under which it can be called: all addresses together are none."""
    return socket.gethostname() if ipaddress.ip_address(address).is_unspecified else address


def run_http(
    server: HttpServer,
    sockets: Sequence[socket.socket],
    access: Access,
    *,
    grace: float = 1.0,
    on_started: Callable[[], object] = lambda: None,
) -> int:
    """Serve until a signal; returns the exit status (0, or 1 where the server failed).

    Call it last: it takes the signals for good. The second one ends the process at once.

    Args:
        server: What to serve.
        sockets: Bound ones, as of `open_sockets`.
        access: Says how many connections there may be.
        grace: Seconds that calls in flight may go on after the first signal.
        on_started: Called once connections are taken.
    """
    stop = Stop(grace + _LAST_MOMENT_S)
    stop.listen()
    try:
        anyio.run(
            partial(serve_http, server, sockets, access, stop=stop, grace=grace, on_started=on_started),
            backend="asyncio",
        )
    except Exception:  # noqa: BLE001 - the top of the process: what fails is a line on stderr and a status
        _log.exception("the server failed")
        return 1
    return 0


def _connections(wanted: int) -> int:
    """Return as many connections as the system has descriptors for: 1,024 a process, and more on request."""
    if sys.platform == "win32":
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    aim = wanted + _FILES_BESIDE
    if hard != resource.RLIM_INFINITY:
        aim = min(aim, hard)
    if soft != resource.RLIM_INFINITY and soft < aim:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (aim, hard))
            soft = aim
    room = wanted if soft == resource.RLIM_INFINITY else max(soft - _FILES_BESIDE, 2)
    if room < wanted:
        _log.warning("%s connections at once: the system allows %s open files", room, soft)
    return min(room, wanted)


async def serve_http(
    server: HttpServer,
    sockets: Sequence[socket.socket],
    access: Access,
    *,
    stop: Stop,
    grace: float = 1.0,
    on_started: Callable[[], object] = lambda: None,
) -> None:
    """Serve until `stop` is asked for; what `run_http` runs."""
    running = _Server(_config(server, access), on_started)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_run, running, sockets, stop)
        await stop.asked()
        await server.end(grace)
        running.should_exit = True


async def _run(running: _Server, sockets: Sequence[socket.socket], stop: Stop) -> None:
    await running.serve(list(sockets))
    stop.ask()


def _config(server: HttpServer, access: Access) -> uvicorn.Config:
    return uvicorn.Config(
        server.application,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # whoever is on this machine could say to be anybody
        server_header=False,
        limit_concurrency=access.connections + 1,  # which counts the one that asks, too
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
    )


class _Server(uvicorn.Server):
    """uvicorn without its signals and without its patience, which says when it has started."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], object]) -> None:
        super().__init__(config)
        self._on_started = on_started

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave them alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take connections."""
        await super().startup(sockets)
        self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End at once: who had a call has been waited for, and told."""
        for listener in self.servers:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()  # closes it, or lets its last answer out first
        await self.lifespan.shutdown()
