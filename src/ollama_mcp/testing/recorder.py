"""Recorder: a pass-through in front of a real Ollama that writes down what goes over the wire."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import ssl
import time
from collections.abc import Collection
from itertools import accumulate, pairwise
from pathlib import Path

from ollama_mcp.ollama.hosts import Host, parse_host
from ollama_mcp.ollama_server.http_connections import Connection
from ollama_mcp.ollama_server.http_messages import BadFraming, Request, read_answer, whole_bytes
from ollama_mcp.testing.listener import Listener
from ollama_mcp.testing.recordings import Exchange, RecordedRequest
from ollama_mcp.testing.secrets import Secrets, credentials, is_secret

LARGEST_BODY = 16 << 20
"""Bytes of a request's body that are written down; a blob above this is passed on without a recording."""

_log = logging.getLogger(__name__)
_OURS = frozenset({"host", "connection", "content-length", "transfer-encoding", "expect", "keep-alive"})
"""Headers of a request that belong to a connection, and so are not passed on."""
_PLAIN = {"accept-encoding": "identity"}  # what is compressed cannot be read, nor searched for secrets


class NotWritable(Exception):
    """An exchange is too large to be written, or cannot be without a secret."""


class Recorder(Listener):
    """Passes requests on to a real Ollama and writes each exchange into a folder, a JSON file each.

    Clients use `url` instead of Ollama's. `FakeOllama.replay_all(folder)` plays the files back. The
    answer's bytes are passed on and written as they come; a client that leaves closes the way to Ollama
    at once. Every exchange has a connection of its own.

    Secrets are left out: of the request, method, path, Host and body are written, without the query;
    of the answer's head, nothing that names a cookie, a token, a key or the like; and the values of the
    request's credentials and query, of the upstream's userinfo and of `secrets` are struck out with
    asterisks wherever they stand, also as JSON or a URL spells them. Where that cannot be done (a
    compressed answer, a secret spread over tokens) the exchange is passed on with a warning and is not
    written.

    Args:
        upstream: Ollama's address, as in OLLAMA_HOST; https and userinfo are understood.
        to: The folder. It is made if need be; what is in it stays, and numbering goes on after it.
        why: Written into every file: what this was recorded for.
        secrets: Texts of at least four characters that must not be written.
        host: The address to listen on.
        port: The port to listen on; 0 (the default) takes a free one.

    Attributes:
        written: The files, in the order in which their exchanges ended.

    Raises:
        InvalidArgument: The upstream is no address.
        OSError: The folder cannot be made.
    """

    def __init__(
        self,
        upstream: Host | str,
        to: str | Path,
        *,
        why: str = "",
        secrets: Collection[str] = (),
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        super().__init__(host, port)
        self.written: list[Path] = []
        self._upstream = parse_host(upstream) if isinstance(upstream, str) else upstream
        self._folder = Path(to)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._why = why
        self._secrets = {*secrets, *_userinfo(self._upstream)}
        self._is_stopping = False

    async def start(self) -> None:
        """Listen, as every `Listener`."""
        self._is_stopping = False
        await super().start()

    async def stop(self) -> None:
        """Close; an answer that is not complete is broken off and not written: neither side ended it."""
        self._is_stopping = True
        await super().stop()

    async def _respond(self, request: Request, connection: Connection) -> bool:
        try:
            reader, writer = await connection.unless_left(_connect(self._upstream))
        except (OSError, UnicodeError):  # the latter of a name that no host can have
            await connection.send(_no_upstream(self._upstream))
            connection.close()
            return False
        began, pieces, end = time.monotonic(), list[tuple[float, bytes]](), "client closed"
        try:
            writer.write(_request_bytes(request, self._upstream))
            while piece := await connection.unless_left(_read(reader)):
                pieces.append((time.monotonic() - began, piece))
                await connection.send(piece)
            end = "server closed"
        finally:
            writer.transport.abort()
            self._write(request, pieces, end)
        if reader.exception():
            connection.reset()
        else:
            connection.close()
        return False

    # --- writing --------------------------------------------------------------------------------

    def _write(self, request: Request, pieces: list[tuple[float, bytes]], end: str) -> None:
        if not pieces:
            return
        secrets = Secrets(self._secrets | credentials(request))
        try:
            if self._is_stopping and not read_answer(b"".join(piece for _, piece in pieces)).is_complete:
                return
            self._save(self._exchange(request, _cleaned(pieces, secrets), secrets, end))
        except (BadFraming, NotWritable, OSError) as error:
            why = "it is no HTTP" if isinstance(error, BadFraming) else error  # what it is may be secret
            _log.warning("the answer to %s was not recorded: %s", secrets.struck_text(request.path), why)

    def _save(self, exchange: Exchange) -> None:
        path = self._folder / f"{exchange.name}.json"
        exchange.save(path)
        self.written.append(path)

    def _exchange(
        self, request: Request, pieces: tuple[tuple[float, bytes], ...], secrets: Secrets, end: str
    ) -> Exchange:
        if len(request.body) > LARGEST_BODY:
            raise NotWritable("its request is too large")
        answer = read_answer(b"".join(piece for _, piece in pieces))
        if answer.is_complete or request.method == "HEAD":
            end = "server closed"  # a client that has all of it may be the first to close
        path, host = (secrets.struck_text(text) for text in (request.path, request.headers.get("host", "")))
        return Exchange(
            name=self._name(path),
            why=self._why,
            request=RecordedRequest(request.method, path, host, secrets.struck(request.body)),
            status=answer.status,
            pieces=pieces,
            end=end,
            text=answer.body,
        )

    def _name(self, path: str) -> str:
        """`007-chat`: a number after all that are there, and what can be read of the path."""
        taken = [int(found[0]) for file in self._folder.iterdir() if (found := re.match(r"\d+", file.name))]
        parts = [part for part in path.lower().split("/") if part not in {"", "api"}]
        kind = re.sub(r"[^a-z0-9]+", "-", "-".join(parts[:1] if parts[:1] == ["blobs"] else parts)).strip("-")
        return f"{max(taken, default=0) + 1:03}-{kind[:40] or 'root'}"


# --- the way to Ollama ---------------------------------------------------------------------------


async def _connect(upstream: Host) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    secure = ssl.create_default_context() if upstream.scheme == "https" else None
    return await asyncio.open_connection(upstream.hostname, upstream.port, ssl=secure)


def _no_upstream(upstream: Host) -> bytes:
    body = json.dumps({"error": f"no Ollama server answers at {upstream.url}"}).encode()
    return whole_bytes(502, {"Content-Type": "application/json"}, body, close=True)


def _request_bytes(request: Request, upstream: Host) -> bytes:
    """Return the request as Ollama gets it: it shall close, which ends the answer whatever its framing."""
    query = f"?{request.query}" if request.query else ""
    headers = {name: value for name, value in request.headers.items() if name not in _OURS} | _PLAIN
    if upstream.username or upstream.password:
        headers["authorization"] = f"Basic {_basic(upstream)}"
    headers |= {"host": upstream.url.partition("://")[2].partition("/")[0], "connection": "close"}
    if request.body or request.method not in {"GET", "HEAD"}:
        headers["content-length"] = str(len(request.body))
    lines = [f"{request.method} {upstream.path}{request.path}{query} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + request.body


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(1 << 16)
    except OSError:  # also what TLS and the network say
        return b""


# --- secrets -------------------------------------------------------------------------------------


def _basic(upstream: Host) -> str:
    return base64.b64encode(f"{upstream.username}:{upstream.password}".encode()).decode()


def _userinfo(upstream: Host) -> set[str]:
    return {upstream.password, _basic(upstream)} if upstream.username or upstream.password else set()


def _cleaned(pieces: list[tuple[float, bytes]], secrets: Secrets) -> tuple[tuple[float, bytes], ...]:
    """Return the pieces without secrets, which may lie across two of them.

    Raises:
        BadFraming: It is no HTTP.
        NotWritable: Secrets cannot be sought in it, or not be struck out.
    """
    whole = b"".join(piece for _, piece in pieces)
    answer = read_answer(whole)
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise NotWritable("it is compressed")
    if any(_is_secret_line(line) for line in whole[answer.end :].split(b"\r\n")):
        raise NotWritable("a secret header comes after its body")
    whole = secrets.struck_spans(whole, answer.spans)
    if secrets.are_told(read_answer(whole).body):
        raise NotWritable("a secret is spread over its tokens")
    ends = [0, *accumulate(len(piece) for _, piece in pieces)]
    cleaned = [(at, whole[one:other]) for (at, _), (one, other) in zip(pieces, pairwise(ends), strict=True)]
    return _with_clean_head(cleaned)


def _with_clean_head(pieces: list[tuple[float, bytes]]) -> tuple[tuple[float, bytes], ...]:
    """Make the head one piece, at the time when it was whole."""
    begun = b""
    for place, (at, piece) in enumerate(pieces):
        begun += piece
        head, end, rest = begun.partition(b"\r\n\r\n")
        if end:
            lines = [line for line in head.split(b"\r\n") if not _is_secret_line(line)]
            clean = b"\r\n".join([*lines, b"", rest])
            return ((at, clean), *pieces[place + 1 :])
    return tuple(pieces)


def _is_secret_line(line: bytes) -> bool:
    name, colon, _ = line.decode("latin-1").partition(":")
    return bool(colon) and is_secret(name)
