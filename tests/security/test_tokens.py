"""Who is let in by which token: 401 for every other one, 429 for who tries many, 403 for a scope too few."""

import json
import sys
import time
from base64 import b64encode
from types import ModuleType

import anyio
import pytest
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings

from ollama_mcp.jobs.rate_limit import Rate, RateLimit
from ollama_mcp.transports.http import auth, refusals

ANNE, BERT = "Anne-has-this-token-of-32-characters", "0123456789-abcdef-BERTs-token-is-this"
RIGHT = "Authorization: Bearer " + ANNE


@pytest.fixture(scope="module")
def served(serve_all, tmp_path_factory):
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(f"# who may call: secret-of-a-comment-of-32-characters\nanne {ANNE}\n\nbert {BERT}\n")
    return serve_all(OLLAMA_MCP_TOKEN_FILE=str(tokens), OLLAMA_MCP_SSE="1")


def got(ask, served, *headers, method="GET", target="/metrics", host="", body=b"", **kwargs):
    host = host or f"localhost:{served.port}"
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *headers, "Connection: close"]
    return ask(served.port, [*lines, *([f"Content-Length: {len(body)}"] if body else [])], body, **kwargs)


LET_IN = [
    f"Bearer {ANNE}",
    f"Bearer {BERT}",
    f"bearer {ANNE}",
    f"BEARER {ANNE}",
    f"BeArEr {ANNE}",
    f"  Bearer {ANNE} \t ",
]
KEPT_OUT = {
    "nothing": "",
    "the scheme alone": "Bearer",
    "the scheme and a blank": "Bearer ",
    "the token alone": ANNE,
    "two blanks": f"Bearer  {ANNE}",
    "a tab": f"Bearer\t{ANNE}",
    "no blank": f"Bearer{ANNE}",
    "a colon": f"Bearer: {ANNE}",
    "an equals sign": f"Bearer={ANNE}",
    "a blank in the token": f"Bearer {ANNE[:9]} {ANNE[9:]}",
    "something behind it": f"Bearer {ANNE} x",
    "a comma behind it": f"Bearer {ANNE},",
    "quotes": f'Bearer "{ANNE}"',
    "another scheme": f"Token {ANNE}",
    "Basic with the token": f"Basic {ANNE}",
    "Basic in base64": "Basic " + b64encode(f"anne:{ANNE}".encode()).decode(),
    "Digest": f'Digest username="anne", response="{ANNE}"',
    "Bearer in base64": "Bearer " + b64encode(ANNE.encode()).decode(),
    "all but the last character": f"Bearer {ANNE[:-1]}",
    "all but the first character": f"Bearer {ANNE[1:]}",
    "one character": f"Bearer {ANNE[0]}",
    "one more": f"Bearer {ANNE}x",
    "twice": f"Bearer {ANNE}{ANNE}",
    "another case": f"Bearer {ANNE.lower()}",
    "half of two tokens": f"Bearer {ANNE[:18]}{BERT[18:]}",
    "two tokens": f"Bearer {ANNE} {BERT}",
    "two tokens with a comma": f"Bearer {ANNE}, Bearer {BERT}",
    "the owner's name": "Bearer anne",
    "name and token": f"Bearer anne {ANNE}",
    "name, colon, token": f"Bearer anne:{ANNE}",
    "a comment of the file": "Bearer secret-of-a-comment-of-32-characters",
    "a hash": "Bearer #",
    "null": "Bearer null",
    "undefined": "Bearer undefined",
    "a variable that was not filled in": "Bearer ${OLLAMA_MCP_TOKEN}",
    "an asterisk": "Bearer *",
    "percent signs": "Bearer %41nne-has-this-token-of-32-characters",
    "32 KiB": "Bearer " + "x" * 32768,
    "32 KiB that begin right": f"Bearer {ANNE}" + "x" * 32768,
    "not ASCII": "Bearer \u00c4nne-has-this-token-of-32-characters",
    "wide letters": "Bearer \uff21nne-has-this-token-of-32-characters",
    "half an emoji": b"Authorization: Bearer \xed\xa0\xbd",
    "no UTF-8": b"Authorization: Bearer \xff\xfe",
}


@pytest.mark.parametrize("value", LET_IN)
def test_a_token_of_the_file_is_let_in_however_the_scheme_is_written(ask, served, value):
    assert got(ask, served, f"Authorization: {value}").status == 200


@pytest.mark.parametrize("value", KEPT_OUT.values(), ids=KEPT_OUT)
def test_anything_else_is_answered_401_with_what_is_wanted(ask, served, value):
    answer = got(ask, served, value if isinstance(value, bytes) else f"Authorization: {value}")
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Bearer ")
    assert ANNE.encode() not in answer.body


ELSEWHERE = {
    "nowhere": [],
    "in Proxy-Authorization": [f"Proxy-Authorization: Bearer {ANNE}"],
    "in X-Authorization": [f"X-Authorization: Bearer {ANNE}"],
    "in X-Api-Key": [f"X-Api-Key: {ANNE}"],
    "in a cookie": [f"Cookie: token={ANNE}; authorization=Bearer {ANNE}"],
    "in the session's id": [f"Mcp-Session-Id: {ANNE}"],
    "twice": [RIGHT, RIGHT],
    "first of two": [RIGHT, f"Authorization: Bearer {ANNE[:-1]}"],
    "second of two": [f"Authorization: Bearer {ANNE[:-1]}", RIGHT],
    "two that are right": [RIGHT, f"Authorization: Bearer {BERT}"],
    "beside Basic": ["Authorization: Basic eDp5", RIGHT],
    "before Basic": [RIGHT, "Authorization: Basic eDp5"],
    "beside an empty one": ["Authorization:", RIGHT],
}


@pytest.mark.parametrize("headers", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_token_counts_in_the_one_authorization_header_alone(ask, served, headers):
    assert got(ask, served, *headers).status == 401


@pytest.mark.parametrize(
    "query",
    [
        f"token={ANNE}",
        f"access_token={ANNE}",
        f"bearer_token={ANNE}",
        f"authorization=Bearer%20{ANNE}",
        f"Authorization=Bearer+{ANNE}",
        f"api_key={ANNE}",
    ],
)
def test_a_token_in_the_address_does_not_count(ask, served, query):
    assert got(ask, served, target=f"/metrics?{query}").status == 401


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "application/json"])
def test_a_token_in_the_body_does_not_count(ask, served, kind):
    body = f"access_token={ANNE}" if "form" in kind else json.dumps({"access_token": ANNE})
    answer = got(ask, served, f"Content-Type: {kind}", method="POST", target="/mcp", body=body.encode())
    assert answer.status == 401


PATHS = ["/mcp", "/metrics", "/sse", "/messages/", "/", "/no-such-path", "/mcp/", "/health/x"]
BEHIND = [(m, p) for p in PATHS
          for m in ("GET", "POST", "DELETE", "PUT", "OPTIONS", "HEAD", "PATCH")]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), BEHIND)
def test_everything_but_the_probes_is_behind_the_token(ask, served, method, path):
    assert got(ask, served, method=method, target=path).status == 401


@pytest.mark.parametrize(
    "headers", [[], [RIGHT], ["Authorization: Bearer wrong"], ["Origin: http://evil.com"]]
)
@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_a_probe_is_bare(ask, served, path, headers):
    answer = got(ask, served, *headers, target=path, host="10.1.2.3")
    assert (answer.status, answer.body) == (200, b"ok\n")
    assert not {"server", "www-authenticate", "set-cookie", "mcp-session-id"} & set(answer.headers)


ORDER = {
    "strange Host, right token": ("evil.com", [RIGHT], 421),
    "strange Host, no token": ("evil.com", [], 421),
    "strange page, right token": ("", [RIGHT, "Origin: http://evil.com"], 403),
    "strange page, no token": ("", ["Origin: http://evil.com"], 403),
    "strange Host, strange page": ("evil.com", [RIGHT, "Origin: http://evil.com"], 421),
}


@pytest.mark.parametrize(("host", "headers", "wanted"), ORDER.values(), ids=ORDER)
def test_a_right_token_does_not_open_the_other_doors(ask, served, host, headers, wanted):
    assert got(ask, served, *headers, host=host).status == wanted


def test_a_head_that_is_too_long_is_no_request(ask, served):
    assert got(ask, served, "Authorization: Bearer " + "x" * 300_000).status == 400


def test_a_nul_in_a_token_is_no_request(ask, served):
    assert got(ask, served, f"Authorization: Bearer {ANNE}\0").status == 400


# --- who guesses ---------------------------------------------------------------------------------


def test_a_wrong_token_costs_what_a_call_costs_and_is_in_the_log_without_its_letters(
    serve, ask, caplog, monkeypatch
):
    monkeypatch.setattr(refusals, "_lines", RateLimit({"lines": Rate(60, 60.0)}, burst=60))
    served = serve(OLLAMA_MCP_TOKEN=ANNE, OLLAMA_MCP_RATE="10/h", OLLAMA_MCP_BURST="10")
    wrong = f"Authorization: Bearer {BERT}"
    guesses = [got(ask, served, wrong, source="127.0.0.8") for _ in range(12)]
    assert [answer.status for answer in guesses] == [401] * 10 + [429] * 2
    assert int(guesses[-1].headers["retry-after"]) >= 1
    assert got(ask, served, RIGHT, source="127.0.0.8").status == 200
    assert got(ask, served, wrong, source="127.0.0.9").status == 401
    assert "a wrong token from 127.0.0.8" in caplog.text
    assert BERT not in caplog.text


def test_who_brings_no_token_is_no_guesser(serve, ask):
    served = serve(OLLAMA_MCP_TOKEN=ANNE, OLLAMA_MCP_RATE="10/h")
    assert {got(ask, served).status for _ in range(30)} == {401}


class ErrorContext:
    """A TokenVerifier that knows one token, and notes for which ones it is asked."""

    def __init__(self) -> None:
        self.tokens = []

    async def verify_token(self, token: str) -> AccessToken | None:
        self.tokens.append(token)
        await anyio.sleep(0)
        return AccessToken(token="", client_id="anne", scopes=[]) if token.startswith("right") else None


@pytest.fixture
def asked(serve):
    """A server whose verifier tells what it was asked."""
    module, verifier = ModuleType("asked_of_the_tests"), ErrorContext()
    module.make = lambda: verifier
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        served = serve(OLLAMA_MCP_VERIFIER="asked_of_the_tests:make")
    served.verifier = verifier
    return served


def statuses(ask, served, tokens, **where):
    return [got(ask, served, f"Authorization: Bearer {token}", **where).status for token in tokens]


def test_right_tokens_that_are_new_use_up_nobodys_patience(asked, ask):
    assert statuses(ask, asked, [f"right-{n}" for n in range(20)]) == [200] * 20


# --- somebody's own verifier ---------------------------------------------------------------------

RESOURCE = "https://gpu.example.com/mcp"
METADATA = "/.well-known/oauth-protected-resource/mcp"
ISSUED = {
    # token: (what it says beside its owner, the status)
    "right": ({}, 200),
    "with more scopes": ({"scopes": ["x", "ollama"]}, 200),
    "without scopes": ({"scopes": []}, 403),
    "with other scopes": ({"scopes": ["other"]}, 403),
    "with a scope that begins so": ({"scopes": ["ollama:read"]}, 403),
    "with a scope in capitals": ({"scopes": ["OLLAMA"]}, 403),
    "with two scopes in one": ({"scopes": ["x ollama"]}, 403),
    "expired": ({"expires_at": int(time.time()) - 60}, 401),
    "expired long ago": ({"expires_at": 1}, 401),
    "not yet expired": ({"expires_at": int(time.time()) + 3600}, 200),
    "expired and without scopes": ({"expires_at": 1, "scopes": []}, 401),
    "for nobody": ({"resource": None}, 401),
    "for nothing": ({"resource": ""}, 401),
    "for a word": ({"resource": "mcp"}, 401),
    "for the server with a slash": ({"resource": RESOURCE + "/"}, 200),
    "for the server in capitals": ({"resource": "HTTPS://GPU.example.com/mcp"}, 200),
    "for the server with its port": ({"resource": "https://gpu.example.com:443/mcp"}, 200),
    "for another server": ({"resource": "https://other.example.com/mcp"}, 401),
    "for the server without https": ({"resource": "http://gpu.example.com/mcp"}, 401),
    "for another port": ({"resource": "https://gpu.example.com:8443/mcp"}, 401),
    "for the whole machine": ({"resource": "https://gpu.example.com"}, 401),
    "for a path that begins so": ({"resource": RESOURCE + "2"}, 401),
    "for a path below": ({"resource": RESOURCE + "/x"}, 401),
    "for a path in capitals": ({"resource": "https://gpu.example.com/MCP"}, 401),
    "for a name that begins so": ({"resource": "https://gpu.example.com.evil.com/mcp"}, 401),
    "for the server with a query": ({"resource": RESOURCE + "?x"}, 401),
}


class Issuer:
    """A TokenVerifier of an issuer, which has failures of its own."""

    def __init__(self, checks: bool | None = True) -> None:
        said = {} if checks is None else {"validate_token_resource": checks}
        with pytest.warns() if checks is None else pytest.MonkeyPatch.context():
            self.auth_settings = AuthSettings(
                issuer_url="https://issuer.example.com",
                resource_server_url=RESOURCE,
                required_scopes=["ollama"],
                **said,
            )

    async def verify_token(self, token: str) -> AccessToken | None:
        if token == "fails":
            raise RuntimeError(f"the issuer did not like {token}")
        if token == "hangs":
            await anyio.sleep_forever()
        if token not in ISSUED:
            return None
        usual = {"token": token, "client_id": "client", "scopes": ["ollama"], "resource": RESOURCE}
        return AccessToken(**{**usual, **ISSUED[token][0]})


def issuing(start, checks):
    """A server whose verifier is an Issuer."""
    module = ModuleType("issuer_of_the_tests")
    module.make = lambda: Issuer(checks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        return start(OLLAMA_MCP_VERIFIER="issuer_of_the_tests:make")


@pytest.fixture(scope="module")
def issued(serve_all):
    return issuing(serve_all, True)


@pytest.mark.parametrize("token", ISSUED)
def test_a_token_of_an_issuer_is_for_this_server_in_time_and_has_the_scope(ask, issued, token):
    answer = got(ask, issued, f"Authorization: Bearer {token}")
    assert answer.status == ISSUED[token][1]
    wanted = {401: 'error="invalid_token"', 403: 'error="insufficient_scope"'}.get(answer.status, "")
    assert wanted in answer.headers.get("www-authenticate", "")


@pytest.mark.parametrize("headers", [[], ["Authorization: Bearer unknown"], ["Authorization: Basic eDp5"]])
def test_who_has_no_token_learns_where_to_get_one(ask, issued, headers):
    answer = got(ask, issued, *headers)
    assert answer.status == 401
    assert f'resource_metadata="https://gpu.example.com{METADATA}"' in answer.headers["www-authenticate"]


def test_the_metadata_name_issuer_resource_and_scopes(ask, issued):
    answer = got(ask, issued, target=METADATA)
    assert answer.status == 200
    told = json.loads(answer.body)
    assert told["resource"] == RESOURCE
    assert [url.rstrip("/") for url in told["authorization_servers"]] == ["https://issuer.example.com"]
    assert told["scopes_supported"] == ["ollama"]
    assert told["bearer_methods_supported"] == ["header"]


def test_without_an_issuer_there_are_no_metadata(ask, served):
    assert got(ask, served, target=METADATA).status == 404
    assert got(ask, served, RIGHT, target=METADATA).status == 404


def test_the_audience_is_checked_unless_the_verifier_says_that_it_does_so_itself(ask, serve):
    silent, itself = issuing(serve, None), issuing(serve, False)
    for_another = "Authorization: Bearer for another server"
    assert got(ask, silent, for_another).status == 401
    assert got(ask, silent, "Authorization: Bearer right").status == 200
    assert got(ask, itself, for_another).status == 200


def test_a_verifier_that_fails_lets_nobody_in_and_does_not_tell_why(ask, issued, caplog):
    answer = got(ask, issued, "Authorization: Bearer fails")
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert b"did not like" not in answer.body
    assert "RuntimeError" in caplog.text
    assert "verify_token" in caplog.text
    assert "did not like fails" not in caplog.text
    assert got(ask, issued, "Authorization: Bearer right").status == 200


def test_a_verifier_that_hangs_is_not_waited_for(ask, issued, monkeypatch):
    monkeypatch.setattr(auth, "_VERIFIER_S", 0.1)
    assert got(ask, issued, "Authorization: Bearer hangs").status == 503
