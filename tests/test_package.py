"""What importing costs, what is public, and that the examples in docstrings are true."""

import doctest
import importlib
import json
import pkgutil
import re
import subprocess
import sys

import pytest

import ollama_mcp
from ollama_mcp.tools import TOOLSETS

PUBLIC = sorted(
    [
        "App", "Backend", "OllamaClient", "OllamaError", "Settings", "StillRunning", "Tasks",
        "__version__",
        "complete_models", "create_server", "http_app", "offer", "register",
        *(tool.name for toolset in TOOLSETS.values() for tool in toolset),
    ]
)  # fmt: skip
EXTRAS = {"xllamacpp", "gguf", "numpy"}
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(ollama_mcp.__path__, "ollama_mcp.")
    if not module.name.endswith("__main__")
)


def loaded_by(statement: str) -> set[str]:
    """The packages that a fresh interpreter has after a statement."""
    program = f"import sys, json\n{statement}\nprint(json.dumps([name for name in sys.modules]))"
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=20
    )
    return {name.partition(".")[0] for name in json.loads(found.stdout)}


def test_importing_the_package_costs_nothing():
    assert not loaded_by("import ollama_mcp") & {
        "mcp",
        "mcp_types",
        "httpx",
        "pydantic",
        "anyio",
        "jsonschema",
        "asyncio",
        *EXTRAS,
    }


@pytest.mark.parametrize(
    "statement",
    [
        "import ollama_mcp.client",
        "import ollama_mcp.client as c; c.OllamaClient()",
        "import ollama_mcp; ollama_mcp.OllamaClient",
        "import ollama_mcp.settings as s; s.load({})",
        "import ollama_mcp.ollama.api_models, ollama_mcp.ollama.endpoints, ollama_mcp.ollama.ndjson",
    ],
)
@pytest.mark.gate
def test_a_client_without_mcp_imports_neither_mcp_nor_httpx(statement):
    assert not loaded_by(statement) & {"mcp", "mcp_types", "httpx", "httpcore", "jsonschema", *EXTRAS}


@pytest.mark.gate
def test_a_call_imports_httpx_and_never_mcp():
    program = (
        "import asyncio, ollama_mcp.errors\nfrom ollama_mcp.client import OllamaClient\n"
        "from ollama_mcp.ollama.endpoints import TAGS\n"
        "async def main():\n    async with OllamaClient('127.0.0.1:9') as client:\n"
        "        try: await client.call(TAGS)\n        except ollama_mcp.errors.Unreachable: pass\n"
        "asyncio.run(main())"
    )
    loaded = loaded_by(program)
    assert "httpx" in loaded
    assert "mcp" not in loaded


def test_the_public_names_are_these():
    assert sorted(ollama_mcp.__all__) == PUBLIC
    assert sorted(dir(ollama_mcp)) == PUBLIC
    assert [name for name in PUBLIC if not hasattr(ollama_mcp, name)] == []
    with pytest.raises(AttributeError, match="nothing"):
        _ = ollama_mcp.nothing


def test_help_of_the_package_is_true():
    rows = re.findall(r"^    (ollama_mcp\.[\w.]+) +(.+)$", ollama_mcp.__doc__, re.MULTILINE)
    assert len(rows) == 5
    for module, what in rows:
        found = importlib.import_module(module)
        for name in re.findall(r"\b(?:[A-Z]\w+|load)\b", what):
            assert hasattr(found, name), (module, name)


def test_the_examples_of_a_module_are_true(subtests):
    for name in MODULES:
        with subtests.test(str(name)):
            try:
                module = importlib.import_module(name)
            except ModuleNotFoundError as missing:
                if (missing.name or "").partition(".")[0] not in EXTRAS:
                    raise
                continue  # it needs that extra
            # testmod() would check linecache for each docstring, also for the most, which have no example.
            found = [test for test in doctest.DocTestFinder().find(module) if test.examples]
            runner = doctest.DocTestRunner()
            assert [test.name for test in found if runner.run(test).failed] == []


def test_the_examples_are_found():
    fiddly = [
        importlib.import_module(f"ollama_mcp.ollama.{name}")
        for name in ("hosts", "model_names", "options", "parameters", "base_models", "ndjson")
    ]
    assert all(any(test.examples for test in doctest.DocTestFinder().find(module)) for module in fiddly)


@pytest.mark.parametrize(
    "make",
    [
        ollama_mcp.App,
        lambda: ollama_mcp.App("http://gpu:11434"),
        lambda: ollama_mcp.App.create("http://gpu:11434"),
        lambda: ollama_mcp.App.create({"OLLAMA_HOST": "http://gpu:11434"}),
    ],
)
def test_who_makes_an_app_in_another_way_is_told_how(make):
    with pytest.raises(TypeError, match=r"App.create\(load\(.*'OLLAMA_HOST'"):
        make()
