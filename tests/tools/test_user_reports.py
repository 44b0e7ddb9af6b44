"""What people reported: the right server written wrongly, remedies that cannot help, words that are lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp.client import Client

from ollama_mcp import App, OllamaClient, create_server
from ollama_mcp.client.error_answers import plain_words
from ollama_mcp.client.failures import ErrorContext, unreachable
from ollama_mcp.errors import InvalidArgument, NotOllama, OllamaError
from ollama_mcp.ollama.endpoints import TAGS
from ollama_mcp.ollama.model_names import check_name
from ollama_mcp.settings import SettingsError, load
from ollama_mcp.testing import FakeOllama, Model, Script

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def answering(*lines: bytes) -> AsyncIterator[str]:
    """A server that says the same to everybody; its address."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 << 16)
        writer.write(b"".join(lines))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def refused(host: str, **environment: str) -> OllamaError:
    settings = load({"OLLAMA_HOST": host, "OLLAMA_MCP_RETRIES": "0", **environment})
    async with OllamaClient(settings.backend) as client:
        with pytest.raises(OllamaError) as failure:
            await client.call(TAGS)
    return failure.value


def job(status: str, body: bytes = b"", *head: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *head, "", ""]
    return "\r\n".join(lines).encode() + body


# --- the right server, written wrongly -----------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "rest", "right"),
    [
        ("/v1", "/v1", ""),
        ("/api/generate", "/api/generate", ""),
        ("/ollama/v1/", "/v1", "/ollama"),
        ("/ollama/api", "/api", "/ollama"),
    ],
)
async def test_a_path_behind_the_address_is_to_be_left_out(path, rest, right):
    async with FakeOllama() as fake:
        error = await refused(fake.url + path)
        assert isinstance(error, NotOllama)
        assert error.remedy == f"Leave {rest} out of OLLAMA_HOST: {fake.url}{right}."


async def test_tls_where_there_is_none_and_none_where_there_is():
    async with answering(job("400 Bad Request")) as place:  # what Go says to a handshake
        error = await refused(f"https://{place}")
        assert (error.code, error.remedy) == ("NOT_OLLAMA", f"Set OLLAMA_HOST to http://{place}.")
    body = b"Client sent an HTTP request to an HTTPS server.\n"
    async with answering(job("400 Bad Request", body, "Content-Type: text/plain")) as place:
        error = await refused(place)
        assert (error.code, error.remedy) == ("NOT_OLLAMA", f"Set OLLAMA_HOST to https://{place}.")


async def test_a_redirect_is_told_with_where_it_leads():
    moved = job("301 Moved Permanently", b"", "Location: https://me:secret@gpu.example/ollama/api/tags")
    async with answering(moved) as place:
        assert (await refused(place)).remedy == "Set OLLAMA_HOST to https://gpu.example:443/ollama."
    async with answering(job("302 Found", b"", "Location: /login")) as place:
        assert (await refused(place)).remedy == "Set OLLAMA_HOST to the final address."
    async with answering(job("307 Temporary Redirect")) as place:
        assert (await refused(place)).remedy == "Set OLLAMA_HOST to the final address."


@pytest.mark.parametrize(
    "said",
    [b"SSH-2.0-OpenSSH_9.6\r\nInvalid SSH identification string.\r\n\r\n", b"-ERR unknown command\r\n\r\n"],
)
async def test_another_service_on_the_port_is_not_ollama(said):
    async with answering(said) as place:
        assert (await refused(place)).code == "NOT_OLLAMA"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (ErrorContext("http://gpu:80", "", setting="OLLAMA_HOST"), "set OLLAMA_HOST to http://gpu:11434"),
        (ErrorContext("http://[fd00::1]:80", ""), "give the client http://[fd00::1]:11434"),
        (ErrorContext("https://gw:443/ollama", ""), "give the client the address where it runs"),
        (ErrorContext("https://ollama.com:443", "", in_cloud=True), "Check the network"),
        (ErrorContext("http://127.0.0.1:11434", "", inside="container"), "host.docker.internal:11434"),
        (ErrorContext("http://127.0.0.1:11434", "", inside="WSL"), "ip route show default"),
        (ErrorContext("http://gpu:11434", "", inside="container"), "Start it with `ollama serve`"),
        (ErrorContext("http://127.0.0.1:11434", "", beside="OLLAMA_API_BASE"), "OLLAMA_API_BASE is set,"),
    ],
)  # fmt: skip
def test_where_nothing_listens_the_remedy_knows_what_can_be_seen(asked, told):
    assert told in unreachable(asked).remedy
    assert len(str(unreachable(asked))) <= 400


async def test_the_variable_of_another_program_is_named():
    settings = load({"OLLAMA_BASE_URL": "http://gpu:11434"})
    assert settings.backend.beside == "OLLAMA_BASE_URL"
    assert load({"OLLAMA_BASE_URL": "http://gpu", "OLLAMA_HOST": "gpu"}).backend.beside == ""


async def test_one_that_names_the_usual_address_says_nothing_new():
    assert load({"OLLAMA_BASE_URL": "http://localhost:11434"}).backend.beside in {"", "OLLAMA_BASE_URL"}
    assert load({"OLLAMA_BASE_URL": "http://127.0.0.1:11434"}).backend.beside == ""


def test_a_key_that_looks_like_a_variable_is_a_key_and_is_not_told():
    assert load({"OLLAMA_API_KEY": "$ecretKey123"}).backend.api_key == "$ecretKey123"
    with pytest.raises(SettingsError) as error:
        load({"OLLAMA_API_KEY": "${ecretKey123}"})
    assert "ecret" not in str(error.value)


@pytest.mark.parametrize("value", ["${OLLAMA_HOST}", "${env:OLLAMA_HOST}", "%OLLAMA_HOST%"])
@pytest.mark.parametrize("name", ["OLLAMA_HOST", "OLLAMA_API_KEY", "OLLAMA_MCP_CHAT_MODEL"])
def test_a_variable_that_was_not_filled_in_is_said_to_be_one(name, value):
    with pytest.raises(SettingsError, match=f"{name} is .* itself: whoever started this"):
        load({name: value})


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("https://ollama.com/library/qwen3:8b", "qwen3:8b"),
        ("https://www.ollama.com/me/mine", "me/mine"),
        ("https://hf.co/unsloth/Qwen3-8B-GGUF?show=1", "hf.co/unsloth/Qwen3-8B-GGUF"),
        ("https://huggingface.co/a/B-GGUF/tree/main", "huggingface.co/a/B-GGUF"),
        ("ollama:llama3.2:1b", "llama3.2:1b"),
        ("ollama run llama3.2", "llama3.2"),
    ],
)
def test_a_model_by_the_address_of_its_page_is_told_by_its_name(written, name):
    with pytest.raises(InvalidArgument) as failure:
        check_name(written)
    assert failure.value.remedy == f'Send model="{name}".'


# --- remedies that can help ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", [b'{"error":"unauthorized"}', b"no", b'{"detail":"Not authenticated"}'], ids=len
)
async def test_a_key_that_is_not_sent_is_not_asked_for(body):
    async with answering(job("401 Unauthorized", body, "Content-Type: application/json")) as place:
        error = await refused(place, OLLAMA_API_KEY="sk-12345")
        assert error.code == "FORBIDDEN"
        assert "OLLAMA_MCP_API_KEY_HOST=127.0.0.1 sends it here" in error.remedy
        error = await refused(place, OLLAMA_API_KEY="sk-12345", OLLAMA_MCP_API_KEY_HOST="127.0.0.1")
        assert "was not sent" not in error.remedy


@asynccontextmanager
async def served(*models: Model, **environment: str) -> AsyncIterator[tuple[FakeOllama, Any]]:
    async with (
        FakeOllama(models or None) as fake,
        App.create(load({"OLLAMA_HOST": fake.url, "OLLAMA_MCP_TOOLSETS": "all", **environment})) as app,
        Client(create_server(app)) as client,
    ):

        async def call(tool: str, **arguments: Any) -> str:
            return (await client.call_tool(tool, arguments)).content[0].text

        yield fake, call


@pytest.mark.parametrize(
    "said",
    [
        "model requires more system memory (5.6 GiB) than is available (3.9 GiB)",
        "llama runner process has terminated: error loading model: unable to allocate CUDA0 buffer",
        "CUDA error: out of memory",
    ],
)
async def test_a_model_that_does_not_fit_into_memory_is_not_to_be_tried_again(said):
    async with served() as (fake, call):
        fake.script(Script(status=500, body={"error": said}), path="/api/chat")
        text = await call("ollama_chat", prompt="x")
        assert "does not fit into the memory" in text
        assert "Name a smaller model, send a smaller" in text
        assert "again" not in text
        fake.script(Script(status=500, body={"error": said}), path="/api/embed")
        text = await call("ollama_embeddings", input=["x"], model="nomic-embed-text")
        assert "num_ctx" not in text, "that tool has no options"


async def test_an_ollama_that_has_to_sign_in_says_how():
    cloud = Model("big:120b-cloud", remote_host="https://ollama.com")
    async with served(cloud, OLLAMA_MCP_CLOUD="1") as (fake, call):
        for link in ("https://ollama.com/connect?name=box&key=abc", "https://evil.example/x", None):
            body = {"error": "unauthorized", **({"signin_url": link} if link else {})}
            fake.script(Script(status=401, body=body), path="/api/chat")
            text = await call("ollama_chat", prompt="x", model="big:120b-cloud")
            assert "`ollama signin`" in text
            assert "evil" not in text
            assert ("connect?name=box" in text) == (link is not None and "evil" not in link)


async def test_a_picture_by_its_path_is_told_how_paths_are_sent(tmp_path):
    picture = {"messages": [{"role": "user", "content": "?", "images": ["./pic.png"]}]}
    async with served() as (_, call):
        assert "OLLAMA_MCP_ROOTS" in await call("ollama_chat", **picture)
    async with served(OLLAMA_MCP_ROOTS=str(tmp_path)) as (_, call):
        assert 'Send its path in "files"' in await call("ollama_chat", **picture)
        text = await call("ollama_generate", prompt="?", images=["https://example.com/a.jpg"])
        assert "an image is a path or an address" in text
        assert "base64" in await call("ollama_generate", prompt="?", images=["not a picture!"])


@pytest.mark.parametrize(
    ("tool", "name", "told"),
    [
        ("ollama_chat", "response_format", '"schema"'),
        ("ollama_generate", "response_format", 'format="json"'),
        ("ollama_chat", "reasoning_effort", '"think"'),
    ],
)
async def test_the_names_of_another_api_are_told_with_ours(tool, name, told):
    async with served() as (fake, call):
        text = await call(tool, prompt="x", **{name: {"type": "json_object"}})
        assert text.startswith(f'INVALID_ARGUMENT: {tool} has no argument "{name}"')
        assert told in text
        assert not fake.asked("/api/chat")


# --- proxies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
async def test_a_proxy_that_is_down_or_fails_is_named(monkeypatch, variable):
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    error = await refused("http://192.0.2.77:11434")
    assert error.cause.endswith(f"through the proxy of {variable}")
    assert error.remedy.startswith("Add 192.0.2.77 to NO_PROXY")
    async with answering(job("502 Bad Gateway", b"<html>", "Content-Type: text/html")) as place:
        monkeypatch.setenv(variable, place)
        error = await refused("http://192.0.2.77:11434")
        assert f"HTTP 502, through the proxy of {variable}" in error.cause
        own = await refused(place)
        assert "proxy of" not in str(own), "this machine is called without one"


# --- the server's own words ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (Script(status=500, body="no kernel image is available"), "no kernel image is available"),
        (Script(status=503, body={"detail": "the node is draining"}), "the node is draining"),
        (Script(status=500, body={"message": "no file /root/.ollama/x on 10.0.0.7"}), "no file … on …"),
        (Script(lines=[b"panic: runtime error"]), "panic: runtime error"),
        (Script(lines=[b'{"error parsing tool call":"unexpected end"}']), "unexpected end"),
    ],
)  # fmt: skip
async def test_what_the_server_says_in_its_own_form_is_quoted(script, words):
    async with served() as (fake, call):
        fake.script(script, path="/api/chat")
        text = await call("ollama_chat", prompt="x")
        assert words in text
        assert "/root" not in text


async def test_no_secret_is_quoted():
    async with served(OLLAMA_MCP_HEADERS='{"X-Key": "hush-hush"}') as (fake, call):
        for script in (Script(status=500, body="bad key hush-hush"), Script(lines=[b"bad key hush-hush"])):
            fake.script(script, path="/api/chat")
            text = await call("ollama_chat", prompt="x")
            assert "bad key ***" in text


@pytest.mark.parametrize("body", [b"<html>x</html>", b"\xff\xfe", b"\x00\x01", b"", b"[1]", b'{"a": 1}'])
def test_what_are_no_words_is_not_quoted(body):
    assert plain_words(body) == ""


# --- embeddings ----------------------------------------------------------------------------------


async def test_ranks_and_only_they_have_the_prefixes_of_the_model():
    async with served() as (fake, call):
        asked = {"query": "fruit", "candidates": ["apple", "car"], "model": "nomic-embed-text"}
        await call("ollama_rank", **asked)
        await call("ollama_rank", **asked, prefixes=False)
        await call("ollama_embeddings", input=["fruit"], model="nomic-embed-text")
        sent = [request.json["input"] for request in fake.asked("/api/embed")]
    assert sent[0] == ["search_query: fruit", "search_document: apple", "search_document: car"]
    assert sent[1:] == [["fruit", "apple", "car"], ["fruit"]]


async def test_a_candidate_of_which_the_model_fails_is_a_line_and_no_row():
    def schema_validator(request):
        bad = any("bad" in text for text in request.json["input"])
        return Script(status=500, body={"error": "unsupported value: NaN"}) if bad else Script()

    async with served() as (fake, call):
        fake.script(schema_validator, path="/api/embed")
        text = await call("ollama_rank", query="a", candidates=["a", "bad", "c"], model="nomic-embed-text")
        assert "candidates[1] has no vector: Ollama failed: unsupported value: NaN" in text
        assert "[1] bad" not in text
        text = await call("ollama_rank", query="bad", candidates=["a"], model="nomic-embed-text")
        assert text.startswith("UPSTREAM: ")
        text = await call("ollama_embeddings", input=["a", "bad"], model="nomic-embed-text")
        assert text.splitlines()[1].startswith("input[1] has no vector")
