"""Sockets, bodies and framing: what a request may be."""

import asyncio
import socket

import anyio
import pytest

from ollama_mcp.transports.http import open_sockets

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
