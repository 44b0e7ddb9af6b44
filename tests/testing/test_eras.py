"""Windows that overflow, servers that are old, and calls that are wrong."""

import json

import anyio
import httpx
import ollama
import pytest

from ollama_mcp.testing import FakeOllama, Model
from ollama_mcp.testing.scripted_backend import words

pytestmark = pytest.mark.anyio
LONG = "word " * 100


@pytest.fixture(autouse=True)
async def limit(anyio_backend: str):
    with anyio.fail_after(10):
        yield


@pytest.fixture
def post(client):
    async def post(path: str, **body: object):
        return await client._client.post(path, json={"model": "llama3.2:3b", **body})

    return post


def user(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize("era", ["0.33.0", "0.24.0", "0.12.5"])
async def test_a_prompt_that_is_too_long_is_cut_in_silence(fake: FakeOllama, client, era):
    fake.version, fake.window = era, 50
    seen = (await client.chat("llama3.2:3b", user(LONG))).prompt_eval_count
    assert seen == (50 - (50 - 4) // 2 if era == "0.33.0" else 50)
    assert (await client.generate("llama3.2:3b", LONG)).prompt_eval_count == seen


async def test_truncate_false_refuses_with_both_numbers(fake: FakeOllama, post):
    fake.window = 50
    for path, body in (("/api/chat", {"messages": user(LONG)}), ("/api/generate", {"prompt": LONG})):
        response = await post(path, truncate=False, **body)
        inner = json.loads(response.json()["error"])["error"]
        assert (response.status_code, inner["n_prompt_tokens"], inner["n_ctx"]) == (400, 100, 50)
        assert "content-length" not in response.headers


async def test_truncate_false_of_old_names_no_numbers_and_before_0_12_6_is_ignored(fake: FakeOllama, post):
    fake.window, fake.version = 50, "0.24.0"
    response = await post("/api/chat", messages=user(LONG), truncate=False)
    assert response.json() == {"error": "the input length exceeds the context length"}
    fake.version = "0.12.5"
    assert (await post("/api/chat", messages=user(LONG), truncate=False)).status_code == 200


async def test_old_messages_are_dropped_without_a_trace(fake: FakeOllama, client):
    fake.window = 50
    system = {"role": "system", "content": "be brief"}
    whole = await client.chat("llama3.2:3b", [system, *user(LONG), *user("what now")])
    assert whole.prompt_eval_count == words("be brief what now")


async def test_num_ctx_makes_room(fake: FakeOllama, client):
    fake.window = 50
    whole = await client.chat("llama3.2:3b", user(LONG), options={"num_ctx": 200})
    assert whole.prompt_eval_count == 100


async def test_an_embedding_that_is_too_long_is_cut_or_refused(fake: FakeOllama, client, post):
    fake.window = 50
    assert (await client.embed("nomic-embed-text", ["a", LONG])).prompt_eval_count == 51
    response = await post("/api/embed", model="nomic-embed-text", input=["a", LONG], truncate=False)
    assert response.json() == {"error": "the input length exceeds the context length"}


async def test_tags_and_show_know_less_on_old_servers(fake: FakeOllama, client):
    async def known() -> list[bool]:
        tags = (await client._client.get("/api/tags")).json()["models"][0]
        shown = (await client._client.post("/api/show", json={"model": "llama3.2:3b"})).json()
        return ["capabilities" in tags, "context_length" in tags["details"], "capabilities" in shown]

    eras = {"0.33.0": [True, True, True], "0.24.0": [False, False, True], "0.6.3": [False, False, False]}
    for fake.version, expected in eras.items():
        assert await known() == expected


async def test_an_image_for_a_text_model_is_refused_and_of_old_dropped(fake: FakeOllama, post):
    picture = [{"role": "user", "content": "what is it", "images": ["aGVsbG8="]}]
    assert (await post("/api/chat", messages=picture)).status_code == 400
    fake.version = "0.24.0"
    assert (await post("/api/chat", messages=picture)).status_code == 200
    fake.version = "0.33.0"
    fake.add_model(Model("llava", ("completion", "vision")))
    assert (await post("/api/chat", model="llava", messages=picture)).status_code == 200


async def test_a_chat_model_embeds_only_of_old_and_older_servers_have_no_embed(fake: FakeOllama, post):
    statuses = []
    for fake.version in ("0.33.0", "0.24.0", "0.1.48"):
        statuses.append((await post("/api/embed", input="x")).status_code)
    assert statuses == [501, 200, 404]


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        (
            "/api/chat",
            {"messages": [{"content": 5}]},
            400,
            "field ChatRequest.messages.content of type string",
        ),
        (
            "/api/chat",
            {"stream": "yes"},
            400,
            "cannot unmarshal string into Go struct field ChatRequest.stream",
        ),
        ("/api/chat", {"model": 5}, 400, "cannot unmarshal number into"),
        ("/api/chat", {"messages": user("x"), "options": {"stop": "x"}}, 500, "must be of type array"),
        ("/api/chat", {"messages": user("x"), "options": {"num_ctx": True}}, 500, "must be of type integer"),
        ("/api/chat", {"messages": user("x"), "think": 3}, 400, "think must be a boolean or string"),
        ("/api/chat", {"keep_alive": []}, 400, "Unsupported type: '[]interface {}'"),
        ("/api/copy", {"source": "", "destination": "x"}, 400, "is invalid"),
        ("/api/push", {"model": ""}, 400, "model is required"),
        ("/api/show", {"model": ""}, 400, "model is required"),
        ("/api/show", {"model": "a b"}, 400, "invalid model name"),
        ("/api/generate", {"model": "nope", "prompt": "x"}, 404, "model 'nope' not found"),
    ],
)
async def test_wrong_calls_are_refused_in_gos_words(post, path, body, status, text):
    response = await post(path, **body)
    assert response.status_code == status
    assert text in response.json()["error"]


async def test_an_error_text_carries_the_servers_own_path(client):
    with pytest.raises(
        ollama.ResponseError, match=r"/var/lib/ollama/manifests/registry.ollama.ai/library/nope"
    ):
        _ = [line async for line in await client.push("nope", stream=True)]


async def test_a_server_for_other_machines_takes_any_name():
    async with FakeOllama(host="0.0.0.0") as fake, httpx.AsyncClient() as http:
        for name in ("fake-ollama:11434", "evil.example"):
            answer = await http.get(f"http://127.0.0.1:{fake.port}/", headers={"Host": name})
            assert answer.status_code == 200


async def test_unknown_routes_methods_and_hosts_are_refused(client):
    http = client._client
    missing = await http.get("/api/nope")
    assert (missing.status_code, missing.text) == (404, "404 page not found")
    wrong = await http.get("/api/chat")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    host = await http.get("/api/tags", headers={"Host": "evil.example"})
    assert (host.status_code, host.content) == (403, b"")
    for good in ("localhost", "[::1]:80", "10.0.0.7:11434", "host.docker.internal"):
        assert (await http.get("/", headers={"Host": good})).status_code == 200
