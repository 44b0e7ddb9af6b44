"""A secret stands in every setting that takes one, and is found nowhere in what the command says.

The command runs over stdio and over HTTP, with every tool, before an Ollama that repeats what it was sent in
every place of an error, with wrong settings, with a tool that crashes; its log says all that it can (DEBUG).
"""

import json
import os
import re
from base64 import b64encode
from urllib.parse import quote

import httpx
import pytest

from ollama_mcp.cli import checks, main
from ollama_mcp.settings import load
from ollama_mcp.testing import FakeOllama, Script
from ollama_mcp.tools import TOOLSETS

MARK = "c4n4ry"
USER, PASSWORD = f"{MARK}-user", f"{MARK}-pass:word"
TOKENS = {"anne": f"{MARK}-token-of-anne-{'a' * 32}", "": f"{MARK}-token-of-nobody-{'b' * 32}"}
BASIC = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
SEEN_AS = re.compile(f"{MARK}|{BASIC[:12]}|{b64encode(MARK.encode()).decode()[:7]}", re.IGNORECASE)
BACKENDS = {
    "userinfo": {"userinfo": f"{USER}:{quote(PASSWORD)}@"},
    "key": {"OLLAMA_API_KEY": f"{MARK}-api-key", "OLLAMA_MCP_API_KEY_HOST": "127.0.0.1"},
}
HEADERS = {"OLLAMA_MCP_HEADERS": json.dumps({"X-Proxy": f"{MARK}-header", "X-Basic": f"Basic {MARK}"})}

MODEL, OWN = "llama3.2:3b", "me/backup"
CALLS = {tool.name: tool.example for toolset in TOOLSETS.values() for tool in toolset} | {
    "ollama_compare": {"prompt": "x", "models": [MODEL, "nomic-embed-text"]},
    "ollama_pull_model": {"model": "qwen3:8b", "confirm": "qwen3:8b"},
    # What is refused before it leaves this machine.
    "ollama_web_fetch": {"url": "http://127.0.0.1/"},
    "ollama_web_search": {"query": ""},
}
"""A call of every tool."""
NAMES = ["chat", "generate", "embed", "embeddings", "tags", "show", "ps", "version"]
NAMES += ["pull", "push", "create", "copy", "delete"]
PATHS = [f"/api/{name}" for name in NAMES]


def repeated(request):
    """What a proxy knows of a request."""
    told = ("x-proxy", "authorization")
    lines = [f"{name}: {value}" for name, value in request.headers.items() if name in told]
    lines += [f"X-Basic: {request.headers.get('x-basic')}", f"http://{USER}:{PASSWORD}@ollama/"]
    return "; ".join(lines)


def in_bytes(text):
    return lambda request: Script(raw=text.replace("SAID", repeated(request)).encode())


def in_lines(*lines):
    return lambda request: Script(lines=[line.replace("SAID", repeated(request)).encode() for line in lines])


def as_answer(status, body, **headers):
    def script(request):
        said = repeated(request)
        names = {name.replace("_", "-"): value.replace("SAID", said) for name, value in headers.items()}
        return Script(status=status, body=json.loads(json.dumps(body).replace("SAID", said)), headers=names)

    return script


FIELDS = ("message", "response", "embeddings", "models", "status", "version", "details", "done", "model_info")
FAULTS = {
    "all is well": None,
    "an error in JSON": as_answer(500, {"error": "SAID"}),
    "an error with parts": as_answer(400, {"error": {"message": "SAID", "parts": ["SAID"]}}),
    "an error in text": as_answer(401, "SAID"),
    "another error": as_answer(404, {"error": "SAID"}),
    "a page": as_answer(200, "<html>SAID", content_type="text/html"),
    "a redirection": as_answer(302, None, location="http://x/?SAID"),
    "a strange encoding": as_answer(200, {}, content_encoding="SAID"),
    "a length that is none": as_answer(200, {}, content_length="SAID"),
    "a strange status": in_bytes("HTTP/1.1 599 SAID\r\n\r\n"),
    "no HTTP": in_bytes("SAID\r\n\r\n"),
    "a header that is none": in_bytes("HTTP/1.1 200 OK\r\nSAID SAID\r\n\r\n"),
    "no JSON": in_lines("SAID"),
    "JSON of another kind": in_lines('["SAID"]'),
    "fields of another kind": in_lines(json.dumps({name: ["SAID"] for name in FIELDS})),
    "an error in the middle": in_lines("{}", '{"error": "SAID"}'),
    "an end in the middle": in_lines("{}", '{"SAID'),
}


def faulty(fake, fault):
    fake.scripts.clear()
    fake.models[OWN] = fake.models[MODEL]
    if fault is not None:
        fake.script(fault, path=PATHS)


def found_in(*texts):
    """The lines in which a secret stands."""
    return [line[:400] for text in texts for line in text.splitlines() if SEEN_AS.search(line)]


@pytest.fixture
def fake():
    with FakeOllama.in_thread() as fake:
        yield fake


def settings_of(backend, fake, folder):
    """Settings full of secrets, with every tool switched on."""
    (folder / "notes").mkdir()
    (folder / "notes" / "a.txt").write_text("a note")
    (folder / "tokens").write_text("".join(f"{name} {token}\n" for name, token in TOKENS.items()))
    given = dict(BACKENDS[backend])
    return {
        "OLLAMA_HOST": fake.url.replace("//", "//" + given.pop("userinfo", "")),
        **given,
        **HEADERS,
        "OLLAMA_MCP_LOG_LEVEL": "DEBUG",
        "OLLAMA_MCP_LOG_FILE": str(folder / "server.log"),
        "OLLAMA_MCP_TOOLSETS": "all",
        "OLLAMA_MCP_ROOTS": str(folder / "notes"),
        "OLLAMA_MCP_RETRIES": "0",
        "OLLAMA_MCP_SOFT_DEADLINE": "0",
    }


@pytest.fixture(params=BACKENDS)
def settings(request, fake, tmp_path):
    return settings_of(request.param, fake, tmp_path)


def logged(tmp_path):
    return (tmp_path / "server.log").read_text()


@pytest.mark.long
def test_nothing_is_seen_over_stdio(start, settings, fake, tmp_path):
    child = start(**settings)
    child.open("2025-11-25")
    child.request("tools", "tools/list")
    of_a_store = {"ollama_search", "ollama_index", "ollama_collections"}
    assert {tool["name"] for tool in child.result_of("tools")["tools"]} == set(CALLS) - of_a_store
    for fault in FAULTS.values():
        faulty(fake, fault)
        for tool, arguments in CALLS.items():
            child.request(f"{tool} {id(fault)}", "tools/call", name=tool, arguments=arguments)
            child.result_of(f"{tool} {id(fault)}")
        child.request(f"resources {id(fault)}", "resources/read", uri="ollama://models")
        child.answer_to(f"resources {id(fault)}")
    child.send({"id": "bad", "method": "no/such"}, {"id": "worse", "method": "tools/call", "params": 5})
    child.answer_to("worse")
    assert child.finish() == 0
    assert MARK in str(fake.requests[-1].headers)  # they were sent
    said = [str(line.message) for line in [*child.out.rest(), *child.err.rest()]]
    assert len(said) > 300
    assert found_in(*said, logged(tmp_path)) == []


def bearer(token):
    return {"authorization": f"Bearer {token}"}


def asked_over_http(client, url, modern_call, fake):
    """Everything that can be asked, in every way that is right or wrong; yields what was answered."""
    right, wrong = bearer(TOKENS["anne"]), bearer(TOKENS["anne"][:-1])
    for fault in ("all is well", "an error in JSON", "no HTTP", "an error in the middle"):
        faulty(fake, FAULTS[fault])
        yield from (client.post(url, **modern_call(tool, given, right)) for tool, given in CALLS.items())
    for headers in ({}, right, wrong, bearer(TOKENS[""]), {"authorization": f"Basic {BASIC}"}):
        for path in ("/mcp", "/metrics", "/health", "/ready", "/sse", "/nowhere"):
            yield client.get(url.replace("/mcp", path), headers={**headers, "host": "evil.com"})
            yield client.delete(url.replace("/mcp", path), headers=headers)
        yield client.get(url.replace("/mcp", "/metrics"), headers=headers)
        yield client.post(url, content=b"{", headers={**headers, "content-type": "application/json"})
    yield client.post(url, **modern_call("no_such_tool", {}, right))
    yield from (client.post(url, **modern_call("ollama_status", {}, wrong)) for _ in range(15))


@pytest.fixture
def over_http(start, fake, modern_call, tmp_path):
    """Run the command over HTTP, ask everything, end it; returns what was answered and said."""

    def run(**settings):
        child = start("serve", "--http", "127.0.0.1:0", **settings)
        said = child.err.wait_for(lambda line: "serving MCP on" in line).message
        url = re.search(r"http://\S+", said)[0]
        with httpx.Client(trust_env=False, verify=False, timeout=30) as client:
            answers = [
                f"{answer.status_code} {dict(answer.headers)}\n{answer.text}"
                for answer in asked_over_http(client, url, modern_call, fake)
            ]
        child.process.terminate()
        assert child.wait() == 0
        said = [str(line.message) for line in [*child.out.rest(), *child.err.rest()]]
        return answers, [*said, logged(tmp_path)]

    return run


VERIFIER = f"""
from mcp.server.auth.provider import AccessToken

class Verifier:
    async def verify_token(self, token):
        if token == "{TOKENS["anne"]}":
            return AccessToken(token=token, client_id="anne", scopes=[])
        raise RuntimeError(f"the issuer does not know {{token}}")
"""
ACCESS = {
    # how the token is checked: (which of BACKENDS, settings)
    "a token": ("userinfo", {"OLLAMA_MCP_TOKEN": TOKENS["anne"]}),
    "a file of tokens": ("key", {"OLLAMA_MCP_TOKEN_FILE": "tokens"}),
    "a verifier": ("key", {"OLLAMA_MCP_VERIFIER": "issuer:Verifier", "PYTHONPATH": "."}),
}


@pytest.mark.parametrize("access", ACCESS)
@pytest.mark.long
def test_nothing_is_seen_over_http_and_no_token_reaches_ollama(over_http, fake, tmp_path, access):
    backend, given = ACCESS[access]
    (tmp_path / "issuer.py").write_text(VERIFIER)
    answers, said = over_http(**settings_of(backend, fake, tmp_path), **given)
    assert len([answer for answer in answers if answer.startswith("200 ")]) > 60
    assert "DEBUG" in said[-1]
    assert found_in(*answers, *said) == []
    assert fake.requests
    assert not [r for r in fake.requests if "token-of-" in f"{r.headers} {r.query} {r.body}"]


# --- a crash -------------------------------------------------------------------------------------

CRASH = """
import ollama_mcp.client as client

def crash(self, *_, **__):
    raise RuntimeError(f"{self.__dict__} {self.backend.host}")

client.OllamaClient.call = client.OllamaClient.stream = crash
"""


@pytest.mark.long
def test_a_crash_does_not_tell(start, settings, tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "sitecustomize.py").write_text(CRASH)
    child = start(**settings, PYTHONPATH=str(tmp_path / "code"))
    child.open("2026-07-28")
    child.request("crash", "tools/call", name="ollama_list_models", arguments={})
    assert "INTERNAL" in child.result_of("crash")["content"][0]["text"]
    assert child.finish() == 0
    said = [str(line.message) for line in [*child.out.rest(), *child.err.rest()]]
    assert "Traceback" in logged(tmp_path)
    assert found_in(*said, logged(tmp_path)) == []


# --- doctor and wrong settings -------------------------------------------------------------------


@pytest.fixture
def said_by(monkeypatch, capsys):
    """Run a command in this process with these settings alone; returns its status and what it said."""

    def run(*command, **settings):
        for name in tuple(os.environ):
            if name.startswith("OLLAMA"):
                monkeypatch.delenv(name)
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        status = main(command)
        return status, "".join(capsys.readouterr())

    return run


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.long
def test_doctor_does_not_tell(said_by, settings, fake, fault):
    faulty(fake, FAULTS[fault])
    _, said = said_by("doctor", **settings, OLLAMA_MCP_TOKEN=TOKENS["anne"])
    assert "OLLAMA_HOST = " in said
    assert found_in(said) == []


SECRET = f"{MARK}-secret-of-more-than-32-characters-in-all"
WRONG = [
    ("OLLAMA_HOST", f"ftp://me:{SECRET}@gpu"),
    ("OLLAMA_HOST", f"{SECRET}://gpu"),
    ("OLLAMA_HOST", f"http://me:{SECRET}@169.254.169.254"),
    ("OLLAMA_HOST", f"http://me:{SECRET}@g pu"),
    ("OLLAMA_HOST", f"http://me:{SECRET}/x@gpu"),
    ("OLLAMA_HOST", f"http://me:{SECRET}\x07@gpu"),
    ("OLLAMA_HOST", f"http://gpu/?key={SECRET}"),
    ("OLLAMA_API_KEY", f"{SECRET} with a blank"),
    ("OLLAMA_API_KEY", f"{SECRET}\u00e4"),
    ("OLLAMA_MCP_HEADERS", f"{{{SECRET}"),
    ("OLLAMA_MCP_HEADERS", json.dumps([SECRET])),
    ("OLLAMA_MCP_HEADERS", json.dumps({"bad name": SECRET})),
    ("OLLAMA_MCP_HEADERS", json.dumps({"X": f"{SECRET}\n"})),
    ("OLLAMA_MCP_HEADERS", f"X: {SECRET}"),
    ("OLLAMA_MCP_TOKEN", MARK),
    ("OLLAMA_MCP_TOKEN", f"{SECRET} with a blank"),
    ("OLLAMA_MCP_TOKEN", f"{SECRET}\u00e4"),
    ("OLLAMA_MCP_TOKEN_FILE", SECRET),
    ("OLLAMA_MCP_TOKEN_FILE", "file:short"),
    ("OLLAMA_MCP_TOKEN_FILE", "file:many"),
    ("OLLAMA_MCP_CONFIG", "file:toml"),
    ("OLLAMA_MCP_CONFIG", "file:half"),
]  # fmt: skip
FILES = {
    "short": f"anne {MARK}\n",
    "many": f"anne {SECRET} x\n",
    "toml": f'api_key = ["{SECRET}"]\ntoken = 5\nheaders = "{SECRET}"\nhost = {{a = "{SECRET}"}}\n',
    "half": f'api_key = "{SECRET}\n',
}


@pytest.mark.parametrize(
    "command", [("serve", "--http", "127.0.0.1:0"), ("doctor",)], ids=["serve", "doctor"]
)
@pytest.mark.parametrize(("variable", "value"), WRONG)
def test_a_wrong_setting_is_named_and_not_told(said_by, tmp_path, variable, value, command):
    if value.startswith("file:"):
        path = tmp_path / "settings"
        path.write_text(FILES[value.removeprefix("file:")])
        value = str(path)
    status, said = said_by(*command, **{variable: value})
    assert status == 2
    assert variable in said
    assert found_in(said) == []


def test_the_settings_that_doctor_tells_have_no_secret():
    secrets = {
        "OLLAMA_HOST": "http://me:canary-password@127.0.0.1:1",
        "OLLAMA_API_KEY": "canary-key-of-the-cloud",
        "OLLAMA_MCP_HEADERS": '{"X-Team": "canary-header"}',
        "OLLAMA_MCP_TOKEN": "canary-token-of-at-least-32-characters",
    }
    told = "\n".join(finding.text for finding in checks._settings(load(secrets)))
    assert "OLLAMA_MCP_TOKEN = " in told
    assert "canary" not in told
