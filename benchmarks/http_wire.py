"""MCP over Streamable HTTP in bare bytes, so that a client of thousands of connections costs little."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from wires import PATIENCE_S, Unanswered, with_meta

_ACCEPT = "Accept: application/json, text/event-stream\r\n"
_LINE = 1 << 24


class Refused(Exception):
    """A status that is no success, with no message in the body: an error in one is an answer."""


class Socket:
    """One connection, for one request at a time."""

    def __init__(self, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._host = host
        self._reader = reader
        self._writer = writer
        self._headers: dict[str, str] = {}

    @classmethod
    async def open(cls, host: str, port: int) -> Socket:
        """Connect."""
        return cls(f"{host}:{port}", *await asyncio.open_connection(host, port, limit=_LINE))

    @property
    def open_still(self) -> bool:
        """Whether the server has not closed it: what is idle for long, it does."""
        return not self._reader.at_eof()

    async def ask(
        self, verb: str, path: str, headers: Mapping[str, str], body: bytes = b""
    ) -> dict[str, str]:
        """Send a request and read the head of its answer.

        Returns:
            The headers, by names in lower case.

        Raises:
            Refused: There is no message in the answer.
        """
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        length = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
        head = f"{verb} {path} HTTP/1.1\r\nHost: {self._host}\r\n{_ACCEPT}{length}{lines}\r\n"
        self._writer.write(head.encode() + body)
        answered = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = [line.partition(":") for line in answered[1:] if line]
        self._headers = {name.lower(): value.strip() for name, _, value in pairs}
        status = int(answered[0].split()[1])
        if status >= 400 and self._headers.get("content-type") != "application/json":
            raise Refused(f"{status} {await self._whole()!r}")
        return self._headers

    async def _pieces(self) -> AsyncGenerator[bytes]:
        """The body, as it comes."""
        if self._headers.get("transfer-encoding") != "chunked":
            yield await self._reader.readexactly(int(self._headers.get("content-length", "0")))
        else:
            while size := int(await self._reader.readline(), 16):
                yield (await self._reader.readexactly(size + 2))[:-2]
            await self._reader.readline()

    async def _whole(self) -> bytes:
        return b"".join([piece async for piece in self._pieces()])

    async def messages(self) -> AsyncGenerator[dict[str, Any]]:
        """The messages of an answer, whether it is one or a stream of events."""
        if not self._headers.get("content-type", "").startswith("text/event-stream"):
            if whole := await self._whole():
                yield json.loads(whole)
            return
        rest = b""
        async for piece in self._pieces():
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if line.startswith(b"data:") and line[5:].strip():
                    yield json.loads(line[5:])

    def close(self) -> None:
        """Leave, at once."""
        self._writer.transport.abort()


class Http:
    """A client of one server: in the era of 2025 one session, in that of 2026 none.

    Attributes:
        strays: As of every Wire.
        left: As of every Wire.
        reports: Progress notifications so far.
    """

    def __init__(self, host: str, port: int, *, modern: bool, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._at = (host, port)
        self._modern = modern
        self._idle: list[Socket] = []
        self._last = 0
        self._session: dict[str, str] = {}
        self._standing: Socket | None = None
        self.strays: list[Any] = []
        self.left = 0
        self.reports = 0

    # --- a session ------------------------------------------------------------------------------

    async def open(self, *, listen: bool = True) -> None:
        """Begin in the way of the era; a session's stream of what the server says is opened, too."""
        if self._modern:
            await self.exchange("server/discover", {})
            return
        info = {"name": "benchmark", "version": "1"}
        begin = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info}
        socket = await self._take()
        headers = await socket.ask("POST", "/mcp", {}, _frame(0, "initialize", begin))
        self._session = {
            "Mcp-Session-Id": headers["mcp-session-id"], "Mcp-Protocol-Version": "2025-11-25"
        }  # fmt: skip
        await anext(socket.messages())
        await self._drained(socket)
        await self.notify("notifications/initialized", {})
        if listen:
            self._standing = await Socket.open(*self._at)
            await self._standing.ask("GET", "/mcp", self._session)

    async def close(self) -> None:
        """End the session, and every connection."""
        if self._session:
            socket = await self._take()
            await socket.ask("DELETE", "/mcp", self._session)
            socket.close()
        if self._standing:
            self._standing.close()
        self.disconnect()

    def disconnect(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            self._idle.pop().close()

    async def _take(self) -> Socket:
        while self._idle:
            if (socket := self._idle.pop()).open_still:
                return socket
            socket.close()
        return await Socket.open(*self._at)

    async def _drained(self, socket: Socket) -> None:
        """Read what is left of an answer, and keep the connection."""
        async for message in socket.messages():
            self._beside(message)
        self._idle.append(socket)

    def _beside(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self.strays.append(message)
        else:
            self.reports += 1

    # --- requests -------------------------------------------------------------------------------

    async def notify(self, method: str, params: dict[str, Any]) -> None:
        """Post a notification."""
        socket = await self._take()
        body = json.dumps({"jsonrpc": "2.0", "method": method, "params": params}).encode()
        await socket.ask("POST", "/mcp", self._session, body)
        await self._drained(socket)

    async def exchange(
        self, method: str, params: dict[str, Any], leave_s: float | None = None
    ) -> dict[str, Any] | None:
        """As for every Wire.

        To leave is a disconnect in the era of 2026, and in that of 2025 a notification.
        """
        self._last += 1
        call_id = self._last
        socket = await self._take()
        try:
            async with asyncio.timeout(self._patience_s if leave_s is None else leave_s):
                return await self._asked(socket, call_id, method, params)
        except TimeoutError:
            socket.close()
            if leave_s is None:
                raise Unanswered(f"{method} {params}") from None
            self.left += 1
            if not self._modern:
                await self.notify("notifications/cancelled", {"requestId": call_id})
            return None

    async def _asked(
        self, socket: Socket, call_id: int, method: str, params: dict[str, Any]
    ) -> dict[str, Any] | None:
        params = with_meta(params, call_id, modern=self._modern)
        await socket.ask("POST", "/mcp", self._headers(method, params), _frame(call_id, method, params))
        found = None
        async for message in socket.messages():
            if message.get("id") != call_id or found:
                self._beside(message)
            else:
                found = message
        if found is None:
            raise Unanswered(f"the answer ended without one: {method} {params}")
        self._idle.append(socket)
        return found

    def _headers(self, method: str, params: Mapping[str, Any]) -> dict[str, str]:
        if not self._modern:
            return self._session
        name = params.get("name") or params.get("uri")
        named = {"Mcp-Name": name} if name else {}
        return {"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": method} | named

    async def visit(self) -> None:
        """As for every Wire."""
        client = Http(*self._at, modern=self._modern)
        await client.open()
        await client.exchange("tools/list", {})
        await client.close()

    async def settle(self) -> None:
        """As for every Wire; and no connection stays but the session's own."""
        await self.exchange("tools/list", {})
        self.disconnect()


def _frame(call_id: int, method: str, params: Mapping[str, Any]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": call_id, "method": method, "params": params}).encode()
