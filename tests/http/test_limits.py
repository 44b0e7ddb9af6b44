"""How much one caller may have at once, and how long the server waits for it."""

import asyncio
import socket

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
