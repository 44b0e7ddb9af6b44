"""Starting and ending the child process, and what importing the package costs."""

import json
import subprocess
import sys
import time

import anyio
import httpx
import pytest

import ollama_mcp.embedded
from ollama_mcp.embedded import EmbeddedEngine, EmbeddedUnavailable, Weights


def test_importing_the_package_imports_nothing_heavy():
    script = """
import sys, json
import ollama_mcp.embedded
heavy = {"xllamacpp", "gguf", "numpy", "starlette", "uvicorn", "httpx", "mcp", "anyio", "pydantic"}
print(json.dumps(sorted(heavy & set(sys.modules))))
from ollama_mcp.embedded import EmbeddedEngine, EmbeddedUnavailable, Weights, fetch, locate
print(json.dumps(sorted((heavy - {"anyio"}) & set(sys.modules))))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert [json.loads(line) for line in done.stdout.splitlines()] == [[], []]


def test_the_child_never_imports_mcp_or_the_client():
    script = """
import sys
import ollama_mcp.embedded.engine, ollama_mcp.embedded.__main__
print([name for name in sys.modules if name in ("mcp", "httpx") or name.startswith("ollama_mcp.")])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    names = done.stdout
    assert "'mcp'" not in names
    assert "'httpx'" not in names
    parts = {
        part.strip("], \n").partition(".")[0] for part in names.replace("'", "").split("ollama_mcp.")[1:]
    }
    assert parts == {"embedded", "ollama_server", "ollama", "errors"}


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing"):
        _ = ollama_mcp.embedded.nothing


def test_without_the_extra_it_says_which_extra(tmp_path):
    (tmp_path / "xllamacpp.py").write_text("raise ImportError('No module named xllamacpp')")
    script = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
sys.argv = ["embedded", "--model", "x.gguf"]
import ollama_mcp.embedded.__main__ as child
child.main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "xllamacpp" in json.loads(done.stdout)["error"]


@pytest.mark.engine
def test_it_lives_as_long_as_its_block(weights):
    engine = EmbeddedEngine(weights)
    assert (engine.url, engine.pid, engine.running, engine.log()) == ("", 0, False, "")
    with engine:
        assert engine.running
        assert engine.pid > 0
        assert httpx.get(f"{engine.url}/").text == "Ollama is running"
        url = engine.url
    assert not engine.running
    engine.close()
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


@pytest.mark.engine
@pytest.mark.anyio
async def test_an_asynchronous_block_and_two_engines_at_once(weights):
    async with EmbeddedEngine(weights) as one, EmbeddedEngine(weights, threads=1) as other:
        assert one.url != other.url
        async with httpx.AsyncClient() as client:
            for engine in (one, other):
                assert (await client.get(f"{engine.url}/api/version")).json() == {"version": "0.0.0-embedded"}


@pytest.mark.engine
def test_it_can_start_again(weights):
    engine = EmbeddedEngine(weights)
    for _ in range(2):
        with engine:
            assert engine.running


@pytest.mark.engine
def test_a_child_that_does_not_start_in_time_is_ended(weights):
    engine = EmbeddedEngine(weights, start_timeout=0.01)
    begin = time.perf_counter()
    with pytest.raises(EmbeddedUnavailable, match="did not start within"):
        engine.start()
    assert time.perf_counter() - begin < 5
    assert not engine.running


@pytest.mark.engine
@pytest.mark.anyio
async def test_a_cancelled_start_leaves_no_child(weights):
    engine = EmbeddedEngine(weights)
    with anyio.move_on_after(0.05):
        async with engine:
            await anyio.sleep_forever()
    assert not engine.running


@pytest.mark.engine
def test_a_killed_parent_takes_it_along(weights):
    script = """
import sys
from pathlib import Path
from ollama_mcp.embedded import EmbeddedEngine, Weights
engine = EmbeddedEngine(Weights(Path(sys.argv[1]), None)).start()
print(engine.url, flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", script, str(weights.chat)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        url = parent.stdout.readline().strip()
        assert httpx.get(url).status_code == 200
        parent.kill()
    assert stops_answering(url)


def stops_answering(url: str) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            httpx.get(url)
        except httpx.TransportError:
            return True
    return False


@pytest.mark.engine
def test_another_model_has_its_files_name_and_its_own_template(weights, tmp_path):
    own = tmp_path / "My-Model_2.gguf"
    own.write_bytes(weights.chat.read_bytes() + b"\0")
    with EmbeddedEngine(Weights(own, None)) as engine:
        models = httpx.get(f"{engine.url}/api/tags").json()["models"]
        assert [model["name"] for model in models] == ["my-model_2:latest"]
        ask = {"model": "my-model_2", "messages": [{"role": "user", "content": "Hi"}], "stream": False}
        answer = httpx.post(
            f"{engine.url}/api/chat", json=ask | {"options": {"num_predict": 2}}, timeout=60
        ).json()
        # The template in the file adds a system message, which Ollama's template for SmolLM2 does not.
        assert answer["prompt_eval_count"] > 20
