"""By which names the server may be called (Host): 421 for others, 400 where HTTP itself is broken."""

import pytest
from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings

from ollama_mcp.settings.listening import AllowedNames

PORT, OTHER = "{port}", "{other}"
OWN = [
    "127.0.0.1:{port}",
    "localhost:{port}",
    "LocalHost:{port}",
    "[::1]:{port}",
    "[0:0:0:0:0:0:0:1]:{port}",
    "[0::0001]:{port}",
    "  localhost:{port}\t",
]
STRANGE = [
    # another port, or none, which is 80
    "127.0.0.1",
    "localhost",
    "[::1]",
    "localhost:80",
    "localhost:{other}",
    "127.0.0.1:{other}",
    "localhost:{port}0",
    "localhost:0{port}",
    "localhost:0",
    "localhost:65536",
    "localhost:",
    "localhost:+{port}",
    "localhost:-1",
    "localhost:http",
    "localhost:{port}:{port}",
    "localhost:{port}:80",
    "localhost:\uff11\uff12",
    # a name with ours in it
    "evil.com:{port}",
    "evil.com",
    "localhost.evil.com:{port}",
    "127.0.0.1.evil.com:{port}",
    "evil-localhost:{port}",
    "evil.localhost:{port}",
    "localhost-evil.com:{port}",
    "127.0.0.1.nip.io:{port}",
    "evil.com:{port}@127.0.0.1:{port}",
    "user@localhost:{port}",
    "user:secret@localhost:{port}",
    "localhost:{port}@evil.com",
    "localhost:{port},evil.com",
    "evil.com, localhost:{port}",
    "localhost:{port} evil.com",
    "localhost:{port}/",
    "localhost:{port}?",
    "localhost:{port}#",
    "evil.com#localhost:{port}",
    "evil.com\\localhost:{port}",
    "http://localhost:{port}",
    "//localhost:{port}",
    "localhost%2eevil.com:{port}",
    "localhost%00:{port}",
    # other spellings of this machine, of which a browser may make use, and no client of ours does
    "localhost.:{port}",
    "127.0.0.1.:{port}",
    "127.0.0.2:{port}",
    "127.1:{port}",
    "2130706433:{port}",
    "0x7f.0.0.1:{port}",
    "0177.0.0.1:{port}",
    "127.000.000.001:{port}",
    "0.0.0.0:{port}",
    "0:{port}",
    "[::]:{port}",
    "[::ffff:127.0.0.1]:{port}",
    "[::ffff:7f00:1]:{port}",
    "[::127.0.0.1]:{port}",
    "[::1%lo]:{port}",
    "[::1%25lo]:{port}",
    "[127.0.0.1]:{port}",
    "[localhost]:{port}",
    "::1:{port}",
    "::1",
    "[::1:{port}",
    "[::1]{port}",
    "[::1].evil.com:{port}",
    # not ASCII
    "\uff4cocalhost:{port}",
    "l\u03bfcalhost:{port}",
    "localhost\u3002:{port}",
    "\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3:{port}",
    "\uff11\uff12\uff17.0.0.1:{port}",
    "\u202elocalhost:{port}",
    # nothing
    "",
    ":{port}",
    "*",
    "*:{port}",
    "gpu-box:{port}",
]


@pytest.fixture(scope="module")
def served(serve_all):
    return serve_all()


def filled(text: str, port: int) -> str:
    return text.replace(PORT, str(port)).replace(OTHER, str(port - 1))


def status(ask, port, *headers, version="1.1", target="/metrics", address="127.0.0.1"):
    lines = [f"GET {target} HTTP/{version}", *(filled(header, port) for header in headers)]
    return ask(port, [*lines, "Connection: close"], address=address).status


@pytest.mark.parametrize("host", OWN)
def test_its_own_name_with_the_exact_port_is_let_in(ask, served, host):
    assert status(ask, served.port, f"Host: {host}") == 200


def test_another_name_is_turned_away(ask, served, subtests):
    for host in STRANGE:
        with subtests.test(str(host)):
            assert status(ask, served.port, f"Host: {host}") == 421


HEADS = {
    "no Host": ([], 400),
    "no Host, HTTP/1.0": (["1.0"], 421),
    "own Host, HTTP/1.0": (["1.0", "Host: localhost:{port}"], 200),
    "strange Host, HTTP/1.0": (["1.0", "Host: evil.com"], 421),
    "the same Host twice": (["Host: localhost:{port}", "Host: localhost:{port}"], 400),
    "own Host, then another": (["Host: localhost:{port}", "Host: evil.com"], 400),
    "another Host, then the own": (["Host: evil.com", "host: localhost:{port}"], 400),
    "two Hosts, HTTP/1.0": (["1.0", "Host: localhost:{port}", "Host: evil.com"], 400),
    "a blank before the colon": (["Host : localhost:{port}"], 400),
    "a blank before the name": (["X: y", " Host: localhost:{port}"], 400),
    "Host folded over two lines": (["Host: evil.com", " localhost:{port}"], 421),
    "a NUL in it": (["Host: localhost:{port}\0"], 400),
    "a bare carriage return in it": (["Host: localhost:{port}\revil.com"], 400),
    "X-Forwarded-Host does not help": (["Host: evil.com", "X-Forwarded-Host: localhost:{port}"], 421),
    "X-Forwarded-Host does not harm": (["Host: localhost:{port}", "X-Forwarded-Host: evil.com"], 200),
    "Forwarded does not help": (["Host: evil.com", "Forwarded: host=localhost:{port}"], 421),
    "X-Original-Host does not help": (["Host: evil.com", "X-Original-Host: localhost:{port}"], 421),
    "X-Host does not help": (["Host: evil.com", "X-Host: localhost:{port}"], 421),
}


def test_exactly_one_host_header_counts(ask, served, subtests):
    for name, (sent, wanted) in HEADS.items():
        with subtests.test(name):
            version, headers = ("1.0", sent[1:]) if sent[:1] == ["1.0"] else ("1.1", sent)
            assert status(ask, served.port, *headers, version=version) == wanted


TARGETS = [
    ("http://localhost:{port}/metrics", "localhost:{port}", 404),
    ("http://evil.com/metrics", "localhost:{port}", 404),
    ("http://localhost:{port}/metrics", "evil.com", 404),
    ("//evil.com/metrics", "localhost:{port}", 404),
    ("/health/../metrics", "evil.com", 421),
    ("/%2e%2e/metrics", "localhost:{port}", 404),
    ("/metrics/", "localhost:{port}", 307),
    ("//metrics", "localhost:{port}", 404),
    ("/METRICS", "localhost:{port}", 404),
    ("/health", "evil.com", 200),
    ("/ready", "evil.com", 200),
    ("/metrics", "evil.com", 421),
    ("/mcp", "evil.com", 421),
    ("/anything", "evil.com", 421),
]


def test_the_target_of_a_request_does_not_pass_by_the_doors(ask, served, subtests):
    for target, host, wanted in TARGETS:
        with subtests.test(str(target)):
            assert status(ask, served.port, f"Host: {host}", target=filled(target, served.port)) == wanted


# --- further names -------------------------------------------------------------------------------

ALLOWED = "gpu.example.com, box:9000, any.example:*, [fd00::5], 10.0.0.7"
FURTHER = {
    "gpu.example.com": 200,
    "GPU.Example.Com": 200,
    "gpu.example.com:{port}": 200,
    "gpu.example.com:{other}": 421,
    "gpu.example.com:80": 200,  # the usual ports, which a proxy may write
    "gpu.example.com.": 421,
    "sub.gpu.example.com": 421,
    "xgpu.example.com": 421,
    "gpu.example.com.evil.com": 421,
    "gpu-example.com": 421,
    "example.com": 421,
    "box:9000": 200,
    "box": 421,
    "box:{port}": 421,
    "box:90000": 421,
    "any.example": 200,
    "any.example:1": 200,
    "any.example:0": 421,
    "any.example:*": 421,
    "sub.any.example:1": 421,
    "[fd00::5]": 200,
    "[FD00:0::5]:{port}": 200,
    "[fd00::6]": 421,
    "fd00::5": 421,
    "10.0.0.7": 200,
    "10.0.0.7:{port}": 200,
    "10.0.0.70": 421,
    "localhost:{port}": 200,
}


@pytest.fixture(scope="module")
def named(serve_all):
    return serve_all(OLLAMA_MCP_ALLOW_HOSTS=ALLOWED, OLLAMA_MCP_INSECURE_NO_AUTH="1")


def test_a_name_of_the_operators_is_one_name_and_its_port(ask, named, subtests):
    for host, wanted in FURTHER.items():
        with subtests.test(str(host)):
            assert status(ask, named.port, f"Host: {host}") == wanted


EVERYWHERE = {
    ("127.0.0.1", "127.0.0.1:{port}"): 200,
    ("127.0.0.1", "localhost:{port}"): 200,
    ("127.0.0.1", "0.0.0.0:{port}"): 421,
    ("127.0.0.1", "[::]:{port}"): 421,
    ("127.0.0.1", "[::ffff:127.0.0.1]:{port}"): 421,
    ("127.0.0.1", "evil.com:{port}"): 421,
    ("127.0.0.1", "127.0.0.1"): 421,
    ("127.0.0.1", "127.0.0.2:{port}"): 421,
    ("127.0.0.2", "127.0.0.2:{port}"): 200,
    ("127.0.0.2", "127.0.0.3:{port}"): 421,
    ("::1", "[::1]:{port}"): 200,
    ("::1", "evil.com:{port}"): 421,
    ("::1", "[::]:{port}"): 421,
}


@pytest.fixture(scope="module")
def everywhere(serve_all):
    return serve_all(OLLAMA_MCP_HTTP="[::]:0", OLLAMA_MCP_INSECURE_NO_AUTH="1")


@pytest.mark.parametrize(("address", "host"), EVERYWHERE)
def test_on_every_address_it_has_the_one_that_was_called(ask, everywhere, address, host):
    found = status(ask, everywhere.port, f"Host: {host}", address=address)
    assert found == EVERYWHERE[address, host]


# --- why not the SDK's own check -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "host"),
    [
        (["localhost:*"], "localhost:8000@evil.com"),
        (["localhost:*"], "localhost:evil.com"),
        (["127.0.0.1:*"], "127.0.0.1:1, evil.com"),
    ],
)
def test_the_sdk_takes_anything_behind_the_colon_and_knows_no_port_before_it_is_bound(allowed, host):
    """Exact ports would do, but an application that is mounted somewhere does not know its own."""
    settings = TransportSecuritySettings(allowed_hosts=allowed)
    assert TransportSecurityMiddleware(settings)._validate_host(host)
    assert not AllowedNames().has_host(host, ("127.0.0.1", 8000))
