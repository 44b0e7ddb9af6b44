"""The command line: what is printed, where, and with which status."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ollama_mcp
from ollama_mcp.cli import _parser, main
from ollama_mcp.cli.installation import Installation
from ollama_mcp.cli.parser import GROUPS, _choices
from ollama_mcp.testing import FakeOllama, Model, Script

from .conftest import COMMAND


@pytest.fixture
def run(start: Any):
    """Run the command to its end; returns status, stdout, stderr."""

    def run(*args: str, **environment: str) -> tuple[int, str, str]:
        child = start(*args, **environment)
        status = child.finish()
        return status, *("".join(line.message for line in pipe.rest()) for pipe in (child.out, child.err))

    return run


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, fake: FakeOllama, tmp_path: Path):
    """`ollama-mcp doctor` in this process; returns its status and what it printed."""

    def doctor(*flags: str, **environment: str) -> tuple[int, str]:
        for name, value in {"OLLAMA_HOST": fake.url, "HOME": str(tmp_path), **environment}.items():
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
    assert capsys.readouterr().out.startswith("Usage: ollama-mcp")


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
    assert any("Did you mean OLLAMA_MCP_CHAT_MODEL?" in line.message for line in child.err.rest())


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
    assert "is not installed: it needs xllamacpp, gguf, numpy" in said.err
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


# --- settings that a client shows nothing of ---------------------------------------------------


@pytest.mark.parametrize(
    ("args", "environment", "named"),
    [
        pytest.param(
            (),
            {"OLLAMA_MCP_MAX_CONTEXT": "many"},
            "OLLAMA_MCP_MAX_CONTEXT: 'many' is not allowed",
            marks=pytest.mark.gate,
        ),
        ((), {"OLLAMA_HOST": "ftp://gpu"}, "OLLAMA_HOST: the address has the scheme 'ftp'"),
        ((), {"OLLAMA_MCP_CONFIG": "no.toml"}, "OLLAMA_MCP_CONFIG: no.toml cannot be read"),
        (("--toolsets", "chta"), {}, "--toolsets: unknown toolset chta"),
        ((), {"OLLAMA_MCP_TOOLS": "chta"}, "OLLAMA_MCP_TOOLS: unknown tool chta"),
        pytest.param(
            ("--log-level", "loud"), {}, "--log-level: 'loud' is not allowed", marks=pytest.mark.gate
        ),
    ],
)
def test_a_client_is_told_which_setting_is_wrong(
    start: Any, args: tuple[str, ...], environment: dict[str, str], named: str
):
    child = start(*(("serve", *args) if args else ()), **environment)
    assert named in child.open("2025-11-25")["instructions"]
    child.request(1, "tools/list")
    assert "ollama_chat" in [tool["name"] for tool in child.result_of(1)["tools"]]
    child.call(2)
    child.call(3, tool="ollama_nothing")
    for call_id in (2, 3):
        result = child.result_of(call_id)
        assert result["isError"]
        assert result["content"][0]["text"].startswith("WRONG_SETTINGS: ")
        assert named in result["content"][0]["text"]
    assert child.finish() == 2
    assert any(line.message.startswith(f"ollama-mcp: {named}") for line in child.err.rest())


@pytest.mark.parametrize(
    "environment",
    [
        {"OLLAMA_MCP_READ_ONLY": "perhaps"},
        {"OLLAMA_MCP_ROOTS": "notes"},
        {"OLLAMA_API_KEY": "a b"},
        {"OLLAMA_MCP_MAX_CONTEXT": "many", "OLLAMA_MCP_HTTP": "127.0.0.1:0"},
        {"OLLAMA_MCP_HTTP": "nowhere:x"},
    ],
)
def test_wrong_security_settings_and_http_do_not_start(start: Any, environment: dict[str, str]):
    child = start(**environment)
    assert child.wait() == 2  # though stdin is open
    assert child.out.rest() == []


# --- commands for people -----------------------------------------------------------------------


def test_an_unknown_command_or_flag_is_answered_with_the_one_that_is_like_it(capsys: pytest.CaptureFixture):
    for argv, meant in [
        (["docter"], "unknown command docter. Did you mean doctor?"),
        (["serve", "--ollma-host=x"], "unknown flag --ollma-host=x. Did you mean --ollama-host?"),
        (["conversations", "lst"], "unknown command lst. Did you mean list?"),
        (["pull"], "the following arguments are required: MODEL"),
    ]:
        with pytest.raises(SystemExit) as ended:
            main(argv)
        assert ended.value.code == 2
        assert meant in capsys.readouterr().err


def test_the_wrong_value_of_a_flag_names_the_flag(capsys: pytest.CaptureFixture):
    assert main(["models", "--ollama-host", "ftp://gpu"]) == 2
    assert capsys.readouterr().err.startswith("ollama-mcp: --ollama-host: the address has the scheme 'ftp'")


def test_help_fits_80_columns_and_lists_every_command_once(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main(["-h"])
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    for names in GROUPS.values():
        for name in names:
            assert said.count(f"\n  {name} ") == 1
    assert {name for names in GROUPS.values() for name in names} == _choices(_parser()).keys()


def test_models_pull_and_status_are_for_people(run: Any, fake: FakeOllama):
    status, out, err = run("pull", "qwen3:0.6b", "--ollama-host", fake.url, OLLAMA_HOST="127.0.0.1:1")
    assert (status, err) == (0, "")
    assert "qwen3:0.6b is installed" in out
    status, out, err = run("models")
    assert (status, err) == (0, "")
    assert out.startswith("name ")
    assert "\nqwen3:0.6b " in out
    status, out, _ = run("models", "--json")
    assert {row["name"] for row in json.loads(out)} >= {"qwen3:0.6b", "llama3.2:3b"}
    status, out, err = run("status")
    assert (status, err) == (0, "")
    assert f"{fake.url}: Ollama 0.33.0 answers." in out
    status, _, err = run("pull", "not-there:1b", OLLAMA_HOST="127.0.0.1:1")
    assert status == 1
    assert err.startswith("ollama-mcp: no Ollama server answers")


@pytest.mark.gate
@pytest.mark.skipif(os.name == "nt", reason="a Windows process gets no POSIX signal")
def test_ctrl_c_in_a_pull_ends_it_without_a_traceback(start: Any, fake: FakeOllama):
    fake.script(Script(hold_after_tokens=0), path="/api/pull")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored here, and so there
    try:
        child = start("pull", "qwen3:0.6b")
    finally:
        signal.signal(signal.SIGINT, before)
    fake.wait_for_sync(lambda fake: fake.in_flight == 1 and fake.asked("/api/pull"), timeout=30)
    child.process.send_signal(signal.SIGINT)
    assert child.wait() == 130
    assert [line.message for line in child.err.rest()] == [
        "Stopped. The same command goes on where it was.\n"
    ]


# --- doctor ------------------------------------------------------------------------------------


def problems(out: str) -> list[str]:
    """Each problem with its remedy, which stands under it; the lines of each joined."""
    blocks = re.findall(r"^✗ .*\n(?:  \S.*\n)*(?:    -> .*\n(?:       .*\n)*)", out, re.MULTILINE)
    return [" ".join(block.split()) for block in blocks]


@pytest.mark.gate
def test_doctor_says_what_works(run: Any, fake: FakeOllama, tmp_path: Path):
    fake.models["llama3.2:3b"].load(4096)
    status, out, err = run("doctor", HOME=str(tmp_path), PYTHONIOENCODING="utf-8")
    assert (status, err) == (0, "")
    assert out.startswith("✓ All is well: the server starts, and a chat works.\n")
    assert f"  ollama-mcp {ollama_mcp.__version__}, Python " in out
    assert str(Path(sys.executable).with_name("ollama-mcp")) in out
    for text in (
        f"  OLLAMA_HOST = {fake.url}",
        f"✓ Ollama 0.33.0 answers at {fake.url} (",
        "✓ chat with llama3.2:3b (loaded), ",
        "loaded (4096), 0 % GPU",
        "nomic-embed-text:latest  274 MB  embedding ",
    ):
        assert text in out, out
    assert max(map(len, out.splitlines())) <= 80
    assert fake.asked("/api/chat")[0].json["options"] == {"num_predict": 2}


def test_doctor_as_json(doctor: Any, fake: FakeOllama):
    status, out = doctor("--json", OLLAMA_MCP_CHATMODEL="x")
    report = json.loads(out)
    assert status == 0
    assert report["chat_works"]
    assert report["server_starts"]
    assert report["verdict"] == "A chat works. One other thing does not."
    (problem,) = [one for one in report["findings"] if one["is_good"] is False]
    assert problem["text"] == "Unknown setting OLLAMA_MCP_CHATMODEL. Did you mean OLLAMA_MCP_CHAT_MODEL?"


def test_doctor_has_colours_on_a_terminal_that_wants_them(fake: FakeOllama, tmp_path: Path):
    for no_color in ("", "1"):
        person, terminal = os.openpty()
        done = subprocess.run(
            [sys.executable, "-m", "ollama_mcp", "doctor"], stdout=terminal, stderr=subprocess.DEVNULL,
            env={"OLLAMA_HOST": fake.url, "HOME": str(tmp_path), "NO_COLOR": no_color, "TERM": "xterm",
                 "PYTHONIOENCODING": "utf-8"},
            timeout=60, check=False,
        )  # fmt: skip
        os.close(terminal)
        said = os.read(person, 10_000).decode()
        os.close(person)
        assert done.returncode == 0
        assert said.startswith("✓" if no_color else "\x1b[32m✓\x1b[0m")


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
    assert "Store\n✗ STORAGE: " in out
    assert "canary" not in out


def test_doctor_shows_the_settings_that_differ_from_their_defaults(doctor: Any):
    status, out = doctor(
        OLLAMA_MCP_THINK="off",
        OLLAMA_MCP_KEEP_ALIVE="0",
        OLLAMA_MCP_CLOUD="yes",
        OLLAMA_MCP_OPTIONS='{"seed": 1}',
        OLLAMA_MCP_IDLE_TIMEOUT="7",
        OLLAMA_MCP_RATE="60/min,ollama_chat=10/h",
        OLLAMA_MCP_REGISTRIES="registry.ollama.ai hf.co",
        OLLAMA_MCP_MAX_CONTEXT="32768",
    )
    assert status == 0
    for text in (
        "THINK = 0",
        "KEEP_ALIVE = 0",
        "CLOUD = 1",
        'OPTIONS = {"seed": 1}',
        "IDLE_TIMEOUT = 7",
        "RATE = 60/min, ollama_chat=10/h",
        "REGISTRIES = registry.ollama.ai,hf.co",
    ):
        assert f"  OLLAMA_MCP_{text}\n" in out, out
    assert "OLLAMA_MCP_MAX_CONTEXT" not in out


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"OLLAMA_MCP_RATE": "chat=10/min"}, "OLLAMA_MCP_RATE: unknown tool chat"),
        ({"OLLAMA_MCP_LOG_FILE": "no/such/folder/server.log"}, "OLLAMA_MCP_LOG_FILE"),
    ],
)
def test_doctor_finds_what_the_server_does_not_start_with(doctor: Any, setting: dict[str, str], named: str):
    status, out = doctor(**setting)
    assert status == 1
    assert out.startswith("✗ The server does not start: ")
    (problem,) = problems(out)
    assert named in problem
    assert "✓ chat with" in out


def test_doctor_says_what_was_made_of_a_strange_address(doctor: Any):
    _, out = doctor(OLLAMA_HOST="http://127.0.0.1")
    assert "behind http:// no port is 80, as in Ollama: http://127.0.0.1:80 is called" in problems(out)[0]


def test_doctor_names_each_problem_with_its_remedy(doctor: Any, fake: FakeOllama):
    fake.models.clear()
    fake.add_model(Model("big:cloud", remote_host="https://ollama.com"))
    status, out = doctor()
    assert status == 1
    assert "big:cloud  cloud" in out
    chat, embedding = problems(out)
    assert "MODEL_NOT_FOUND" in chat
    assert "pull llama3.2`" in chat
    assert "pull nomic-embed-text`" in embedding
    assert not fake.asked("/api/chat")


def test_doctor_names_commands_that_are_there(doctor: Any, fake: FakeOllama, monkeypatch: pytest.MonkeyPatch):
    fake.models.clear()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    _, out = doctor()
    assert f"`{COMMAND} pull nomic-embed-text`" in " ".join(problems(out))


def test_doctor_reports_a_chat_that_fails(doctor: Any, fake: FakeOllama):
    fake.script(Script(status=500, body={"error": "llama runner process has terminated"}), path="/api/chat")
    status, out = doctor()
    assert status == 1
    assert "UPSTREAM" in problems(out)[0]
    assert out.startswith("✗ A chat does not work yet: UPSTREAM: ")


def test_doctor_says_when_another_service_answers(doctor: Any, fake: FakeOllama):
    fake.script(Script(status=200, body="<html>hello</html>"))
    status, out = doctor()
    assert status == 1
    assert "NOT_OLLAMA" in problems(out)[0]


def test_doctor_without_ollama_says_what_to_start(doctor: Any):
    status, out = doctor(OLLAMA_HOST="127.0.0.1:1")
    assert status == 1
    assert "UNREACHABLE" in problems(out)[0]
    assert "ollama serve" in problems(out)[0]
    assert "demo` works without it" in out


def test_doctor_names_a_configured_model_that_cannot_be_used(doctor: Any, fake: FakeOllama):
    status, out = doctor(OLLAMA_MCP_CHAT_MODEL="llama3.2:33b", OLLAMA_MCP_EMBEDDING_MODEL="llama3.2:3b")
    assert status == 1
    answer, chat, embedding = problems(out)
    assert "OLLAMA_MCP_CHAT_MODEL: " in chat
    assert "MODEL_NOT_FOUND" in answer
    assert "pull llama3.2:33b" in chat
    assert "OLLAMA_MCP_EMBEDDING_MODEL: " in embedding


def test_doctor_reports_settings_with_which_nothing_starts(doctor: Any):
    status, out = doctor(OLLAMA_MCP_RETRIES="many")
    assert status == 2
    assert out.startswith("✗ The server does not start: OLLAMA_MCP_RETRIES: 'many' is not allowed;")
    status, out = doctor("--json", OLLAMA_MCP_RETRIES="many")
    assert json.loads(out)["server_starts"] is False


def test_doctor_takes_the_flags_of_serve_behind_it(doctor: Any, fake: FakeOllama):
    status, out = doctor("--http", "0.0.0.0:0")
    assert status == 1
    assert "--token-file" in problems(out)[0]


def test_doctor_names_a_model_that_is_to_be_loaded_and_is_not_installed(doctor: Any, fake: FakeOllama):
    status, out = doctor(OLLAMA_MCP_WARM="llama3.2:3b,qwen3:4b")
    assert status == 0  # a chat works all the same
    (warm,) = problems(out)
    assert "OLLAMA_MCP_WARM: " in warm
    assert "pull qwen3:4b" in warm


def test_doctor_survives_an_ollama_that_dies_after_the_chat(doctor: Any, fake: FakeOllama):
    fake.script(Script(), Script(), Script(), Script(status=500, body={"error": "dead"}), path="/api/tags")
    status, out = doctor()
    assert "Traceback" not in out
    assert status in {0, 1}


def test_doctor_names_the_proxy_before_ollama(doctor: Any):
    _, out = doctor(
        OLLAMA_HOST="gpu.invalid:11434",
        HTTP_PROXY="http://canary:canary@127.0.0.1:1",
        no_proxy="",
        NO_PROXY="",
    )
    assert "HTTP_PROXY: gpu.invalid is reached through 127.0.0.1:1" in out
    assert "canary" not in out


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (
            {"command": str(COMMAND), "env": {"OLLAMA_HOST": "OURS"}},
            "✓ Cursor: `local` in ~/.cursor/mcp.json",
        ),
        (
            {"command": str(COMMAND), "env": {"OLLAMA_HOST": "127.0.0.1:1"}},
            "✗ Cursor: `local` in ~/.cursor/mcp.json, with another Ollama: http://127.0.0.1:1: UNREACHABLE",
        ),
        (
            {"command": str(COMMAND), "env": {"OLLAMA_HOST": "OURS", "OLLAMA_MCP_CHAT_MODEL": "qwen3:4b"}},
            '✗ Cursor: `local` in ~/.cursor/mcp.json: OLLAMA_MCP_CHAT_MODEL: model "qwen3:4b" is',
        ),
        ({"command": "/gone/ollama-mcp"}, "✗ Cursor: `local` in ~/.cursor/mcp.json: there is no program"),
        (
            {"command": str(COMMAND), "env": {"OLLAMA_MCP_THINK": "hard"}},
            "✗ Cursor: `local` in ~/.cursor/mcp.json: OLLAMA_MCP_THINK: think 'hard' is not a level",
        ),
        (
            {"command": str(COMMAND), "env": {"OLLAMA_MCP_CHATMODEL": "x"}},
            "✗ Cursor: `local` in ~/.cursor/mcp.json: Unknown setting OLLAMA_MCP_CHATMODEL.",
        ),
        (
            {"url": "http://127.0.0.1:8000/mcp", "comment": "ollama-mcp"},
            "`local` in ~/.cursor/mcp.json is an",
        ),
        (None, "  without ollama-mcp: cursor"),
        ("{", "✗ Cursor: ~/.cursor/mcp.json: it cannot be read"),
    ],
)
def test_doctor_looks_into_the_settings_of_clients(
    doctor: Any, fake: FakeOllama, tmp_path: Path, entry: Any, told: str
):
    (tmp_path / ".cursor").mkdir()
    servers = {"other": {"command": "x"}} | ({"local": entry} if entry else {})
    text = entry if isinstance(entry, str) else json.dumps({"mcpServers": servers}).replace("OURS", fake.url)
    (tmp_path / ".cursor" / "mcp.json").write_text(text)
    _, out = doctor()
    assert told in " ".join(out.split("Clients\n")[1].split()) or told in out, out


@pytest.mark.parametrize(
    ("mark", "content", "command"),
    [
        ("pipx_metadata.json", "{}", "pipx install --force "),
        ("uv-receipt.toml", "", "uv tool install --force "),
        ("pyvenv.cfg", "home = /usr\nuv = 0.9\n", "uv pip install --python "),
        ("pyvenv.cfg", "home = /usr\n", " -m pip install "),
    ],
)
def test_an_extra_is_installed_by_what_installed_the_program(
    tmp_path: Path, mark: str, content: str, command: str
):
    (tmp_path / mark).write_text(content)
    told = Installation.find(tmp_path).install("embedded")
    assert command in told
    assert "ollama-mcp[embedded]" in told


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
