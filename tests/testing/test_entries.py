"""The ways in: the package, the shell, pytest."""

import os
import re
import signal
import subprocess
import sys
import textwrap
from dataclasses import fields as fields_of

import ollama
import pytest

import ollama_mcp.testing
from ollama_mcp.testing import FakeOllama


def run(*arguments: str, **options: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-W", "error", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        **options,
    )


def test_the_package_exports_what_it_says():
    assert dir(ollama_mcp.testing) == sorted(ollama_mcp.testing.__all__)
    assert all(getattr(ollama_mcp.testing, name) for name in ollama_mcp.testing.__all__)
    with pytest.raises(AttributeError):
        _ = ollama_mcp.testing.nothing


@pytest.mark.parametrize("name", ["Exchange", "FakeOllama", "Model", "Request", "Rule", "Script", "Wait"])
def test_help_describes_every_field(name):
    described = getattr(ollama_mcp.testing, name)
    fields = vars(FakeOllama()) if described is FakeOllama else {field.name for field in fields_of(described)}
    told = set(re.findall(r"^ +(\w+): ", described.__doc__.partition("Attributes:")[2], re.MULTILINE))
    assert told == {field for field in fields if not field.startswith("_")}


def test_the_plugin_imports_nothing_until_it_is_used():
    code = "import pytest, sys; before = set(sys.modules); import ollama_mcp.testing.plugin; "
    code += "print([name for name in set(sys.modules) - before if 'ollama_mcp' in name])"
    process = run("-c", code)
    out, _ = process.communicate(timeout=30)
    assert "ollama_mcp.testing.fake" not in out
    assert "ollama_mcp.testing.plugin" in out


def test_the_fake_imports_only_the_standard_library():
    code = "import sys, ollama_mcp.testing.fake; print({name.partition('.')[0] for name in sys.modules})"
    out, _ = run("-c", code).communicate(timeout=30)
    assert not {"httpx", "mcp", "pydantic", "anyio"} & eval(out)


@pytest.mark.skipif(os.name == "nt", reason="a Windows process gets no POSIX signal")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, None])
def test_the_shell_serves_until_a_signal_or_the_end_of_stdin(end):
    process = run(
        "-m", "ollama_mcp.testing", "--tokens", "3", "--rate", "1000", "--model", "m", "--until-eof"
    )
    client = ollama.Client(host=process.stdout.readline().strip())
    assert client.chat("m", [{"role": "user", "content": "x"}]).message.content == "word0 word1 word2 "
    client._client.close()
    if end:
        process.send_signal(end)
    _, errors = process.communicate(timeout=10)  # which closes stdin
    assert (process.returncode, errors) == (0, "")


def test_the_end_of_stdin_may_be_there_from_the_start():
    with open(os.devnull) as nothing:
        command = [sys.executable, "-m", "ollama_mcp.testing", "--until-eof"]
        done = subprocess.run(command, stdin=nothing, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("http://127.0.0.1:")


@pytest.mark.gate
def test_the_fixture_serves_tests_of_any_kind(tmp_path):
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent("""
        import urllib.request
        def test_sync(fake_ollama):
            with urllib.request.urlopen(fake_ollama.url) as answer:
                assert answer.read() == b"Ollama is running"
        """)
    )
    process = run("-m", "pytest", "-q", "test_it.py", cwd=tmp_path)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0, out
