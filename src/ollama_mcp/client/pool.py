"""The connections of one event loop, and the line in front of them."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import defaultdict, deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Literal

import anyio
import httpx

from ollama_mcp.client.failures import unusable_proxy
from ollama_mcp.client.retry import Health
from ollama_mcp.errors import OllamaError, StorageError
from ollama_mcp.ollama.hosts import Host
from ollama_mcp.settings import Backend
from ollama_mcp.settings.proxies import proxy_for

TimeoutKind = Literal["first_byte", "idle", "transfer"]
"""Which of the backend's clocks runs until the first byte of an answer."""
Between = Literal["idle", "composing", "transfer"]
"""Which runs between two parts of it; `composing` has the time of the first byte."""

_LOOKUPS = 8
_KEPT_S = 30.0
"""How long a connection that nobody uses is kept."""
_ONE = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_KEPT_S)


class ConnectionPool:
    """What all requests of an event loop share. Opens a connection when one is needed and none is free.

    Each connection is a pool of its own. A pool of many is looked through, each connection against
    each, whenever a request starts or ends, and requests that start together are given the same idle
    connection and try again: a third of a call's CPU with 32 in flight, nearly all of it with 250.

    At most `max_connections` calls are in flight, and the others wait in line; lookups (tags, ps,
    show) have places of their own, so that they pass a queue of generations.

    Attributes:
        health: What the last tries told of a server, by its address: Ollama's cloud may be another.

    Args:
        backend: The server.
        transport: Takes the place of the network.
        shared: The caller's own pool, used for everything and never closed.
    """

    def __init__(
        self,
        backend: Backend,
        transport: httpx.AsyncBaseTransport | None = None,
        shared: httpx.AsyncClient | None = None,
    ) -> None:
        self._backend = backend
        self._theirs = shared
        self._shared = shared or (httpx.AsyncClient(transport=transport) if transport else None)
        self.health: defaultdict[str, Health] = defaultdict(Health)
        calls = asyncio.Semaphore(backend.max_connections)
        self._lines = {"first_byte": calls, "transfer": calls, "idle": asyncio.Semaphore(_LOOKUPS)}
        self._trust: ssl.SSLContext | None = None
        self._pools: set[httpx.AsyncClient] = set()
        self._free: defaultdict[str, deque[tuple[float, httpx.AsyncClient]]] = defaultdict(deque)

    @asynccontextmanager
    async def pool(self, timeout: TimeoutKind, host: Host) -> AsyncGenerator[httpx.AsyncClient]:
        """Wait in line for a pool of that server, and have it for one exchange."""
        async with self._lines[timeout]:
            if self._shared is not None:
                yield self._shared
                return
            free = self._free[host.url]
            pool = free.pop()[1] if free else self._open(host)
            is_sound = False
            try:
                yield pool
                is_sound = True
            except OllamaError:
                is_sound = True  # an answer that was read, or a connection that httpx has closed
                raise
            finally:
                if is_sound and not pool.is_closed:
                    free.append((time.monotonic(), pool))
                else:  # what was broken off leaves nothing behind
                    await self._drop(pool)
            await self._drop_unused()

    async def _drop_unused(self) -> None:
        """The newest is taken first, so that the oldest of a burst are at the other end."""
        for free in self._free.values():
            while free and free[0][0] < time.monotonic() - _KEPT_S:
                await self._drop(free.popleft()[1])

    async def _drop(self, pool: httpx.AsyncClient) -> None:
        self._pools.discard(pool)
        with anyio.CancelScope(shield=True):
            await pool.aclose()

    def _open(self, host: Host) -> httpx.AsyncClient:
        """Open a pool for one connection; an `http://` address loads no authorities (30 to 60 ms).

        Raises:
            StorageError: The file of authorities cannot be used.
            Unreachable: The proxy of the environment cannot be used.
        """
        is_loose = self._backend.insecure_tls and host == self._backend.host and not host.is_ollama_cloud
        if not is_loose:
            self._trust = self._trust or _trust(self._backend)
        proxy = proxy_for(host)
        if proxy is not None and not proxy.is_address:
            raise unusable_proxy(proxy.variable, host.url, host.hostname)
        try:
            pool = httpx.AsyncClient(
                verify=_any_certificate() if is_loose or self._trust is None else self._trust,
                trust_env=False,
                proxy=proxy.url if proxy else None,
                limits=_ONE,
                mounts=_swift(self._backend),
            )
        except (ImportError, ValueError, httpx.InvalidURL):
            if proxy is None:
                raise
            raise unusable_proxy(proxy.variable, host.url, host.hostname) from None
        self._pools.add(pool)
        return pool

    async def aclose(self) -> None:
        """Close the connections, also under those who use them."""
        pools = [*self._pools, *([self._shared] if self._shared and not self._theirs else [])]
        self._pools.clear()
        self._free.clear()
        for pool in pools:
            await pool.aclose()


def _swift(backend: Backend) -> dict[str, httpx.AsyncBaseTransport] | None:
    """A faster transport for the server, where one is wanted and there is one."""
    is_here = backend.host.is_loopback and backend.host.scheme == "http"
    if not backend.swift or not is_here or find_spec("aiohttp") is None:
        return None
    from ollama_mcp.client.aiohttp_transport import AiohttpTransport  # noqa: PLC0415 - an extra, and slow to import

    return {backend.host.url: AiohttpTransport(_KEPT_S)}


def _any_certificate() -> ssl.SSLContext:
    """For a server whose certificate the operator does not want to check (OLLAMA_MCP_INSECURE_TLS)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _trust(backend: Backend) -> ssl.SSLContext:
    if backend.host.scheme != "https" and not backend.api_key:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used
    try:
        return ssl.create_default_context(cafile=backend.ca_file or None)
    except (OSError, ValueError):
        raise StorageError(
            "the file of authorities for https cannot be read, or is not PEM",
            "Set OLLAMA_MCP_CA_FILE to a PEM file with certificates.",
        ) from None
