"""mcp.json: servers as clients have them; what is wrong is named by server and key, and never by a value."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_mcp.settings import SettingsError, load
from ollama_mcp.settings.upstreams import UpstreamServer, read_upstreams

SECRET = "hunter2-secret"


@pytest.fixture
def read(tmp_path):
    """Load an mcp.json; returns the settings."""

    def read(servers, key="mcpServers", **environment):
        path = tmp_path / "mcp.json"
        path.write_text(servers if isinstance(servers, str) else json.dumps({key: servers}), "utf-8")
        return load({"OLLAMA_MCP_UPSTREAM": str(path), **environment})

    return read


@pytest.mark.parametrize("key", ["mcpServers", "servers"])
def test_servers_are_read_as_clients_write_them(read, key):
    notes = {"command": "npx", "args": ["notes", "${WHERE}"], "env": {"KEY": "${env:KEY}"}, "cwd": "/srv"}
    web = {"type": "http", "serverUrl": "https://u:pw-secret@docs.example:8443/mcp?k=${KEY}", "tools": ["s*"]}
    off = {"command": "x", "disabled": True, "args": 5}
    servers = {"notes": notes | {"alwaysAllow": []}, "web": web, "off": off}
    found = read(servers, key, KEY=SECRET, WHERE="here").upstreams
    assert [server.name for server in found] == ["notes", "web"]
    assert (found[0].command, found[0].args, found[0].env) == ("npx", ("notes", "here"), {"KEY": SECRET})
    assert (found[0].cwd, found[0].remote_host, found[0].prefix) == ("/srv", "", "notes__")
    assert found[1].url.endswith(f"k={SECRET}")
    assert (found[1].remote_host, found[1].tools) == ("docs.example:8443", ("s*",))


def test_an_empty_list_of_tools_is_not_the_same_as_none(read):
    found = read({"a": {"command": "x", "tools": []}, "b": {"command": "x"}}).upstreams
    assert [server.tools for server in found] == [(), None]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("${A}", "a"), ("x${A}${A}", "xaa"), ("${A:-b}", "a"), ("${EMPTY:-b}", "b"), ("${NO:-}", ""),
        ("${EMPTY}", ""), ("${NO:-b:-c}", "b:-c"), ("$A", "$A"), ("${1}", "${1}"),
    ],
)  # fmt: skip
def test_variables_are_put_in_as_a_shell_does(read, written, value):
    assert read({"s": {"command": "c", "args": [written]}}, A="a", EMPTY="").upstreams[0].args == (value,)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (5, "is no object"),
        ({}, "needs one of command and url"),
        ({"command": "c", "url": f"https://{SECRET}"}, "needs one of command and url"),
        ({"command": "c", "args": SECRET}, '"args" is no list'),
        ({"command": "c", "args": [SECRET, 5]}, '"args[1]" is no text'),
        ({"command": "c", "env": {"KEY": 5, "B": SECRET}}, '"env.KEY" is no text'),
        ({"command": "c", "env": {f"A={SECRET}": ""}}, '"env" has a name'),
        ({"command": "c", "env": {"KEY": "${NO}"}}, '"env.KEY" wants the variable NO, which is not set'),
        ({"command": f"{SECRET}\0"}, '"command" is no text'),
        ({"url": f"ftp://{SECRET}/"}, '"url" is no address'),
        ({"url": f"http://[{SECRET}"}, '"url" is no address'),
        ({"httpUrl": f"http://x:{SECRET}/"}, '"httpUrl" is no address'),
        ({"url": "https://x/", "headers": {"A": f"{SECRET}\n"}}, '"headers" has what HTTP'),
        ({"url": "https://x/sse", "type": "sse"}, "Streamable HTTP"),
    ],
)
def test_what_is_wrong_is_named_by_server_and_key_without_a_value(read, entry, said):
    with pytest.raises(SettingsError) as caught:
        read({"good": {"command": "c"}, "bad one": entry})
    (problem,) = caught.value.problems
    assert problem.startswith("OLLAMA_MCP_UPSTREAM: ")
    assert 'mcp.json: server "bad one"' in problem
    assert said in problem
    assert "hunter2" not in problem


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{\n,", "not JSON in line 2"),
        ("[]", "has no servers"),
        ("{}", "has no servers"),
        ("\udcff", "not JSON"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path, text, said):
    path = tmp_path / "mcp.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SettingsError, match=said):
        load({"OLLAMA_MCP_UPSTREAM": str(path)})


def test_two_servers_whose_tools_would_have_the_same_names_are_refused(read):
    with pytest.raises(SettingsError, match="rename it"):
        read({"a b": {"command": "c"}, "a.b": {"command": "c"}})


def test_an_upstream_of_another_ollama_mcp_has_none_in_its_turn(read):
    settings = read({"s": {"command": "c"}}, OLLAMA_MCP_DEPTH="1")
    assert settings.upstreams == ()
    assert settings.warnings == (
        "OLLAMA_MCP_UPSTREAM is ignored: this server is an upstream of another ollama-mcp",
    )


def test_secrets_are_hidden_and_paths_and_plain_addresses_stay(read, tmp_path):
    env = {
        "KEY": SECRET,
        "NOTES": str(tmp_path / "notes.json"),
        "API": "https://api.example",
        "DEBUG": "true",
    }
    (server,) = read(
        {"s": {"command": "c", "env": env, "args": ["--token", "${TOKEN}"]}}, TOKEN="t0ken-x"
    ).upstreams
    text = f"{SECRET} t0ken-x {tmp_path / 'notes.json'} https://api.example true"
    assert server.redact(text) == f"*** *** {tmp_path / 'notes.json'} https://api.example true"
    remote = {"url": "https://x/?key=query-key", "headers": {"Authorization": 'Bearer b"earer-t'}}
    (server,) = read({"s": remote}).upstreams
    assert server.redact('query-key b"earer-t b\\"earer-t') == "*** *** ***"
    assert server.redact("Bearer of news") == "Bearer of news"  # no secret


def test_the_example_of_the_documentation_is_read(read):
    page = (Path(__file__).parents[2] / "docs" / "rag.md").read_text("utf-8")
    example = page.partition("```jsonc\n")[2].partition("```")[0]
    notes, docs = read(example, HOME="/home/me", DOCS_TOKEN=SECRET).upstreams
    assert notes.env == {"MEMORY_FILE_PATH": "/home/me/notes.json"}
    assert docs.headers == {"Authorization": f"Bearer {SECRET}"}
    keys = set(re.findall(r"`(\w+)`", page.partition("| key | meaning |")[2].partition("\n\n")[0]))
    assert keys == {
        "command",
        "args",
        "env",
        "cwd",
        "url",
        "headers",
        "serverUrl",
        "httpUrl",
        "tools",
        "disabled",
    }


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just("${A}"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["command", "url", "args", "env", "headers", "tools", "cwd", "type", "disabled"])


@given(st.dictionaries(st.text(), st.dictionaries(KEYS, VALUES) | VALUES, max_size=4))
def test_any_json_is_read_or_refused_and_no_secret_is_in_a_repr(tmp_path_factory, servers):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps({"mcpServers": servers}), "utf-8")
    problems: list[str] = []
    for server in read_upstreams(str(path), {"A": SECRET}, problems):
        assert isinstance(server, UpstreamServer)
        assert bool(server.command) != bool(server.url)
        assert SECRET not in repr(server)
        assert SECRET not in server.redact(f"x{SECRET}x")
    assert all(problem.startswith("OLLAMA_MCP_UPSTREAM: ") and SECRET not in problem for problem in problems)
