"""The command line: what is printed, where, and with which status."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ollama_mcp
from ollama_mcp.cli import main
from ollama_mcp.testing import FakeOllama, Model, Script


@pytest.fixture
def run(start: Any):
    """Run the command to its end; returns status, stdout, stderr."""

    def run(*args: str, **environment: str) -> tuple[int, str, str]:
        child = start(*args, **environment)
        status = child.finish()
        return status, *("".join(line.message for line in pipe.rest()) for pipe in (child.out, child.err))

    return run


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, fake: FakeOllama):
    """`ollama-mcp doctor` in this process; returns its status and what it printed."""

    def doctor(*flags: str, **environment: str) -> tuple[int, str]:
        for name, value in {"OLLAMA_HOST": fake.url, **environment}.items():
            monkeypatch.setenv(name, value)
        status = main(["doctor", *flags])
        return status, capsys.readouterr().out

    return doctor


# --- usage and settings ------------------------------------------------------------------------


def test_it_says_its_version_and_how_to_use_it(run: Any, capsys: pytest.CaptureFixture):
    assert run("--version") == (0, f"ollama-mcp {ollama_mcp.__version__}\n", "")
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    for command in ("serve", "doctor", "demo", "embedded"):
        assert f"\n    {command} " in said


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as ended:
        main(["docter"])
    assert ended.value.code == 2
    assert "docter" in capsys.readouterr().err


def test_every_bad_setting_is_named_on_stderr_before_anything_is_served(run: Any, tmp_path: Path):
    (tmp_path / "config.toml").write_text('progres = "text"\n[models.a]\nthink = "hard"\nspeed = 1\n')
    status, out, err = run(
        "serve",
        OLLAMA_HOST="ftp://gpu",
        OLLAMA_MCP_MAX_CONTEXT="many",
        OLLAMA_MCP_PROGRESS="loud",
        OLLAMA_MCP_OPTIONS='{"temperatur": 1}',
        OLLAMA_MCP_HEADERS="canary",
        OLLAMA_MCP_CONFIG="config.toml",
    )
    assert (status, out) == (2, "")
    lines = err.splitlines()
    assert all(line.startswith("ollama-mcp: ") for line in lines)
    for named, allowed in [
        ("OLLAMA_HOST", "http"), ("OLLAMA_MCP_MAX_CONTEXT", "1024"), ("OLLAMA_MCP_PROGRESS", "status, text"),
        ("OLLAMA_MCP_OPTIONS", "temperature"), ("OLLAMA_MCP_HEADERS", "JSON object"),
        ("progres in", "progress"), ("think", "high"), ("speed", "keep_alive"),
    ]:  # fmt: skip
        assert any(named in line and allowed in line for line in lines), (named, err)
    assert "canary" not in err


def test_a_setting_with_a_misspelt_name_is_a_warning(start: Any):
    child = start(OLLAMA_MCP_CHAT_MODLE="x")
    child.open("2025-11-25")
    assert child.finish() == 0
    assert any("OLLAMA_MCP_CHAT_MODEL is meant" in line.message for line in child.err.rest())


def test_a_strange_address_is_a_warning_that_says_what_was_made_of_it(start: Any, fake: FakeOllama):
    child = start(OLLAMA_HOST=f"{fake.url}//", OLLAMA_MCP_CONNECT_TIMEOUT="1")
    child.open("2025-11-25")
    assert child.finish() == 0
    assert not [line for line in child.err.rest() if "OLLAMA_HOST" in line.message]
    child = start(OLLAMA_HOST="127.0.0.1:abc")
    child.open("2025-11-25")
    assert child.finish() == 0
    assert any("http://127.0.0.1:11434 is called" in line.message for line in child.err.rest())


def test_what_is_set_for_http_is_said_to_mean_nothing_on_stdio(start: Any):
    child = start(OLLAMA_MCP_ALLOW_HOSTS="gpu.example.com")
    assert child.finish() == 0
    assert any("mean nothing without --http" in line.message for line in child.err.rest())


def test_in_a_terminal_it_says_that_it_waits_for_a_client(start: Any):
    person, terminal = os.openpty()
    os.write(person, b"\x04")  # Ctrl-D
    with os.fdopen(person, "rb", 0):
        found = subprocess.run(
            [sys.executable, "-m", "ollama_mcp"], stdin=terminal, capture_output=True, timeout=20, check=True
        )
        os.close(terminal)
    assert found.stdout == b""
    assert found.stderr.decode().splitlines() == [
        "ollama-mcp: waiting for an MCP client on stdin; to see what works, run `ollama-mcp doctor`"
    ]


def test_the_demo_without_its_extra_says_just_that(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
):
    monkeypatch.setattr("ollama_mcp.cli.embedded.find_spec", lambda name: None)
    monkeypatch.setenv("OLLAMA_MCP_CACHE", str(tmp_path))
    assert main(["demo", "--embedded"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "needs xllamacpp, gguf, numpy" in said.err
    assert "ollama-mcp[embedded]" in said.err


# --- the log -----------------------------------------------------------------------------------


def test_the_log_goes_to_stderr_and_to_a_file(start: Any, fake: FakeOllama, tmp_path: Path):
    child = start(OLLAMA_MCP_LOG_LEVEL="DEBUG", OLLAMA_MCP_LOG_FILE="server.log")
    child.open("2025-11-25")
    child.call(1, prompt="a prompt to be seen at DEBUG at most")
    child.result_of(1)
    assert child.finish() == 0
    err = "".join(line.message for line in child.err.rest())
    assert " DEBUG " in err
    assert err.splitlines() == (tmp_path / "server.log").read_text().splitlines()


def test_prompts_are_not_logged_above_debug(start: Any):
    child = start(OLLAMA_MCP_LOG_LEVEL="INFO")
    child.open("2025-11-25")
    child.call(1, prompt="canary")
    child.call(2, promt="canary")
    child.result_of(1)
    child.result_of(2)
    assert child.finish() == 0
    assert not [line for line in child.err.rest() if "canary" in line.message]


def test_a_log_file_that_cannot_be_opened_is_a_bad_setting(run: Any):
    status, out, err = run("serve", OLLAMA_MCP_LOG_FILE="no/such/folder/server.log")
    assert (status, out) == (2, "")
    assert "OLLAMA_MCP_LOG_FILE" in err


def test_a_rate_for_a_tool_that_does_not_exist_is_a_bad_setting(run: Any):
    status, out, err = run("serve", OLLAMA_MCP_RATE="ollama_chta=1/s")
    assert (status, out) == (2, "")
    assert "ollama_chta" in err
    assert "Traceback" not in err


def test_no_secret_is_ever_seen(start: Any, fake: FakeOllama, tmp_path: Path):
    host = fake.url.replace("//", "//canary-user:canary-password@")
    child = start(
        OLLAMA_HOST=host,
        OLLAMA_API_KEY="canary-key",
        OLLAMA_MCP_API_KEY_HOST="127.0.0.1",
        OLLAMA_MCP_HEADERS='{"X-Secret": "canary-header"}',
        OLLAMA_MCP_LOG_LEVEL="DEBUG",
        OLLAMA_MCP_LOG_FILE="server.log",
    )
    child.open("2025-11-25")
    child.call(1)
    child.result_of(1)
    assert fake.asked("/api/chat")[0].headers["x-secret"] == "canary-header"
    faults = [
        Script(status=401),
        Script(status=500, body={"error": "x"}),
        Script(status=302),
        Script(status=200, body="<html>"),
        Script(raw=b"SSH-2.0\r\n"),
        Script(tokens=["a"], cut_after_tokens=0, how="reset"),
    ]
    for call_id, script in enumerate(faults, start=2):
        fake.script(script, path="/api/chat", times=1)
        child.call(call_id)
        assert child.result_of(call_id)["isError"]
    child.call(9, model="canary-not")
    fake.drop_connections()
    child.result_of(9)
    assert child.finish() == 0
    seen = [str(line.message) for line in [*child.out.rest(), *child.err.rest()]]
    seen.append((tmp_path / "server.log").read_text())
    for secret in ("canary-user", "canary-password", "canary-key", "canary-header"):
        assert not [line for line in seen if secret in line], secret


# --- doctor ------------------------------------------------------------------------------------


def test_doctor_says_what_works(run: Any, fake: FakeOllama):
    fake.models["llama3.2:3b"].load(4096)
    status, out, err = run("doctor")
    assert (status, err) == (0, "")
    for text in (
        f"OLLAMA_HOST = {fake.url}",
        f"Ollama 0.33.0 answers at {fake.url}",
        "model llama3.2:3b: completion, tools, up to 131072 tokens; loaded with a window of 4096, 0 % on",
        "model nomic-embed-text:latest: embedding",
        "chat with llama3.2:3b (loaded)",
        "tokens/s, window 4096",
        "A chat works.",
    ):
        assert text in out, out
    assert fake.asked("/api/chat")[0].json["options"] == {"num_predict": 2}


def test_doctor_masks_secrets(doctor: Any, fake: FakeOllama):
    host = fake.url.replace("//", "//canary-user:canary-password@")
    headers = '{"X-Secret": "canary-header"}'
    store = "postgresql://canary-user:canary-password@canary/notes"
    status, out = doctor(
        OLLAMA_HOST=host, OLLAMA_API_KEY="canary-key", OLLAMA_MCP_HEADERS=headers, OLLAMA_MCP_STORE=store
    )
    assert status == 0
    assert "OLLAMA_API_KEY = ***" in out
    assert "X-Secret: ***" in out
    assert "OLLAMA_MCP_STORE = PostgreSQL" in out
    assert "canary" not in out


def test_doctor_shows_every_setting_in_force(doctor: Any):
    status, out = doctor(
        OLLAMA_MCP_THINK="off",
        OLLAMA_MCP_KEEP_ALIVE="0",
        OLLAMA_MCP_CLOUD="yes",
        OLLAMA_MCP_OPTIONS='{"seed": 1}',
        OLLAMA_MCP_IDLE_TIMEOUT="7",
        OLLAMA_MCP_RATE="60/min,ollama_chat=10/h",
        OLLAMA_MCP_REGISTRIES="registry.ollama.ai hf.co",
        OLLAMA_MCP_MAX_CONTEKST="1",
    )
    assert status == 0
    for text in (
        "THINK = false",
        "KEEP_ALIVE = 0",
        "CLOUD = true",
        'OPTIONS = {"seed": 1}',
        "IDLE_TIMEOUT = 7",
        "RATE = 60/min, ollama_chat=10/h",
        "REGISTRIES = registry.ollama.ai,hf.co",
    ):
        assert f"OLLAMA_MCP_{text}" in out
    assert "! OLLAMA_MCP_MAX_CONTEKST is no setting" in out


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"OLLAMA_MCP_RATE": "chat=10/min"}, "OLLAMA_MCP_RATE: chat"),
        ({"OLLAMA_MCP_LOG_FILE": "no/such/folder/server.log"}, "OLLAMA_MCP_LOG_FILE"),
    ],
)
def test_doctor_finds_what_the_server_does_not_start_with(doctor: Any, setting: dict[str, str], named: str):
    status, out = doctor(**setting)
    assert status == 1
    (problem,) = problems(out)
    assert named in problem
    assert "A chat works." in out
    assert "The server does not start" in out


def test_doctor_says_what_was_made_of_a_strange_address(doctor: Any):
    _, out = doctor(OLLAMA_HOST="http://127.0.0.1:99999")
    assert "! OLLAMA_HOST: its port is no number from 1 to 65535; http://127.0.0.1:80 is called" in out


def problems(out: str) -> list[str]:
    """Each problem with its remedy, which stands under it."""
    lines = out.splitlines()
    found = [place for place, line in enumerate(lines) if line.startswith("!")]
    assert all(lines[place + 1].startswith("    -> ") for place in found), out
    return [lines[place] + lines[place + 1] for place in found]


def test_doctor_names_each_problem_with_its_remedy(doctor: Any, fake: FakeOllama):
    fake.models.clear()
    fake.add_model(Model("big:cloud", remote_host="https://ollama.com"))
    status, out = doctor()
    assert status == 1
    assert "model big:cloud in the cloud" in out
    chat, embedding = problems(out)
    assert "MODEL_NOT_FOUND" in chat
    assert "ollama pull llama3.2" in chat
    assert "ollama pull nomic-embed-text" in embedding
    assert not fake.asked("/api/chat")


def test_doctor_without_any_model_says_what_to_install(doctor: Any, fake: FakeOllama):
    fake.models.clear()
    status, out = doctor()
    assert status == 1
    assert "ollama pull" in problems(out)[0]


def test_doctor_reports_a_chat_that_fails(doctor: Any, fake: FakeOllama):
    fake.script(Script(status=500, body={"error": "llama runner process has terminated"}), path="/api/chat")
    status, out = doctor()
    assert status == 1
    assert "UPSTREAM" in problems(out)[0]
    assert "A chat does not work yet" in out


def test_doctor_says_when_another_service_answers(doctor: Any, fake: FakeOllama):
    fake.script(Script(status=200, body="<html>hello</html>"))
    status, out = doctor()
    assert status == 1
    assert "NOT_OLLAMA" in problems(out)[0]


def test_doctor_without_ollama_says_what_to_start(run: Any):
    status, out, err = run("doctor", OLLAMA_HOST="127.0.0.1:1")
    assert (status, err) == (1, "")
    assert "UNREACHABLE" in problems(out)[0]
    assert "ollama serve" in problems(out)[0]
    assert "ollama-mcp demo" in out


def test_doctor_names_a_configured_model_that_cannot_be_used(doctor: Any, fake: FakeOllama):
    status, out = doctor(OLLAMA_MCP_CHAT_MODEL="llama3.2:33b", OLLAMA_MCP_EMBEDDING_MODEL="llama3.2:3b")
    assert status == 1
    chat, embedding, answer = problems(out)
    assert "OLLAMA_MCP_CHAT_MODEL: " in chat
    assert "MODEL_NOT_FOUND" in answer
    assert "ollama pull llama3.2:33b" in chat
    assert "OLLAMA_MCP_EMBEDDING_MODEL: " in embedding


def test_doctor_takes_the_flags_of_serve_behind_it(doctor: Any, fake: FakeOllama):
    status, out = doctor("--http", "0.0.0.0:0")
    assert status == 1
    assert "--token-file" in problems(out)[0]


def test_doctor_names_a_model_that_is_to_be_loaded_and_is_not_installed(doctor: Any, fake: FakeOllama):
    status, out = doctor(OLLAMA_MCP_WARM="llama3.2:3b,qwen3:4b")
    assert status == 0  # a chat works all the same
    (warm,) = problems(out)
    assert "OLLAMA_MCP_WARM: " in warm
    assert "ollama pull qwen3:4b" in warm


def test_doctor_survives_an_ollama_that_dies_after_the_chat(doctor: Any, fake: FakeOllama):
    fake.script(Script(), Script(), Script(), Script(status=500, body={"error": "dead"}), path="/api/tags")
    status, out = doctor()
    assert "Traceback" not in out
    assert status in {0, 1}


@pytest.mark.gate
@pytest.mark.skipif(os.name == "nt", reason="a Windows process gets no POSIX signal")
def test_ctrl_c_while_it_is_still_imported_ends_it_without_a_word():
    code = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored here, and so in children
class Interrupts:
    def find_spec(self, name, *_):
        if name == "ollama_mcp.cli":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupts())
from ollama_mcp.__main__ import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (-2, "", "")
