"""The connections of one event loop, and the queue in front of them."""

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
"""The backend's timeout that runs until the first byte of an answer."""
Between = Literal["idle", "composing", "transfer"]
"""The one that runs from part to part; `composing` is the longer of `idle` and `first_byte`."""

_LOOKUPS = 8
"""Lookups (tags, ps, show) in flight at once."""
_KEEPALIVE_S = 30.0
"""Seconds for which an idle connection is kept."""
_ONE = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_KEEPALIVE_S)


class ConnectionPool:
    """The connections that all requests of an event loop share, opened when none is free.

    Each connection is an httpx client of its own. httpx looks through a pool of many, each connection
    against each, whenever a request starts or ends, and gives requests that start together the same idle
    connection, so that they try again: a third of a call's CPU with 32 in flight, nearly all of it with 250.

    At most `max_connections` calls are in flight, and the others wait; lookups (tags, ps, show) have a
    limit of their own, so that they pass a queue of generations.

        pool = ConnectionPool(backend)
        async with pool.pool("first_byte", backend.host) as http:
            response = await http.get(url)

    Attributes:
        health: Whether a server could be reached last, by its address: Ollama's cloud may be another.

    Args:
        backend: The server.
        transport: An httpx transport instead of the network.
        shared: The caller's own httpx client, used for everything and never closed.
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
        self._limits = {"first_byte": calls, "transfer": calls, "idle": asyncio.Semaphore(_LOOKUPS)}
        self._ssl_context: ssl.SSLContext | None = None
        self._pools: set[httpx.AsyncClient] = set()
        self._free: defaultdict[str, deque[tuple[float, httpx.AsyncClient]]] = defaultdict(deque)
        """By address: when each was given back, and the client; the newest is last."""

    @asynccontextmanager
    async def pool(self, timeout: TimeoutKind, host: Host) -> AsyncGenerator[httpx.AsyncClient]:
        """Wait for an httpx client to that server, and have it for one exchange.

        Args:
            timeout: The kind of the request: lookups are those with `idle`.
            host: The server.

        Raises:
            StorageError: The file of authorities cannot be used.
            Unreachable: The proxy of the environment cannot be used.
        """
        async with self._limits[timeout]:
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
                else:  # an exchange that was broken off may leave half an answer on the connection
                    await self._drop(pool)
            # The newest is taken first, so that the oldest of a burst are at the other end.
            for free in self._free.values():
                while free and free[0][0] < time.monotonic() - _KEEPALIVE_S:
                    await self._drop(free.popleft()[1])

    async def _drop(self, pool: httpx.AsyncClient) -> None:
        self._pools.discard(pool)
        with anyio.CancelScope(shield=True):
            await pool.aclose()

    def _open(self, host: Host) -> httpx.AsyncClient:
        """Make an httpx client for one connection."""
        proxy = proxy_for(host)
        verify = self._verify(host)
        if proxy is not None and not proxy.is_address:
            raise unusable_proxy(proxy.variable, host.url, host.hostname)
        try:
            pool = httpx.AsyncClient(
                verify=verify,
                trust_env=False,
                proxy=proxy.url if proxy else None,
                limits=_ONE,
                mounts=_aiohttp_mount(self._backend),
            )
        except (ImportError, ValueError, httpx.InvalidURL):
            if proxy is None:
                raise
            raise unusable_proxy(proxy.variable, host.url, host.hostname) from None
        self._pools.add(pool)
        return pool

    def _verify(self, host: Host) -> ssl.SSLContext:
        """Return what checks the certificate of a server, made once."""
        backend = self._backend
        # OLLAMA_MCP_INSECURE_TLS is the operator's word on the server alone, never on Ollama's cloud.
        if backend.insecure_tls and host == backend.host and not host.is_ollama_cloud:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return context
        if self._ssl_context is None and backend.host.scheme != "https" and not backend.api_key:
            self._ssl_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used: authorities take 60 ms
        elif self._ssl_context is None:
            try:
                self._ssl_context = ssl.create_default_context(cafile=backend.ca_file or None)
            except (OSError, ValueError):
                raise StorageError(
                    "the file of authorities for https cannot be read, or is not PEM",
                    "Set OLLAMA_MCP_CA_FILE to a PEM file with certificates.",
                ) from None
        return self._ssl_context

    async def aclose(self) -> None:
        """Close the connections, also under requests that use them."""
        pools = [*self._pools, *([self._shared] if self._shared and not self._theirs else [])]
        self._pools.clear()
        self._free.clear()
        for pool in pools:
            await pool.aclose()


def _aiohttp_mount(backend: Backend) -> dict[str, httpx.AsyncBaseTransport] | None:
    """Return aiohttp's transport for a plain HTTP server of this machine, with the extra `speed`."""
    is_here = backend.host.is_loopback and backend.host.scheme == "http"
    if not backend.swift or not is_here or find_spec("aiohttp") is None:
        return None
    from ollama_mcp.client.aiohttp_transport import AiohttpTransport  # noqa: PLC0415 - an extra, and slow to import

    return {backend.host.url: AiohttpTransport(_KEEPALIVE_S)}
