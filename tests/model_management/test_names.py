"""Names by Ollama's own grammar, and the registries that they lead to."""

import re

import anyio
import pytest

from ollama_mcp.errors import Forbidden, InvalidArgument, NotConfirmed
from ollama_mcp.ollama.model_names import (
    canonical,
    check_name,
    is_cloud_name,
    is_name,
    is_registry,
    nearest,
    registry_of,
)
from ollama_mcp.testing import Script

pytestmark = pytest.mark.anyio

GOOD = [
    "qwen3", "qwen3:8b", "me/mine", "me/mine:v1.2_x-y", "_x", "hf.co/user/repo:Q4_K_M",
    "hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:IQ3_M", "gpu-box:5000/team/model:tag",
    "127.0.0.1:5055/library/m", "registry.ollama.ai/library/qwen3:8b", "a" * 80, "x:" + "a" * 80,
    f"{'h' * 350}/n/m",
]  # fmt: skip

HOSTILE = [
    "", " ", ".", "..", "/", "//", ":", "@", "-x", ".x", "x:", ":x", "/x", "x/", "a//b", "a/b/", "a/b/c/d",
    "../x", "../../etc/passwd", "a/../b", "x/..", "x:..", "./x", "~/x", "C:\\x", "a\\b", "x:a:b", "x:a/b",
    "x y", "x\ty", "x\ny", "x\n", "x\r\nHost: evil", "x\0", "x\0.gguf", "x%2e%2e", "x%00", "x?y", "x#y",
    "x&y", "x=y", "x;y", "x|y", "x$(id)", "`id`", "x'y", 'x"y', "{x}", "<x>", "x*", "x,y", "x+y", "x!",
    "x@sha256-ab", "http://evil.example/a/b", "https://registry.ollama.ai/library/x", "file:///etc/passwd",
    "user@evil/a/b", "user:pw@evil/a/b", "[::1]/a/b", "evil.example/model", "a/b.c/d", "\u00e9", "\u0430/b",
    "\u202ex", "x\u200b", "\uff58", "x\u2215y", "x\ud800", "a" * 81, "x:" + "a" * 81, f"{'n' * 81}/m",
    f"{'h' * 351}/n/m", "x" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_what_ollama_takes_is_taken(name):
    assert check_name(name) == name


def test_there_are_sixty_hostile_names_and_more():
    assert len(set(HOSTILE)) >= 60


@pytest.mark.parametrize(
    "name",
    [n for n in HOSTILE if n.strip() == n],
    ids=lambda name: re.sub(r"\W+", "-", name, flags=re.ASCII)[:30],
)
def test_what_ollama_does_not_take_is_refused_in_few_words(name):
    assert not is_name(name)
    with pytest.raises(InvalidArgument) as refused:
        check_name(name)
    assert len(str(refused.value)) <= 400


async def test_no_hostile_name_reaches_the_server(bench):
    with anyio.fail_after(20):
        async with bench() as b:
            for name in HOSTILE:
                if name.strip() and is_name(name):
                    continue  # blanks around a good name
                for work in (
                    b.pull,
                    b.push,
                    b.model_manager.delete,
                    b.model_manager.unload,
                    b.model_manager.summary,
                    b.load,
                ):
                    with pytest.raises(InvalidArgument):
                        await work(name)
                for pair in ((name, "x"), ("x", name)):
                    with pytest.raises(InvalidArgument):
                        await b.create(*pair)
                with pytest.raises(InvalidArgument):
                    await b.model_manager.copy("x", name)
            assert [request.path for request in b.fake.requests] == []


@pytest.mark.parametrize(
    "name",
    [
        "hf.co/user/repo:Q4_K_M",
        "registry.ollama.ai:443/library/x",
        "registry.ollama.ai./library/x",
        "127.0.0.1:5055/library/x",
        "169.254.169.254/latest/meta-data",
        "library/library/x",
    ],
)
async def test_other_registries_than_the_allowed_ones_are_refused(bench, name):
    with anyio.fail_after(5):
        async with bench() as b:
            for work in (b.pull, b.push):
                with pytest.raises(Forbidden, match="OLLAMA_MCP_REGISTRIES"):
                    await work(name)
            assert b.fake.requests == []


@pytest.mark.parametrize(
    "name", ["qwen3:8b", "me/mine", "registry.ollama.ai/library/x", "Registry.Ollama.AI/a/b"]
)
async def test_names_of_ollamas_own_registry_are_pulled(bench, name):
    with anyio.fail_after(5):
        async with bench() as b:
            assert (await b.pull(name)).status == "success"


async def test_a_registry_that_the_operator_adds_is_allowed_whatever_its_case(bench):
    with anyio.fail_after(5):
        async with bench(registries=("hf.co",)) as b:
            await b.pull("HF.co/user/repo:Q4_K_M")
            with pytest.raises(Forbidden, match="OLLAMA_MCP_REGISTRIES"):
                await b.pull("qwen3:8b")
    assert registry_of("HF.co/user/repo:Q4_K_M") == "hf.co"


async def test_cloud_models_are_pulled_only_where_the_operator_allows_them(bench):
    with anyio.fail_after(5):
        async with bench() as b:
            with pytest.raises(Forbidden, match="OLLAMA_MCP_CLOUD"):
                await b.pull("gpt-oss:120b-cloud")
            assert b.fake.requests == []
        async with bench(cloud=True) as b:
            assert (await b.pull("gpt-oss:120b-cloud")).status == "success"


async def test_insecure_is_never_sent(bench):
    with anyio.fail_after(5):
        async with bench() as b:
            await b.pull("me/x")
            with pytest.raises(NotConfirmed):
                await b.push("me/x")
            await b.create("y", "me/x")
            assert not any("insecure" in request.json for request in b.fake.requests if request.body)


def test_a_registry_that_is_called_as_ollamas_own_namespace_is_another_one():
    assert canonical("library/m") == canonical("registry.ollama.ai/library/m") == "m:latest"
    assert canonical("registry.ollama.ai/me/m") == canonical("me/m")
    assert canonical("library/me/m") != canonical("me/m")
    assert canonical("library/library/m") != canonical("library/m")


@pytest.mark.parametrize("host", ["hf.co", " hf.co ", "gpu-box:5000", "127.0.0.1:5055", "h" * 350])
def test_what_can_be_the_host_of_a_name_is_one(host):
    assert is_registry(host)


@pytest.mark.parametrize("host", ["", " ", "*", "https://hf.co", "hf.co/unsloth", "-x", "h" * 351, "a b"])
def test_what_cannot_be_the_host_of_a_name_is_none(host):
    assert not is_registry(host)


@pytest.mark.parametrize(
    "name", ["glm-4.6:cloud", "GLM:Cloud", "gpt-oss:120b-cloud", " x:cloud ", "h:1/a/b:cloud"]
)
def test_the_tag_says_that_a_model_runs_in_the_cloud(name):
    assert is_cloud_name(name)


@pytest.mark.parametrize("name", ["cloud", "cloud:8b", "x:cloudy", "x-cloud", "cloud:1/a/b", "x:local", ""])
def test_the_word_anywhere_else_does_not(name):
    assert not is_cloud_name(name)


def test_the_port_of_a_registry_is_no_tag():
    assert canonical("gpu:5000/a/b") == "gpu:5000/a/b:latest"
    assert canonical("gpu:5000/a/b:c") == "gpu:5000/a/b:c"


def test_the_three_names_that_look_most_alike_are_told_the_best_first():
    known = ["llama3.2:1b", "llama3.2:3b", "llama3.1:8b", "llama3:8b", "nomic-embed-text"]
    assert nearest("llama3.2:3", known) == ["llama3.2:3b", "llama3.2:1b", "llama3.1:8b"]
    assert nearest("llama3.2:3", known, 1) == ["llama3.2:3b"]
    assert nearest("zzz", known) == []


def test_names_may_look_alike_by_half():
    assert nearest("qwen", ["qwen2.5:1b"]) == ["qwen2.5:1b"]
    assert nearest("mistral", ["mixtral:8x7b-instruct"]) == []


def test_of_a_name_that_is_none_eighty_characters_are_shown():
    with pytest.raises(InvalidArgument, match=f"'-{'x' * 79}' is not"):
        check_name("-" + "x" * 100)


async def test_a_look_that_fails_wipes_nothing_of_what_was_known(bench):
    with anyio.fail_after(10):
        async with bench() as b:
            known = await b.app.names.like("")
            b.fake.script(Script(status=500, body={"error": "x"}), path="/api/tags")
            await anyio.sleep(5.1)
            assert known
            assert await b.app.names.like("") == known
