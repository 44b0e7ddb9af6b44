"""How much one caller may have at once, and how long the server waits for it."""

import asyncio
import json
import socket
from contextlib import ExitStack, suppress

import anyio
import pytest

from ollama_mcp.transports.http import open_sockets
from ollama_mcp.transports.http.sessions import Sessions

HALF_AN_HOUR = 30 * 60


# --- sessions -----------------------------------------------------------------------------------


class SDK:
    """Opens a session for whoever has none, and ends one that is deleted."""

    def __init__(self):
        self.opened = 0

    async def __call__(self, scope, receive, send):
        headers = dict(scope["headers"])
        if b"mcp-session-id" not in headers:
            self.opened += 1
            headers = {b"mcp-session-id": b"%d" % self.opened}
        await send({"type": "http.response.start", "status": 200, "headers": list(headers.items())})


class Caller:
    """Asks Sessions on behalf of somebody."""

    def __init__(self, share=2):
        self.now = 0.0
        self.sessions = Sessions(SDK(), share, lambda scope: scope["who"], lambda: self.now)

    def status(self, who="anne", method="POST", **headers):
        statuses = []

        async def send(message):
            statuses.append(message.get("status"))

        pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": method, "headers": pairs, "who": who}
        asyncio.run(self.sessions(scope, None, send))
        return statuses[0]


def test_a_caller_opens_its_share_of_sessions_and_no_more():
    caller = Caller()
    assert [caller.status() for _ in range(3)] == [200, 200, 429]
    assert caller.status("bert") == 200


def test_a_session_that_is_deleted_makes_room():
    caller = Caller()
    assert [caller.status() for _ in range(2)] == [200, 200]
    assert caller.status(method="DELETE", mcp_session_id="1") == 200
    assert caller.status() == 200


def test_a_session_that_is_idle_for_half_an_hour_makes_room_as_the_sdk_ends_it():
    caller = Caller()
    assert [caller.status() for _ in range(2)] == [200, 200]
    caller.now = HALF_AN_HOUR - 1
    assert caller.status(mcp_session_id="2") == 200
    caller.now = HALF_AN_HOUR + 1
    assert [caller.status() for _ in range(2)] == [200, 429]


def test_a_call_of_2026_opens_none():
    caller = Caller(share=0)
    assert caller.status(mcp_protocol_version="2026-07-28") == 200
    assert caller.status(mcp_protocol_version="2025-11-25") == 429


# --- sockets ------------------------------------------------------------------------------------


def test_an_answer_in_two_parts_does_not_wait_for_the_clients_acknowledgement():
    """Nagle's algorithm and delayed acknowledgements together cost 40 ms a call."""

    async def option():
        found = asyncio.get_running_loop().create_future()
        [listener] = open_sockets(("127.0.0.1", 0))

        def connected(_reader, writer):
            accepted = writer.get_extra_info("socket")
            found.set_result(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        async with await asyncio.start_server(connected, sock=listener):
            with anyio.fail_after(5), socket.create_connection(listener.getsockname()):
                return await found

    assert asyncio.run(option())


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "::"])
def test_every_address_of_a_name_is_bound_to_one_port(name):
    sockets = open_sockets((name, 0))
    try:
        assert len({opened.getsockname()[1] for opened in sockets}) == 1
    finally:
        for opened in sockets:
            opened.close()


# --- bodies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["[],", "1,", '"",'])
def test_a_body_of_very_many_small_parts_is_refused_before_it_becomes_objects(serve, part):
    body = '{"jsonrpc":"2.0","id":1,"method":"ping","params":[' + part * 300_000 + "0]}"
    headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    response = serve().ask("POST", content=body, headers=headers)
    assert response.status_code == 413
    assert "250000" in response.text


def test_large_bodies_of_one_caller_leave_room_for_another_and_for_small_ones(serve):
    """Half-sent, they are held until their clock runs out."""
    served = serve(OLLAMA_MCP_MAX_LINE="1 MiB")
    half = b"x" * (1 << 20)
    head = (
        f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(half)}\r\n\r\n"
    ).encode()
    posted = {"content": half[:-1], "headers": {"content-type": "application/json"}}
    with ExitStack() as stack:
        # One that is posted meanwhile may take the room of one that is half-sent: as many as it takes.
        for _ in range(1000):
            opened = stack.enter_context(socket.create_connection(("127.0.0.1", served.port)))
            with suppress(ConnectionError):  # refused, and closed, before all was sent
                opened.sendall(head + half[:-1])
            refused = served.ask("POST", **posted)
            if refused.status_code == 429:
                break
        assert refused.headers["retry-after"] == "1"
        assert served.call().status_code == 200


def test_a_request_with_two_lengths_is_refused_and_its_connection_closed(serve):
    served = serve()
    with socket.create_connection(("127.0.0.1", served.port)) as opened:
        opened.settimeout(5)
        opened.sendall(
            f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nContent-Length: 4\r\n"
            "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        )
        answer = b"".join(iter(lambda: opened.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1


def test_when_all_places_are_taken_the_one_that_is_idle_longest_makes_room(serve):
    served = serve(OLLAMA_MCP_HTTP_CONNECTIONS="3")
    with ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(("127.0.0.1", served.port))) for _ in range(3)]
        for opened in idle:
            opened.settimeout(5)
            opened.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert opened.recv(100).startswith(b"HTTP/1.1 200")
        assert served.call().status_code == 200
        assert b"".join(iter(lambda: idle[0].recv(65536), b"")) is not None  # it ends
        idle[2].sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle[2].recv(100)


def test_sessions_that_are_being_opened_count(serve):
    """Many heads at once, before any is answered."""
    served = serve(OLLAMA_MCP_HTTP_CONNECTIONS="10")
    said = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": said}).encode()
    head = (
        f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nContent-Type: application/json\r\n"
        f"Accept: application/json, text/event-stream\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()

    def status(opened):
        opened.sendall(body)
        return opened.recv(65536)[9:12]

    with ExitStack() as stack:
        places = [stack.enter_context(socket.create_connection(("127.0.0.1", served.port))) for _ in range(9)]
        for opened in places:
            opened.settimeout(5)
            opened.sendall(head)
        assert [status(opened) for opened in places].count(b"200") == 5
