"""README, docs and examples: what they show is executed, what they link to exists, how they are written."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from ollama_mcp.cli.setup.clients import CLIENT_CONFIGS
from ollama_mcp.errors import OllamaError
from ollama_mcp.settings import load
from ollama_mcp.testing import FakeOllama, Script
from ollama_mcp.tools import TOOLSETS
from ollama_mcp.transports.http import access_of

pytestmark = pytest.mark.real_time
ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = ROOT / "docs"
PAGES = {"README": ROOT / "README.md"} | {
    path.relative_to(DOCS).with_suffix("").as_posix(): path for path in sorted(DOCS.rglob("*.md"))
}
OTHER_PAGES = [ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md")]
MOST_BYTES = 9 * 1024
MOST_WORDS = 30
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
FOREIGN = sorted((ROOT / "examples" / "foreign").glob("*.py"))
COMMAND = str(Path(sys.executable).with_name("ollama-mcp"))


def blocks(language: str, *pages: str) -> list[str]:
    """Code blocks of a language, of the named pages or of all."""
    texts = [path.read_text("utf-8") for name, path in PAGES.items() if name in (pages or PAGES)]
    pattern = rf"^```{language}\n(.*?)^```$"
    return [found for text in texts for found in re.findall(pattern, text, flags=re.DOTALL | re.MULTILINE)]


PROGRAMS = [block for block in blocks("python") if "def test_" not in block]
TESTS = [block for block in blocks("python") if "def test_" in block]
ASYNC_TEST = next(block for block in TESTS if "anyio_backend" in block)


def entries() -> list[dict[str, Any]]:
    """The server entries of the pages on clients, in JSON and in TOML."""
    pages = [name for name in PAGES if name.startswith("clients")]
    tables = [json.loads(block) for block in blocks("json", *pages)]
    tables += [tomllib.loads(block) for block in blocks("toml", *pages)]
    return [entry for table in tables for servers in table.values() for entry in servers.values()]


def servers() -> list[dict[str, Any]]:
    """Those entries that start a program, each kind once."""
    found = [entry for entry in entries() if isinstance(entry.get("command"), str)]
    kinds = {json.dumps([entry["command"], entry["args"], entry["env"]]): entry for entry in found}
    return list(kinds.values())


def test_there_is_a_page_for_each_client() -> None:
    pages = {name.removeprefix("clients/") for name in PAGES if name.startswith("clients/")}
    assert pages == {client.id for client in CLIENT_CONFIGS}
    assert len(pages) == 15
    assert all(client.title in README for client in CLIENT_CONFIGS)
    assert len(servers()) == 2


def test_a_configuration_for_http_has_the_address_that_the_server_has() -> None:
    names = ("url", "serverUrl", "httpUrl")
    addresses = [entry[name] for entry in entries() for name in names if name in entry]
    assert len(addresses) > 8
    served = re.findall(r"serves Streamable HTTP at `([^`]+)`", PAGES["http"].read_text("utf-8"))
    assert set(addresses) == set(served)


@pytest.mark.anyio
@pytest.mark.parametrize("entry", servers())
@pytest.mark.gate
async def test_a_configuration_starts_a_server_that_reaches_its_ollama(entry: dict[str, Any]) -> None:
    assert entry["command"].startswith("/"), "hosts have a foreign working directory"
    assert entry["command"].endswith("/ollama-mcp")
    async with FakeOllama() as fake:
        environment = {**entry["env"], "OLLAMA_HOST": fake.url}
        assert environment.keys() == entry["env"].keys()
        server = StdioServerParameters(command=COMMAND, args=entry.get("args", []), env=environment, cwd="/")
        with anyio.fail_after(30):
            async with Client(stdio_client(server)) as client:
                result = await client.call_tool("ollama_list_models", {})
        assert "llama3.2:3b" in result.content[0].text


def run(*command: str | Path, cwd: Path, **environment: str) -> None:
    """Run a program of ours, or a test, which must succeed; what it printed is the failure."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OLLAMA_")}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env={**kept, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.gate
def test_a_program_of_a_page_runs(program: str, tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text(program, encoding="utf-8")
    with FakeOllama.in_thread() as fake:
        run(file, cwd=tmp_path, OLLAMA_HOST=fake.url)


@pytest.mark.gate
def test_the_tests_of_the_pages_pass(tmp_path: Path) -> None:
    assert len(TESTS) == 6
    for place, block in enumerate(TESTS):
        if block is not ASYNC_TEST:  # it imports mcp, which takes seconds
            (tmp_path / f"test_block_{place}.py").write_text(block, encoding="utf-8")
    run("-m", "pytest", "-q", "-p", "no:xdist", ".", cwd=tmp_path)


def test_the_verifier_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = next(block for block in PROGRAMS if "verify_token" in block)
    (tmp_path / "my_auth.py").write_text(program, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    access = access_of(load({"OLLAMA_MCP_VERIFIER": "my_auth:make"}))
    assert str(access.auth.issuer_url) == "https://login.example.com"
    assert access.names.has_host("gpu.example.com", ("10.0.0.7", 8000))


@pytest.mark.parametrize(
    "trio", [False, pytest.param(True, marks=pytest.mark.gate)], ids=["asyncio", "with trio"]
)
@pytest.mark.long
def test_the_async_test_passes_also_where_trio_is_installed(tmp_path: Path, trio: bool) -> None:
    if trio:  # as anyio's own fixture does there; that the second loop is none here makes no difference
        conftest = 'import pytest\n@pytest.fixture(params=["asyncio", "trio"])\ndef anyio_backend(request):\n'
        (tmp_path / "conftest.py").write_text(conftest + "    return request.param\n", encoding="utf-8")
    file = tmp_path / "test_program.py"
    file.write_text(ASYNC_TEST, encoding="utf-8")
    run("-m", "pytest", file, cwd=tmp_path)


@pytest.mark.anyio
async def test_the_tool_of_the_library_page_asks_a_model_with_progress_and_fails_in_our_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program: dict[str, Any] = {}
    seen: list[str | None] = []

    async def watch(progress: float, total: float | None, message: str | None) -> None:
        seen.append(message)
        fake.release()

    async with FakeOllama() as fake:
        for name in [name for name in os.environ if name.startswith("OLLAMA_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("OLLAMA_HOST", fake.url)
        exec(next(block for block in PROGRAMS if "def summary" in block), program)
        with anyio.fail_after(30):
            async with Client(program["server"], mode="legacy") as client:
                fake.script(Script(tokens=["In ", "short"], hold_after_tokens=1))
                result = await client.call_tool("summary", {"text": "…"}, progress_callback=watch)
                assert result.content[0].text == "In short"
                assert seen
                fake.busy(times=None)
                failed = await client.call_tool("summary", {"text": "…"})
                assert failed.is_error
                told = "Error executing tool summary: BUSY: Ollama is busy"
                assert failed.content[0].text.startswith(told)


@pytest.mark.skipif(os.name == "nt", reason="the command is written for a POSIX shell")
@pytest.mark.anyio
@pytest.mark.parametrize("how", ["loopback", "token"])
@pytest.mark.gate
async def test_the_commands_for_http_serve(tmp_path: Path, how: str) -> None:
    commands = {block for block in blocks("sh") if "serve --http" in block}
    assert len(commands) == 2
    command = next(text for text in commands if ("token" in text) is (how == "token"))
    command = command.replace("ollama-mcp serve", f"exec {COMMAND} serve").replace(":8000", ":0")
    async with FakeOllama() as fake:
        served = await anyio.open_process(
            ["sh", "-c", command], cwd=tmp_path, env={**os.environ, "OLLAMA_HOST": fake.url}
        )
        try:
            with anyio.fail_after(30):
                port = re.search(r":(\d+)/mcp", (await served.stderr.receive()).decode())[1]
            tokens = tmp_path / "tokens"
            token = {"authorization": f"Bearer {tokens.read_text().strip()}"} if tokens.exists() else {}
            async with httpx2.AsyncClient(headers=token) as http:
                streams = streamable_http_client(f"http://127.0.0.1:{port}/mcp", http_client=http)
                async with Client(streams) as client:
                    answer = await client.call_tool("ollama_chat", {"prompt": "hi"})
            assert answer.content[0].text == "You said: hi"
            assert tokens.exists() is (how == "token")
        finally:
            served.terminate()
            assert await served.wait() == 0
            await served.aclose()


def test_the_settings_file_is_one(tmp_path: Path) -> None:
    text = next(block for block in blocks("toml") if "[models." in block)
    file = tmp_path / "settings.toml"
    file.write_text(text, encoding="utf-8")
    settings = load({"OLLAMA_MCP_CONFIG": str(file)})
    assert settings.chat_model == "qwen3:8b"
    assert settings.defaults_for("qwen3:8b").think is False
    assert settings.defaults_for("qwen3:8b").options == {"temperature": 0.2, "num_ctx": 16384}


def how_to_run(example: Path) -> str:
    """The command in the head of an example."""
    found = re.search(r"Run it[^`]*`([^`]+)`", ast.get_docstring(ast.parse(example.read_text("utf-8"))) or "")
    assert found, f"the head of {example} says no `Run it: ...`"
    return found[1]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.gate
def test_an_example_runs_as_its_head_says(example: Path) -> None:
    program, file = how_to_run(example).split()
    assert ROOT / file == example
    run(*{"python": [], "pytest": ["-m", "pytest"]}[program], file, cwd=ROOT)


@pytest.mark.parametrize("example", FOREIGN, ids=lambda path: path.stem)
def test_a_foreign_example_says_what_it_needs_and_the_gate_runs_it(example: Path) -> None:
    # Its environment is not ours, so that it cannot run here: .ci/run makes one and runs each of them.
    assert "for example in examples/foreign/*.py; do" in (ROOT / ".ci" / "run").read_text("utf-8")
    source = example.read_text("utf-8")
    needs = re.search(r"^# /// script\n# (dependencies = .+)\n# ///$", source, flags=re.MULTILINE)
    assert needs
    dependencies = tomllib.loads(needs[1])["dependencies"]
    assert dependencies
    assert ("ollama-mcp" in dependencies) is ("from ollama_mcp" in source)
    assert f"examples/foreign/{example.name}" in how_to_run(example)


def test_the_table_of_examples_has_them_all() -> None:
    table = (ROOT / "examples" / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| \[([^]]+)\]\(([^)]+)\) \| .+\.(?= \|$)", table, flags=re.MULTILINE)
    assert all(text == target for text, target in rows)
    files = {str(path.relative_to(ROOT / "examples")) for path in [*EXAMPLES, *FOREIGN]}
    assert sorted(target for _, target in rows) == sorted(files)


def test_the_two_commands_are_one_line_each() -> None:
    for name in ("demo", "test"):
        found = re.search(rf"<!-- command: {name} -->\n```sh\n(.*?)```", README, flags=re.DOTALL)
        assert found
        assert len(found[1].strip().splitlines()) == 1


# --- links, sizes, sentences -------------------------------------------------------------------


def prose(page: str) -> str:
    """A page without code blocks and comments."""
    return re.sub(r"^```.*?^```$|<!--.*?-->", "", page, flags=re.DOTALL | re.MULTILINE)


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def sentences(page: str) -> list[str]:
    """The sentences of paragraphs and list items; inline code is one word, and a link is its text."""
    text = re.sub(r"^(#|\||    ).*$", "", prose(page), flags=re.MULTILINE)
    text = re.sub(r"`[^`]+`", "code", re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", text))
    parts = [
        " ".join(part.split()) for part in re.split(r"\n\s*\n|^ *(?:[-*]|\d+\.) ", text, flags=re.MULTILINE)
    ]
    return [sentence for part in parts for sentence in re.split(r"(?<=[.!?]) ", part) if sentence]


@pytest.mark.parametrize(
    "page", [*PAGES.values(), *OTHER_PAGES], ids=lambda path: str(path.relative_to(ROOT))
)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", prose(page.read_text("utf-8"))):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text("utf-8")), target


def test_readme_is_short() -> None:
    assert len(README.encode()) <= MOST_BYTES


@pytest.mark.parametrize("name", [*PAGES, "CONTRIBUTING"])
def test_no_sentence_of_a_page_is_long(name: str) -> None:
    page = PAGES.get(name, ROOT / f"{name}.md").read_text("utf-8")
    assert [found for found in sentences(page) if len(found.split()) > MOST_WORDS] == []


def test_readme_names_every_page_and_every_tool() -> None:
    assert all(f"(docs/{name}.md)" in README for name in PAGES if name != "README" and "/" not in name)
    assert all(f"`{tool.name}`" in README for toolset in TOOLSETS.values() for tool in toolset)


def our_texts() -> str:
    """Every literal text of the package, a line for each; values in f-strings are left out."""
    found: list[str] = []
    for file in (ROOT / "src").rglob("*.py"):
        found += [
            node.value
            for node in ast.walk(ast.parse(file.read_text("utf-8")))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
    return "\n".join(found)


def test_the_errors_of_the_page_on_troubleshooting_are_ours() -> None:
    texts = our_texts()
    codes = {kind.code for kind in every_kind(OllamaError)}
    lines = [line for block in blocks("text", "troubleshooting") for line in block.splitlines()]
    assert len(lines) > 20
    for line in lines:
        code, colon, cause = line.partition(": ")
        if re.fullmatch("[A-Z_]+", code):
            assert code in codes, line
        else:
            cause = line
        assert colon or len(cause) > 10
        assert [
            part for part in cause.split("…") if part.strip(' ."') and part.strip(' "') not in texts
        ] == []


def every_kind(error: type[OllamaError]) -> list[type[OllamaError]]:
    """A class of errors and all below it."""
    return [error, *(kind for below in error.__subclasses__() for kind in every_kind(below))]


def test_agents_md_is_at_most_80_lines() -> None:
    assert len((ROOT / "AGENTS.md").read_text(encoding="utf-8").splitlines()) <= 80
