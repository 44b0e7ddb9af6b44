"""Which proxy of the environment leads to Ollama: by Go's rules, and named where it cannot be used."""

import pytest

from ollama_mcp import OllamaClient
from ollama_mcp.errors import Unreachable
from ollama_mcp.ollama.endpoints import VERSION
from ollama_mcp.ollama.hosts import parse_host
from ollama_mcp.settings.proxies import proxy_for

PROXY = "http://proxy:3128"
VARIABLES = [f"{name}_PROXY" for name in ("HTTP", "HTTPS", "ALL", "NO")]


@pytest.mark.parametrize(
    ("address", "environment", "variable"),
    [
        ("gpu", {}, None),
        ("gpu", {"HTTP_PROXY": PROXY}, "HTTP_PROXY"),
        ("gpu", {"http_proxy": "proxy:3128"}, "http_proxy"),
        ("gpu", {"HTTPS_PROXY": PROXY}, None),
        ("https://gpu", {"HTTPS_PROXY": PROXY, "HTTP_PROXY": PROXY}, "HTTPS_PROXY"),
        ("gpu", {"ALL_PROXY": PROXY}, "ALL_PROXY"),
        ("gpu", {"ALL_PROXY": PROXY, "HTTP_PROXY": PROXY}, "HTTP_PROXY"),
        ("127.0.0.1", {"HTTP_PROXY": PROXY}, None),
        ("localhost", {"ALL_PROXY": PROXY}, None),
        ("[::1]", {"ALL_PROXY": PROXY}, None),
        ("gpu", {"HTTP_PROXY": "  "}, None),
    ],
)
def test_the_scheme_chooses_the_variable_and_this_machine_needs_none(address, environment, variable):
    found = proxy_for(parse_host(address), environment)
    assert (found.variable if found else None) == variable
    assert found is None or found.url == PROXY


@pytest.mark.parametrize(
    ("address", "no_proxy", "is_excepted"),
    [
        ("gpu.lab", "gpu.lab", True),
        ("gpu.lab", "GPU.LAB", True),
        ("gpu.lab", "lab", True),
        ("gpu.lab", ".lab", True),
        ("gpu.lab", "*.lab", True),
        ("lab", ".lab", False),
        ("xlab", "lab", False),
        ("gpu.lab", "a, gpu.lab ,b", True),
        ("gpu.lab:9", "gpu.lab:9", True),
        ("gpu.lab:9", "gpu.lab:8", False),
        ("gpu.lab", "*", True),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3:9", "10.1.2.3:9", True),
        ("10.1.2.3:9", "10.1.2.3:8", False),
        ("[fd00::5]", "fd00::/8", True),
        ("[fd00::5]", "fd00::5", True),
        ("[fd00::5]:9", "[fd00::5]:9", True),
        ("[fd00::5]:9", "[fd00::5]:8", False),
        ("gpu.lab", ",,", False),
        ("gpu.lab", "://:x:99999999", False),
    ],
)
def test_no_proxy_is_read_as_go_reads_it(address, no_proxy, is_excepted):
    environment = {"HTTP_PROXY": PROXY, "NO_PROXY": no_proxy}
    assert (proxy_for(parse_host(address), environment) is None) is is_excepted


@pytest.mark.anyio
@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "socks://127.0.0.1:9", "ftp://x"])
async def test_a_proxy_that_cannot_be_used_is_named_with_what_to_do(monkeypatch, proxy):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("ALL_PROXY", proxy)
    async with OllamaClient("http://gpu-box.invalid:11434") as client:
        with pytest.raises(Unreachable) as told:
            await client.call(VERSION)
    assert "ALL_PROXY" in told.value.cause
    assert "NO_PROXY" in told.value.remedy
    assert not told.value.retryable
