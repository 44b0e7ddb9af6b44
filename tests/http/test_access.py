"""Who is let in over HTTP, and whose is what."""

from contextlib import AsyncExitStack
from functools import partial

import anyio
import httpx
import httpx2
import pytest
from mcp import MCPError
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer
from starlette.applications import Starlette
from starlette.routing import Mount

from ollama_mcp import App, create_server, register
from ollama_mcp.settings import load
from ollama_mcp.testing import Script
from ollama_mcp.transports.http import access_of, http_app, listen, serve_http

ANNE, BERT = "anne-has-this-token-of-32-characters", "bert-has-this-token-of-32-characters"


def bearer(token):
    return {"authorization": f"Bearer {token}"}


@pytest.fixture
def shared(serve, tmp_path):
    """A server with two callers who have names, and one who has none."""
    tokens = tmp_path / "tokens"
    tokens.write_text(f"# who may call\nanne {ANNE}\n\nbert {BERT}\n{ANNE[::-1]}\n")
    return serve(OLLAMA_MCP_TOKEN_FILE=str(tokens), OLLAMA_MCP_RATE="2/h", OLLAMA_MCP_BURST="2")


def test_a_websocket_is_refused():
    sent = []

    async def send(message):
        sent.append(message)

    served = http_app(MCPServer("host"), App.create(load({})))
    scope = {"type": "websocket", "path": "/mcp", "headers": [], "query_string": b"", "subprotocols": []}
    anyio.run(served.application, scope, anyio.sleep_forever, send)
    assert sent == [{"type": "websocket.close"}]


def test_this_machine_needs_no_token(serve):
    served = serve()
    response = served.call()
    assert response.status_code == 200
    assert not served.answer_in(response)["result"].get("isError")


@pytest.mark.parametrize("token", [pytest.param(ANNE, marks=pytest.mark.gate), BERT, ANNE[::-1]])
def test_a_token_of_the_file_is_let_in(shared, token):
    assert shared.call(headers=bearer(token)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{}, pytest.param(bearer(ANNE[:-1]), marks=pytest.mark.gate), bearer("anne"), {"authorization": ANNE}],
)
def test_another_token_or_none_is_told_which_kind_is_wanted(shared, headers):
    response = shared.call(headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer ")


def test_a_client_that_looks_for_an_issuer_finds_that_there_is_none(shared):
    """Not 401: it would ask for a token in order to ask for a token."""
    for kind in ("oauth-protected-resource/mcp", "oauth-authorization-server"):
        assert shared.ask(path=f"/.well-known/{kind}").status_code == 404
    assert shared.ask(path="/other").status_code == 401


def test_each_caller_has_a_rate_of_its_own(shared):
    def codes(token, count):
        calls = (
            shared.call("ollama_rank", headers=bearer(token), query="a", candidates=["b"])
            for _ in range(count)
        )
        return [code_of(shared.answer_in(call)["result"]) for call in calls]

    assert codes(ANNE, 3) == [None, None, "RATE_LIMITED"]
    assert codes(BERT, 1) == [None]


def code_of(result):
    return result.get("_meta", {}).get("ollama-mcp/error", {}).get("code")


def test_an_answer_is_kept_for_its_caller_alone(shared, ollama):
    def ask(tool, token, **arguments):
        return shared.answer_in(shared.call(tool, headers=bearer(token), **arguments))["result"]

    ollama.script(Script(tokens=["a "] * 5, hold_after_tokens=2))
    handle = ask("ollama_chat", ANNE, prompt="x", wait_s=0.2)["_meta"]["ollama-mcp/reply"]["handle"]
    foreign = ask("ollama_continue", BERT, handle=handle)
    unknown = ask("ollama_continue", BERT, handle="0" * 32)
    assert code_of(foreign) == "UNKNOWN_HANDLE"
    assert foreign["content"] == unknown["content"]
    ollama.release()
    assert ask("ollama_continue", ANNE, handle=handle)["content"][0]["text"] == "a " * 5


# --- what is open to others ----------------------------------------------------------------------


def listening(**variables):
    access, sockets = listen(load({"OLLAMA_MCP_HTTP": "0.0.0.0:0", **variables}))
    for opened in sockets:
        opened.close()
    return access


def test_an_address_that_others_reach_wants_a_token():
    with pytest.raises(ValueError, match="OLLAMA_MCP_TOKEN"):
        listening()


@pytest.mark.parametrize(
    "variables",
    [{"OLLAMA_MCP_TOKEN": ANNE}, {"OLLAMA_MCP_INSECURE_NO_AUTH": "1"}, {"OLLAMA_MCP_HTTP": "[::1]:0"}],
)
def test_a_token_a_word_of_the_operator_or_loopback_will_do(variables):
    listening(**variables)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"OLLAMA_MCP_TOKEN": ANNE, "OLLAMA_MCP_INSECURE_NO_AUTH": "1"}, "contrary"),
        ({"OLLAMA_MCP_TOKEN": ANNE, "OLLAMA_MCP_VERIFIER": "json:loads"}, "contrary"),
        ({"OLLAMA_MCP_VERIFIER": "no_such_module:make"}, "PYTHONPATH"),
        ({"OLLAMA_MCP_VERIFIER": "json:no_such_function"}, "no_such_function"),
        ({"OLLAMA_MCP_VERIFIER": "collections:Counter"}, "verify_token"),
    ],
)
def test_what_is_contrary_or_cannot_be_made_is_a_bad_setting(variables, said):
    with pytest.raises(ValueError, match=said):
        access_of(load(variables))


def test_there_are_as_many_connections_as_the_system_has_room_for(monkeypatch):
    monkeypatch.setattr(serve_http.resource, "getrlimit", lambda _: (300, 300))
    access = listening(OLLAMA_MCP_TOKEN=ANNE)
    assert access.connections == 44


# --- mounted, without a bind of its own --------------------------------------------------------


@pytest.fixture
def mounted(ollama):
    """Asks an application that nobody serves, at an address of the test's own."""

    async def ask(base, path="/ollama/mcp", *, entered=True, **variables):
        app = App.create(load({"OLLAMA_HOST": ollama.url, **variables}))
        server = http_app(create_server(app), app)
        outer = Starlette(routes=[*server.metadata, Mount("/ollama", server.application)])
        async with AsyncExitStack() as stack:
            if entered:
                await stack.enter_async_context(server.lifespan(outer))
            transport = httpx.ASGITransport(outer)
            client = await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url=base))
            return await client.get(path)

    return lambda *args, **kwargs: anyio.run(partial(ask, *args, **kwargs))


@pytest.mark.parametrize("name", ["HOSTS", "ORIGINS"])
def test_strangers_that_are_let_in_by_name_want_a_token(name):
    allowed = {f"OLLAMA_MCP_ALLOW_{name}": "gpu.example.com" if name == "HOSTS" else "https://app.example"}
    with pytest.raises(ValueError, match="OLLAMA_MCP_TOKEN"):
        listening(OLLAMA_MCP_HTTP="127.0.0.1:0", **allowed)
    listening(OLLAMA_MCP_HTTP="127.0.0.1:0", OLLAMA_MCP_TOKEN=ANNE, **allowed)
    app = App.create(load(allowed))
    with pytest.raises(ValueError, match="OLLAMA_MCP_TOKEN"):
        http_app(create_server(app), app)
    auth = AuthSettings(
        issuer_url="https://issuer.example.com",
        resource_server_url="https://a.example/mcp",
        validate_token_resource=False,
    )
    http_app(MCPServer("host", auth=auth, token_verifier=Friends()), app)  # its own tokens are asked for


def test_mounted_without_a_token_it_answers_this_machine_alone(mounted):
    assert mounted("http://127.0.0.1:8000").status_code != 403
    refused = mounted("http://10.0.0.7:8000")
    assert refused.status_code == 403
    assert "token" in refused.json()["error"]["message"]
    assert mounted("http://10.0.0.7:8000", OLLAMA_MCP_INSECURE_NO_AUTH="1").status_code != 403
    assert mounted("http://10.0.0.7:8000", OLLAMA_MCP_TOKEN=ANNE).status_code == 401


class Friends:
    """The verifier of a host of somebody's."""

    async def verify_token(self, token):
        return AccessToken(token=token, client_id="anne", scopes=[]) if token == ANNE else None


def test_on_a_host_with_auth_of_its_own_the_metrics_are_behind_that_too(ollama):
    auth = AuthSettings(
        issuer_url="https://issuer.example.com",
        resource_server_url="https://gpu.example.com/mcp",
        validate_token_resource=False,
    )

    async def statuses(path):
        app = App.create(load({"OLLAMA_HOST": ollama.url}))
        host = MCPServer("somebody's", auth=auth, token_verifier=Friends())
        register(host, app)
        server = http_app(host, app)
        async with (
            server.lifespan(server.application),
            httpx.AsyncClient(
                transport=httpx.ASGITransport(server.application), base_url="http://127.0.0.1:8000"
            ) as client,
        ):
            return [(await client.get(path, headers=h)).status_code for h in ({}, bearer(BERT), bearer(ANNE))]

    assert anyio.run(statuses, "/metrics") == [401, 401, 200]
    assert anyio.run(statuses, "/health") == [200, 200, 200]
    assert anyio.run(statuses, "/mcp")[:2] == [401, 401]


def test_mounted_without_its_lifespan_it_says_so_and_is_not_healthy(mounted):
    refused = mounted("http://127.0.0.1:8000", entered=False)
    assert refused.status_code == 503
    assert "lifespan" in refused.json()["error"]["message"]
    assert mounted("http://127.0.0.1:8000", "/ollama/health", entered=False).status_code == 503


# --- what the client and the operator are told ---------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_shows_why_it_was_turned_away_and_the_log_has_it(serve, mode, caplog):
    served = serve()
    async with httpx2.AsyncClient(headers={"host": "gpu.example.com"}) as http:
        told = pytest.RaisesExc(MCPError, match=r"gpu\.example\.com.*--allow-hosts")
        with pytest.RaisesGroup(told, flatten_subgroups=True), anyio.fail_after(10):
            async with Client(streamable_http_client(served.url, http_client=http), mode=mode):
                pass
    assert "gpu.example.com" in caplog.text
