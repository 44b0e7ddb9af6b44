"""Names in Host and Origin headers, for any text that a stranger may send."""

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_mcp.settings.listening import (
    AllowedHost,
    AllowedNames,
    Authority,
    Origin,
    is_loopback,
    parse_allowed_host,
    parse_allowed_origin,
    parse_authority,
    parse_bind,
    parse_origin,
)

LOCAL = ("192.168.7.2", 8000)
OWN = {"localhost", "127.0.0.1", "::1", "gpu-box", LOCAL[0]}
NAMES = AllowedNames("gpu-box")
texts = st.text(max_size=40) | st.text("abc.:[]0189-_@/\\%* ", max_size=20)
names = st.from_regex(r"[a-z0-9][a-z0-9.-]{0,20}", fullmatch=True)
ports = st.integers(1, 65535)


@given(texts)
def test_what_is_read_is_written_and_read_as_the_same(text):
    found = parse_authority(text)
    if found is not None:
        assert parse_authority(str(found)) == found
        assert found.name == found.name.lower()


@given(texts, texts)
def test_no_text_around_an_own_name_makes_it_an_own_name(before, after):
    header = f"{before}localhost:8000{after}"
    if NAMES.has_host(header, LOCAL):
        found = parse_authority(header)
        assert found is not None
        assert (found.name in OWN, found.port) == (True, LOCAL[1])


@given(names, ports)
def test_a_strange_name_or_port_never_passes(name, port):
    assert NAMES.has_host(f"{name}:{port}", LOCAL) == (name in OWN and port == LOCAL[1])
    assert NAMES.has_origin(f"http://{name}:{port}", LOCAL) == (name in OWN and port == LOCAL[1])


@given(st.ip_addresses().filter(lambda address: not getattr(address, "ipv4_mapped", None)), ports)
def test_an_address_passes_where_the_connection_came_to_it(address, port):
    written = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
    assert AllowedNames("").has_host(written, (str(address), port))


@given(st.ip_addresses(v=4), ports)
def test_a_connection_to_a_mapped_address_is_one_to_the_address(address, port):
    """A server on `::` sees them so."""
    assert AllowedNames("").has_host(f"{address}:{port}", (f"::ffff:{address}", port))
    assert is_loopback(f"::ffff:{address}") == address.is_loopback


@given(names, st.none() | st.just("*") | ports, st.none() | ports)
def test_an_allowed_host_admits_its_port_alone(name, allowed, asked):
    admitted = AllowedHost(name, allowed).admits(Authority(name, asked), 8000)
    wanted = {None: asked in (None, 8000), "*": True}.get(allowed, asked == allowed)
    assert admitted == wanted
    assert not AllowedHost(name, allowed).admits(Authority(f"x{name}", asked), 8000)


@given(names, st.none() | st.just("*") | ports)
def test_an_allowed_host_is_written_as_it_is_read(name, port):
    assert parse_allowed_host(str(AllowedHost(name, port))) == AllowedHost(name, port)


@given(st.sampled_from(["http", "https"]), names | st.ip_addresses(v=6).map(str), ports)
def test_an_origin_is_written_as_a_browser_does_and_read_as_the_same(scheme, name, port):
    name = str(ipaddress.ip_address(name)) if ":" in name else name
    origin = Origin(scheme, name, port)
    assert parse_origin(str(origin)) == origin
    assert str(origin).endswith(f":{port}") != (port == {"http": 80, "https": 443}[scheme])


@given(texts)
def test_a_page_passes_only_with_an_origin_that_is_one(text):
    if NAMES.has_origin(text, LOCAL):
        assert parse_origin(text) is not None


@given(texts)
def test_a_bind_is_an_address_and_a_port_or_refused(text):
    try:
        name, port = parse_bind(text)
    except ValueError:
        return
    assert name
    assert 0 <= port < 65536


@pytest.mark.parametrize(
    "address", ["0.0.0.0", "::", "192.168.7.2", "8.8.8.8", "", "/run/socket", "fe80::1%eth0"]
)
def test_what_others_can_reach_is_not_loopback(address):
    assert not is_loopback(address)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_loopback_is_what_this_machine_alone_can_reach(address):
    assert is_loopback(address)


# --- what an operator writes -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0.0.0.0:8000", ("0.0.0.0", 8000)),
        (" GPU-box:65535 ", ("gpu-box", 65535)),
        ("localhost:0", ("localhost", 0)),
        ("[0::0]:80", ("::", 80)),
        (":8000", ("127.0.0.1", 8000)),
        ("8000", ("127.0.0.1", 8000)),
    ],
)
def test_what_to_listen_on_is_a_name_and_a_port_and_without_a_name_this_machine(text, found):
    assert parse_bind(text) == found


@pytest.mark.parametrize(
    "text",
    ["", "a", "a:", "a:b", "a:65536", "a:008000", "a:-1", "a:\u0663", "a:1:2", "::1", "a b:80", "[1.2]:80"],
)
def test_anything_else_is_nothing_to_listen_on(text):
    told = "an address to listen on such as 127.0.0.1:8000, 0.0.0.0:8000 or [::1]:8000"
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        parse_bind(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (" GPU.example.com ", AllowedHost("gpu.example.com")),
        ("gpu-box:9000", AllowedHost("gpu-box", 9000)),
        ("gpu-box:*", AllowedHost("gpu-box", "*")),
        ("[0::1]:*", AllowedHost("::1", "*")),
        ("[0::1]", AllowedHost("::1")),
    ],
)
def test_a_further_name_is_one_with_a_port_with_any_or_with_none(text, found):
    assert parse_allowed_host(text) == found


@pytest.mark.parametrize("text", ["", "*", ":*", "a:1:*", "a:b", "*:80", "*.example.com", "http://a"])
def test_anything_else_is_no_further_name(text):
    told = "names such as gpu.example.com, gpu-box:9000 or gpu-box:*, with commas between"
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        parse_allowed_host(text)


def test_an_origin_is_a_scheme_and_a_name_and_nothing_else():
    assert parse_allowed_origin(" HTTPS://App.example ") == Origin("https", "app.example", 443)
    assert parse_allowed_origin("http://localhost:6274") == Origin("http", "localhost", 6274)
    told = "origins such as https://app.example or http://localhost:6274, with commas between"
    for text in ("", "null", "*", "app.example", "https://app.example/", "ftp://app.example"):
        with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
            parse_allowed_origin(text)


@pytest.mark.parametrize(("port", "is_one"), [(0, False), (1, True), (65535, True), (65536, False)])
def test_a_port_is_a_number_from_1_to_65535(port, is_one):
    assert parse_authority(f"a:{port}") == (Authority("a", port) if is_one else None)


@pytest.mark.parametrize(
    ("scheme", "port", "written"),
    [
        ("http", 80, "http://a"),
        ("https", 443, "https://a"),
        ("http", 443, "http://a:443"),
        ("https", 80, "https://a:80"),
    ],
)
def test_the_usual_port_of_an_origin_is_not_written(scheme, port, written):
    assert str(Origin(scheme, "a", port)) == written


# --- who may call ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "local_port", "scheme", "passes"),
    [
        ("localhost", 80, "http", True),
        ("localhost", 443, "https", True),
        ("localhost", 80, "https", False),
        ("localhost", 8000, "http", False),
        ("gpu-box:8000", 8000, "http", True),
        ("other", 8000, "http", True),
        ("other:8000", 8000, "http", True),
        ("other:443", 8000, "http", True),
        ("other:9000", 8000, "http", False),
        ("open:9000", 8000, "http", True),
        ("stranger:8000", 8000, "http", False),
        ("", 8000, "http", False),
    ],
)
def test_a_host_header_passes_by_name_and_port(header, local_port, scheme, passes):
    known = AllowedNames("gpu-box", (AllowedHost("other"), AllowedHost("open", "*")))
    assert known.has_host(header, ("192.168.7.2", local_port), scheme) is passes


@pytest.mark.parametrize(
    ("header", "scheme", "passes"),
    [
        ("http://localhost:8000", "http", True),
        ("https://localhost:8000", "https", True),
        ("https://localhost:8000", "http", False),
        ("http://localhost", "http", False),
        ("http://192.168.7.2:8000", "http", True),
        ("http://other:8000", "http", True),
        ("https://other", "http", True),
        ("https://other:9000", "http", False),
        ("https://app.example", "http", True),
        ("http://app.example", "http", False),
        ("https://stranger", "http", False),
        ("null", "http", False),
    ],
)
def test_a_page_passes_by_where_it_comes_from(header, scheme, passes):
    known = AllowedNames("gpu-box", (AllowedHost("other"),), (Origin("https", "app.example", 443),))
    assert known.has_origin(header, LOCAL, scheme) is passes


def test_the_interface_of_a_link_local_address_is_no_part_of_its_name():
    assert AllowedNames("").has_host("[fe80::1]:8000", ("fe80::1%eth0", 8000))
    assert not AllowedNames("").has_host("[fe80::2]:8000", ("fe80::1%eth0", 8000))
