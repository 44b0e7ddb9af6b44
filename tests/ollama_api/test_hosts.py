"""OLLAMA_HOST: Ollama's own rules, and what is refused."""

import ipaddress

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ollama_mcp.errors import InvalidArgument
from ollama_mcp.ollama.hosts import Host, parse_host

# Ollama's envconfig.Host (and ConnectableHost) was run on every value here.
BY_OLLAMA = {
    "": "http://127.0.0.1:11434",
    "gpu": "http://gpu:11434",
    "gpu:1234": "http://gpu:1234",
    "http://gpu": "http://gpu:80",
    "https://gpu": "https://gpu:443",
    "http://gpu:1234": "http://gpu:1234",
    "1.2.3.4": "http://1.2.3.4:11434",
    "1.2.3.4:": "http://1.2.3.4:11434",
    "1.2.3.4:65535": "http://1.2.3.4:65535",
    "1.2.3.4:65536": "http://1.2.3.4:11434",
    "1.2.3.4:-1": "http://1.2.3.4:11434",
    "1.2.3.4:http": "http://1.2.3.4:11434",
    "http://gpu:http": "http://gpu:80",
    "https://gpu:http": "https://gpu:443",
    "::1": "http://[::1]:11434",
    "[::1]": "http://[::1]:11434",
    "[::1": "http://[::1]:11434",
    "[::1]:9": "http://[::1]:9",
    "[0:0:0:0:0:0:0:1]": "http://[::1]:11434",
    "2001:DB8::1": "http://[2001:db8::1]:11434",
    "::ffff:1.2.3.4": "http://1.2.3.4:11434",
    "ollama.com": "https://ollama.com:443",
    "http://ollama.com": "http://ollama.com:80",
    "https://ollama.com": "https://ollama.com:443",
    '"gpu"': "http://gpu:11434",
    "'gpu:9'": "http://gpu:9",
    " gpu:9 ": "http://gpu:9",
    '" gpu "': "http://gpu:11434",
    "http://gpu/": "http://gpu:80",
    "http://gpu/a/b": "http://gpu:80/a/b",
    "https://gpu:8443/ollama/": "https://gpu:8443/ollama",
    "gpu:9/ollama": "http://gpu:9/ollama",
    "https://": "https://127.0.0.1:443",
    "0.0.0.0": "http://127.0.0.1:11434",
    "0.0.0.0:80": "http://127.0.0.1:80",
    "::": "http://[::1]:11434",
    "[::]:81": "http://[::1]:81",
}
# What Ollama writes otherwise, and means the same, or what no client could dial.
OUR_WAY = {
    ":5": "http://127.0.0.1:5",
    "http://:7": "http://127.0.0.1:7",
    "gpu:0": "http://gpu:11434",
    "gpu:+5": "http://gpu:11434",
    "GPU": "http://gpu:11434",
    "HTTP://gpu": "http://gpu:80",
    "ollama.com:443": "https://ollama.com:443",
    "OLLAMA.COM": "https://ollama.com:443",
    "gpu.": "http://gpu:11434",
    "0": "http://127.0.0.1:11434",
    "0x0": "http://127.0.0.1:11434",
    "[::ffff:0.0.0.0]:80": "http://127.0.0.1:80",
    "0:0::0": "http://[::1]:11434",
    "2130706433": "http://127.0.0.1:11434",
    "0x7f.1": "http://127.0.0.1:11434",
    "gpu_box.lan": "http://gpu_box.lan:11434",
    "büro": "http://xn--bro-hoa:11434",
    "ＧＰＵ": "http://gpu:11434",
    "127。0。0。1": "http://127.0.0.1:11434",
    "gpu/a'/": "http://gpu:11434/a",
    "gpu/ /": "http://gpu:11434",
    "gpu/X": "http://gpu:11434/X",
    "gpu:1": "http://gpu:1",
    "gpu:0000080": "http://gpu:80",
    "gpu:00000": "http://gpu:11434",
    "[::1%eth0]": "http://[::1]:11434",
    "2001:db8::a9fe:a9fe": "http://[2001:db8::a9fe:a9fe]:11434",
    "1.255.2": "http://1.255.0.2:11434",
    "1.2.65535": "http://1.2.255.255:11434",
    "1.16777215": "http://1.255.255.255:11434",
    "4294967295": "http://255.255.255.255:11434",
    "010": "http://0.0.0.8:11434",
    "1_0": "http://1_0:11434",
    ".".join(["x" * 63] * 3 + ["x" * 61]): f"http://{'.'.join(['x' * 63] * 3 + ['x' * 61])}:11434",
    "gpu/mit leer": "http://gpu:11434/mit leer",
}


@pytest.mark.parametrize(("value", "url"), (BY_OLLAMA | OUR_WAY).items())
def test_a_host_is_read_as_ollama_reads_it(value, url):
    assert parse_host(value).url == url


METADATA = [
    "169.254.169.254",
    "169.254.169.254.",
    "http://169.254.169.254/latest/meta-data",
    "http://ok@169.254.169.254",
    "http://ok:80@169.254.169.254:80",
    "http://ok\\@169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "0XA9FEA9FE",
    "0251.0376.0251.0376",
    "0xa9.254.0251.254",
    "169.254.43518",
    "169.16689662",
    "169.254.0.1",
    "1６9.254.169.254",
    "１６９.２５４.１６９.２５４",
    "169。254。169。254",
    "169．254．169．254",
    "169｡254｡169｡254",
    "①⑥⑨.254.169.254",
    "[::ffff:169.254.169.254]",
    "::ffff:a9fe:a9fe",
    "[0:0:0:0:0:ffff:a9fe:a9fe]:80",
    "::169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "2001:0:4136:e378:8000:63bf:5601:5601",  # Teredo
    "fe80::1",
    "[fe80::1%eth0]:5",
    "fe80::1%25eth0",
    "FE80::1",
    "fd00:ec2::254",
    "fd00:0ec2:0::0254",
    "fd20:ce::254",
    "100.100.100.200",
    "0x64.100.100.200",
    "1684301000",
    "metadata",
    "METADATA.google.internal",
    "metadata.google.internal.",
    "metadata。google。internal",
    "instance-data.ec2.internal",
]


@pytest.mark.parametrize("value", METADATA, ids=lambda value: ascii(value).replace("\\", ""))
def test_link_local_and_metadata_addresses_are_refused_in_every_spelling(value):
    with pytest.raises(InvalidArgument, match="link-local or metadata"):
        parse_host(value)


@given(
    st.integers(0, 65535),
    st.sampled_from(["{0}.{1}.{2}.{3}", "0x{4:x}", "{4}", "0{4:o}", "{0}.{1}.{5}", "{0}.{6}"]),
)
def test_no_number_spells_its_way_to_a_link_local_address(low, form):
    number = (169 << 24) + (254 << 16) + low
    octets = number.to_bytes(4, "big")
    with pytest.raises(InvalidArgument):
        parse_host(form.format(*octets, number, low, number & 0xFFFFFF))


REFUSED = [
    "ftp://gpu",
    "file:///etc/passwd",
    "unix:///run/ollama.sock",
    "%31%36%39.254.169.254",
    "gpu box",
    "gpu\x00",
    "gpu\nx",
    "\ud800",
    "a..b",
    "x" * 64,
    ".".join(["x" * 60] * 5),
    "a:b:c",
    "256.1.1.1",
    "1.2.3.4.5",
    "1.2.3.0x",
    "1.2.3.256",
    "1.2.65536",
    "1.16777216",
    "4294967296",
    "1.2.3.4.0",
    "08",
    ".".join(["x" * 63] * 3 + ["x" * 62]),
    "a,b",
    "gpu?x=1",
    "gpu#x",
    "gpu/a?x=1",
    "gpu/a#x",
    "http:/me:secret@gpu",
    "http://me:p/secret@gpu",
    "×",
    "gpu☃",
]


@pytest.mark.parametrize("value", REFUSED)
def test_what_is_no_address_is_refused_when_it_is_read(value):
    with pytest.raises(InvalidArgument) as caught:
        parse_host(value)
    assert "secret" not in str(caught.value)


def test_a_wrong_scheme_is_not_quoted_when_it_could_hold_a_secret():
    with pytest.raises(InvalidArgument) as caught:
        parse_host("me:secret@gpu://")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        "gpu:abc",
        "gpu:99999",
        "gpu:0",
        "http://gpu:-1",
        "http://http://gpu",
        "http://127.0.0.1",
        "https:8080//x",
        "8080",
        "[::1]:x",
    ],
)
def test_what_is_made_of_a_strange_address_is_told(value):
    host = parse_host(value)
    assert host.url in host.remark


@pytest.mark.parametrize(
    "value", ["", "0", ":8080", "gpu", "gpu:9/a//b", "http://gpu/b", "::1", "[::1]:9", "0x7f.1"]
)
def test_an_ordinary_address_has_no_remark(value):
    assert parse_host(value).remark == ""


def test_a_remark_shows_no_secret():
    assert "secret" not in parse_host("me:secret").remark
    assert "secret" not in parse_host("http://me:secret@gpu:x").remark


HOSTS = st.one_of(
    st.text(),
    st.text(alphabet="0123456789abcdefx.:[]@/%-_ ?#\\", max_size=30),
    st.builds("{}://{}@{}:{}/{}".format, st.sampled_from(["http", "https", "x"]), *[st.text(max_size=9)] * 4),
    st.ip_addresses().map(str),
    st.from_regex(r"[a-z0-9.-]{1,20}(:\d+)?(/[a-z/]*)?", fullmatch=True),
)


@given(HOSTS)
@example("http://[::1%25]")
@example("0" * 5000)
@example("0x" + "f" * 5000)
@example("9" * 5000 + ".1")
def test_a_host_is_read_or_refused_and_what_is_read_is_an_address_for_httpx(value):
    try:
        host = parse_host(value)
    except InvalidArgument:
        return
    url = httpx.URL(host.url + "/api/chat")
    assert url.raw_host.decode() == host.hostname
    assert (url.port or {"http": 80, "https": 443}[url.scheme]) == host.port
    assert url.path.endswith("/api/chat")
    assert not url.userinfo
    assert not url.query
    assert parse_host(host.url) == Host(host.scheme, host.hostname, host.port, host.path)


@given(st.ip_addresses())
def test_an_address_is_taken_unless_it_is_or_holds_a_refused_one(address):
    try:
        host = parse_host(str(address))
    except InvalidArgument:
        return
    assert not address.is_link_local
    assert ipaddress.ip_address(host.hostname)


def test_userinfo_is_kept_apart_and_never_shown():
    host = parse_host("https://me:s%3Acret@gw/ollama")
    assert (host.username, host.password) == ("me", "s:cret")
    assert parse_host("me:a:b@gpu").password == "a:b"
    assert parse_host("me@gpu").username == "me"
    for shown in (str(host), repr(host), host.url, f"{host}"):
        assert "cret" not in shown
        assert "'me'" not in shown
        assert "me:" not in shown


@pytest.mark.parametrize(
    ("value", "loopback"),
    [
        ("", True),
        ("localhost", True),
        ("a.localhost", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", True),
        ("gpu", False),
        ("10.0.0.1", False),
        ("127.evil.example", False),
    ],
)
def test_loopback_is_known_by_name_or_address(value, loopback):
    assert parse_host(value).is_loopback is loopback


@pytest.mark.parametrize(
    ("value", "cloud"),
    [
        ("ollama.com", True),
        ("https://api.ollama.com", True),
        ("https://evilollama.com", False),
        ("https://ollama.com.evil.example", False),
        ("https://ollama.com@evil.example", False),
    ],
)
def test_ollamas_cloud_is_known_by_its_name(value, cloud):
    assert parse_host(value).is_ollama_cloud is cloud
