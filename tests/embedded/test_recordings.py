"""What a real Ollama 0.33 answered is what the engine answers: errors byte for byte, the rest by shape."""

import json

import httpx
import pytest

from ollama_mcp.embedded import EmbeddedEngine

pytestmark = pytest.mark.engine

SAME_BYTES = [
    "body-empty",
    "body-list",
    "body-not-json",
    "root",
    "root-head",
    "unknown-route",
    "wrong-method",
    "host-refused",
    "show-missing",
    "chat-bad-name",
    "chat-embedding-model",
    "chat-format-bad",
    "chat-image-data-url",
    "chat-image-to-text-model",
    "chat-keepalive-2d",
    "chat-keepalive-300-text",
    "chat-keepalive-bool",
    "chat-keepalive-empty",
    "chat-keepalive-forever",
    "chat-keepalive-minus-one-text",
    "chat-missing-model",
    "chat-no-model",
    "chat-option-type",
    "chat-think-unsupported",
    "chat-think-bad",
    "chat-tools-unsupported",
    "embed-chat-model",
    "embed-empty-list",
    "embed-empty-text",
    "embed-long-refused",
    "embed-long-in-batch-refused",
    "embed-missing-model",
    "embed-type",
    "generate-embedding-model",
    "generate-missing-model",
    "generate-raw-system",
    "generate-suffix-unsupported",
]

SAME_SHAPE = [
    "chat-stream",
    "chat-whole",
    "chat-system",
    "chat-length",
    "chat-stop",
    "chat-unicode",
    "chat-role-odd",
    "chat-option-unknown",
    "chat-keepalive-5m",
    "chat-keepalive-float",
    "chat-keepalive-minus-one",
    "chat-json",
    "chat-schema",
    "chat-schema-cut",
    "load-chat",
    "generate-stream",
    "generate-whole",
    "generate-system",
    "generate-raw",
    "generate-u0085",
    "generate-load",
    "generate-unload",
    "unload-embedding",
]


def send(engine: EmbeddedEngine, recorded: dict) -> httpx.Response:
    asked = recorded["request"]
    # A recorded name of this machine means: whatever the port is.
    host = {} if asked["host"].startswith("127.") else {"host": asked["host"]}
    body = asked["body"].encode()
    return httpx.request(asked["method"], engine.url + asked["path"], content=body, headers=host, timeout=60)


def status_and_type(recorded: dict) -> tuple[int, str]:
    head = recorded["response"]["wire"][0][1].partition("\r\n\r\n")[0]
    kind = [line for line in head.split("\r\n") if line.lower().startswith("content-type: ")]
    return int(head.split()[1]), kind[0].partition(": ")[2].partition(";")[0] if kind else ""


@pytest.mark.parametrize("name", SAME_BYTES)
def test_an_answer_without_a_model_is_the_recorded_one(engine, recording, name):
    recorded = recording(name)
    got = send(engine, recorded)
    kind = got.headers.get("content-type", "").partition(";")[0]
    assert (got.status_code, kind) == status_and_type(recorded)
    assert got.text == recorded["response"]["body"]


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.split("\n") if line]


@pytest.mark.parametrize("name", SAME_SHAPE)
def test_an_answer_of_the_model_has_the_recorded_shape(engine, recording, name):
    recorded = recording(name)
    got = send(engine, recorded)
    assert (got.status_code, got.headers["content-type"].partition(";")[0]) == status_and_type(recorded)
    ours, theirs = lines(got.text), lines(recorded["response"]["body"])
    for mine, real in ((ours[0], theirs[0]), (ours[-1], theirs[-1])):
        assert list(mine) == list(real)
    last, real = ours[-1], theirs[-1]
    assert (last["model"], last["done"]) == (real["model"], True)
    assert (
        last["done_reason"] in {"stop", "length"}
        if "eval_count" in real
        else last["done_reason"] == real["done_reason"]
    )
    assert last.get("prompt_eval_count") == real.get("prompt_eval_count")


@pytest.mark.parametrize("name", ["tags", "show-chat", "show-embedding"])
def test_what_a_model_is_has_the_recorded_shape(engine, recording, name):
    recorded = recording(name)
    mine, real = send(engine, recorded).json(), json.loads(recorded["response"]["body"])
    assert shape(mine) == shape(real)


def shape(value: object) -> object:
    """Keys and types; a list is as its items are; metadata of a file may have more entries than another's."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items() if key not in {"model_info", "tensors"}}
    return [shape(item) for item in value] if isinstance(value, list) else type(value)


@pytest.mark.parametrize("name", ["show-chat", "show-embedding"])
def test_the_model_is_the_recorded_one(engine, recording, name):
    recorded = recording(name)
    mine, real = send(engine, recorded).json(), json.loads(recorded["response"]["body"])
    assert mine["details"] == real["details"]
    assert mine["template"] == real["template"]
    assert mine.get("parameters") == real.get("parameters")
    assert sorted(map(str, mine["tensors"])) == sorted(map(str, real["tensors"]))
    own = {"bert.attention.layer_norm_epsilon", "llama.attention.layer_norm_rms_epsilon"}
    for key in (mine["model_info"].keys() & real["model_info"].keys()) - own:
        assert mine["model_info"][key] == real["model_info"][key], key


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    "name", ["embed-one", "embed-three", "embed-list-with-empty", "embed-long", "embed-dimensions"]
)
def test_vectors_are_those_of_the_real_model(engine, recording, name):
    recorded = recording(name)
    mine, real = send(engine, recorded).json(), json.loads(recorded["response"]["body"])
    assert mine["prompt_eval_count"] == real["prompt_eval_count"]
    assert list(mine) == list(real)
    for one, other in zip(mine["embeddings"], real["embeddings"], strict=True):
        assert cosine(one, one) == pytest.approx(1, abs=1e-5)
        assert cosine(one, other) > 0.999


@pytest.mark.parametrize(
    "name", ["chat-overflow-refused", "generate-overflow-refused", "chat-overflow-history-refused"]
)
def test_a_prompt_that_is_too_long_is_refused_with_both_counts(engine, recording, name):
    recorded = recording(name)
    got = send(engine, recorded)
    assert (got.status_code, got.headers["content-type"].partition(";")[0]) == status_and_type(recorded)
    # The recorded window was 4096; ours is smaller, all else is the same.
    assert got.text == recorded["response"]["body"].replace("4096", "2048")


def test_a_loaded_model_is_listed_as_recorded(engine, recording, http):
    http.post("/api/generate", json={"model": "smollm2:135m", "prompt": ""})
    mine = http.get("/api/ps").json()["models"]
    real = json.loads(recording("ps-one")["response"]["body"])["models"][0]
    entry = next(entry for entry in mine if entry["name"] == "smollm2:135m")
    assert list(entry) == list(real)
    assert entry["details"] == real["details"]
