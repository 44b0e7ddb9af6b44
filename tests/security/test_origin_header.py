"""From which pages a browser may call (Origin): 403 for others, before anybody's token is looked at."""

import pytest

PORT, OTHER = "{port}", "{other}"
OWN = [
    "http://127.0.0.1:{port}",
    "http://localhost:{port}",
    "http://[::1]:{port}",
    "HTTP://LOCALHOST:{port}",
    " http://localhost:{port} ",
]
STRANGE = [
    "null",
    "NULL",
    "",
    "*",
    "http://evil.com",
    "http://evil.com:{port}",
    # the right name, from elsewhere
    "http://localhost",
    "http://127.0.0.1",
    "http://localhost:{other}",
    "http://localhost:80",
    "http://localhost:",
    "http://localhost:0",
    "http://localhost:{port}0",
    "https://localhost:{port}",
    "https://127.0.0.1:{port}",
    "https://localhost",
    "ws://localhost:{port}",
    "ftp://localhost:{port}",
    "httpx://localhost:{port}",
    "file://",
    "file://localhost",
    "chrome-extension://abcdefghijklmnop",
    "moz-extension://localhost:{port}",
    "vscode-webview://localhost:{port}",
    "data:",
    "blob:http://localhost:{port}/1",
    "http://127.0.0.2:{port}",
    "http://0.0.0.0:{port}",
    "http://[::]:{port}",
    "http://[::ffff:127.0.0.1]:{port}",
    "http://2130706433:{port}",
    "http://0x7f.1:{port}",
    "http://localhost.:{port}",
    # a name with ours in it
    "http://localhost.evil.com:{port}",
    "http://127.0.0.1.evil.com:{port}",
    "http://evil-localhost:{port}",
    "http://evil.localhost:{port}",
    "http://evil.com@localhost:{port}",
    "http://localhost:{port}@evil.com",
    "http://localhost:{port}.evil.com",
    "http://localhost:{port}/",
    "http://localhost:{port}/page",
    "http://localhost:{port}?",
    "http://localhost:{port}#",
    "http://evil.com/http://localhost:{port}",
    "http://evil.com#http://localhost:{port}",
    "http:/localhost:{port}",
    "http:///localhost:{port}",
    "http:\\\\localhost:{port}",
    "http:localhost:{port}",
    "//localhost:{port}",
    "localhost:{port}",
    "localhost",
    "http://localhost:{port} http://evil.com",
    "http://localhost:{port},http://evil.com",
    "http://localhost:{port}, http://localhost:{port}",
    "http://l\u03bfcalhost:{port}",
    "http://localhost\u3002evil.com:{port}",
    "http://\uff4cocalhost:{port}",
    "http://xn--lcalhost-54f:{port}",
]


@pytest.fixture(scope="module")
def served(serve_all):
    return serve_all()


@pytest.fixture(scope="module")
def known(serve_all):
    return serve_all(
        OLLAMA_MCP_ALLOW_ORIGINS="https://app.example, http://dev.example:3000, http://plain.example:80, http://[fd00::5]",
        OLLAMA_MCP_INSECURE_NO_AUTH="1",
    )


def got(ask, port, *headers, method="GET"):
    filled = [header.replace(PORT, str(port)).replace(OTHER, str(port - 1)) for header in headers]
    return ask(port, [f"{method} /metrics HTTP/1.1", f"Host: localhost:{port}", *filled, "Connection: close"])


@pytest.mark.parametrize("origin", OWN)
def test_a_page_of_this_very_server_may_call(ask, served, origin):
    assert got(ask, served.port, f"Origin: {origin}").status == 200


def test_another_page_may_not_and_no_browser_shows_it_the_answer(ask, served, subtests):
    for origin in STRANGE:
        with subtests.test(str(origin)):
            answer = got(ask, served.port, f"Origin: {origin}")
            assert answer.status == 403
            assert "access-control-allow-origin" not in answer.headers


HEADS = {
    "a program, which has no Origin": ([], 200),
    "the own one twice": (["Origin: http://localhost:{port}", "Origin: http://localhost:{port}"], 403),
    "the own one, then another": (["Origin: http://localhost:{port}", "Origin: http://evil.com"], 403),
    "another, then the own one": (["Origin: http://evil.com", "Origin: http://localhost:{port}"], 403),
    "folded over two lines": (["Origin: http://evil.com", " http://localhost:{port}"], 403),
    "a Referer is no Origin": (["Referer: http://evil.com/"], 200),
    "a Referer does not help": (["Origin: http://evil.com", "Referer: http://localhost:{port}/"], 403),
    "X-Forwarded-Proto is not ours": (["Origin: https://localhost:{port}", "X-Forwarded-Proto: https"], 403),
    "a NUL in it": (["Origin: http://localhost:{port}\0"], 400),
}  # fmt: skip


def test_at_most_one_origin_header_counts(ask, served, subtests):
    for headers, wanted in HEADS.values():
        with subtests.test(str(headers)):
            assert got(ask, served.port, *headers).status == wanted


ALLOWED = {
    "https://app.example": 200,
    "https://app.example:443": 200,
    "HTTPS://App.Example": 200,
    "http://app.example": 403,
    "http://app.example:443": 403,
    "https://app.example:80": 403,
    "https://app.example:8443": 403,
    "https://app.example/": 403,
    "https://app.example.": 403,
    "https://app.example.evil.com": 403,
    "https://evilapp.example": 403,
    "https://sub.app.example": 403,
    "https://app.example@evil.com": 403,
    "http://dev.example:3000": 200,
    "http://dev.example": 403,
    "http://dev.example:30000": 403,
    "https://dev.example:3000": 403,
    "http://plain.example": 200,
    "http://plain.example:80": 200,
    "https://plain.example": 403,
    "http://[fd00::5]": 200,
    "http://[FD00:0::5]:80": 200,
    "http://[fd00::6]": 403,
    "http://localhost:{port}": 200,
    "null": 403,
}


def test_an_origin_of_the_operators_is_scheme_name_and_port(ask, known, subtests):
    for origin, wanted in ALLOWED.items():
        with subtests.test(str(origin)):
            assert got(ask, known.port, f"Origin: {origin}").status == wanted


ASKS_FIRST = "Access-Control-Request-Method: POST"
PREFLIGHTS = {
    "https://app.example": (200, "https://app.example"),
    "http://dev.example:3000": (200, "http://dev.example:3000"),
    "http://plain.example": (200, "http://plain.example"),
    "http://evil.com": (400, None),
    "null": (400, None),
    "https://app.example.evil.com": (400, None),
    "http://app.example": (400, None),
}


@pytest.mark.parametrize("origin", PREFLIGHTS)
def test_a_browser_that_asks_first_is_told_yes_for_those_pages_alone(ask, known, origin):
    status, allowed = PREFLIGHTS[origin]
    answer = got(ask, known.port, f"Origin: {origin}", ASKS_FIRST, method="OPTIONS")
    assert (answer.status, answer.headers.get("access-control-allow-origin")) == (status, allowed)
    assert "access-control-allow-credentials" not in answer.headers


def test_without_pages_of_the_operators_no_browser_is_told_yes(ask, served):
    answer = got(ask, served.port, "Origin: http://evil.com", ASKS_FIRST, method="OPTIONS")
    assert (answer.status, answer.headers.get("access-control-allow-origin")) == (403, None)
