"""Every setting: read from the environment or a file, or refused by its name with what is allowed."""

import dataclasses
import json
import os
from pathlib import Path
from unittest import mock

import hypothesis
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ollama_mcp.app import App
from ollama_mcp.errors import OllamaError
from ollama_mcp.jobs.rate_limit import Rate
from ollama_mcp.ollama.hosts import parse_host
from ollama_mcp.settings import (
    FIELDS,
    Backend,
    ModelDefaults,
    Settings,
    SettingsError,
    Timeouts,
    load,
    with_default_store,
)
from ollama_mcp.settings.database_url import DatabaseUrl
from ollama_mcp.settings.limits import Limits
from ollama_mcp.settings.readers import read_path, read_path_text, read_text

SECRET = "hunter2-secret"
VARIABLES = [field.variable for field in FIELDS]
# What each says when it is wrong: a wrong value, and words of what is allowed.
WRONG = {
    "OLLAMA_MCP_STORE": ("notes", "whole path of a folder"),
    "OLLAMA_MCP_CONVERSATION_DAYS": ("0", "at least 1"),
    "OLLAMA_MCP_SUMMARISE": ("maybe", "1 or 0"),
    "OLLAMA_MCP_SHARED_COLLECTIONS": ("a/b", "names of collections"),
    "OLLAMA_MCP_AGENT_ALLOW": ("write file;", "patterns of tools"),
    "OLLAMA_HOST": ("ftp://gpu", "http"),
    "OLLAMA_API_KEY": ("a b\n", "printable"),
    "OLLAMA_MCP_API_KEY_HOST": ("a b", "host name"),
    "OLLAMA_MCP_HEADERS": ("[1]", "JSON object"),
    "OLLAMA_MCP_CA_FILE": ("/no/such/file", "file that exists"),
    "OLLAMA_MCP_INSECURE_TLS": ("maybe", "1 or 0"),
    "OLLAMA_MCP_LINK_LOCAL": ("maybe", "1 or 0"),
    "OLLAMA_MCP_CHAT_MODEL": ("a b", "model name"),
    "OLLAMA_MCP_EMBEDDING_MODEL": ("..", "model name"),
    "OLLAMA_MCP_WARM": ("llama3.2, a:b:c", "model name"),
    "OLLAMA_MCP_OPTIONS": ('{"temprature": 1}', "temperature"),
    "OLLAMA_MCP_KEEP_ALIVE": ("soon", "seconds"),
    "OLLAMA_MCP_THINK": ("lots", "medium"),
    "OLLAMA_MCP_MAX_CONTEXT": ("1", "1024"),
    "OLLAMA_MCP_MAX_KEEP_ALIVE": ("null", "forever"),
    "OLLAMA_MCP_MAX_LINE": ("16 megs", "16 MiB"),
    "OLLAMA_MCP_MAX_PROMPT": ("0", "above 0"),
    "OLLAMA_MCP_MAX_IMAGES_SIZE": ("²", "512 KiB"),
    "OLLAMA_MCP_MAX_TEXTS": ("many", "at least 1"),
    "OLLAMA_MCP_MAX_FILES": ("0", "at least 1"),
    "OLLAMA_MCP_MAX_FILE_SIZE": ("1 MB/s", "16 MiB"),
    "OLLAMA_MCP_CLOUD": ("perhaps", "1 or 0"),
    "OLLAMA_MCP_REGISTRIES": ("https://hf.co", "host names"),
    "OLLAMA_MCP_MAX_PULL_GB": ("-1", "0 or more"),
    "OLLAMA_MCP_ROOTS": ("notes", "folder that exists"),
    "OLLAMA_MCP_OUTPUT": ("/no/such/folder", "folder that exists"),
    "OLLAMA_MCP_UPSTREAM": ("/no/such/file", "file that exists"),
    "OLLAMA_MCP_PROGRESS": ("loud", "status, text"),
    "OLLAMA_MCP_TOOLSETS": ("chat;models", "commas between"),
    "OLLAMA_MCP_TOOLS": ("1", "commas between"),
    "OLLAMA_MCP_READ_ONLY": ("perhaps", "1 or 0"),
    "OLLAMA_MCP_SOFT_DEADLINE": ("-1", "above 0"),
    "OLLAMA_MCP_PAGE": ("10", "at least 1000"),
    "OLLAMA_MCP_UNCLAIMED_TIMEOUT": ("0", "above 0"),
    "OLLAMA_MCP_TRANSFER_TIMEOUT": ("1h", "above 0"),
    "OLLAMA_MCP_PARALLEL": ("0", "at least 1"),
    "OLLAMA_MCP_QUEUE": ("-1", "at least 0"),
    "OLLAMA_MCP_CONNECT_TIMEOUT": ("0", "above 0"),
    "OLLAMA_MCP_FIRST_BYTE_TIMEOUT": ("inf", "above 0"),
    "OLLAMA_MCP_IDLE_TIMEOUT": ("nan", "above 0"),
    "OLLAMA_MCP_RETRIES": ("-1", "at least 0"),
    "OLLAMA_MCP_RATE": ("60", "60/min"),
    "OLLAMA_MCP_BURST": ("0", "at least 1"),
    "OLLAMA_MCP_HTTP": ("http://127.0.0.1:8000", "0.0.0.0:8000"),
    "OLLAMA_MCP_PROTOCOL": ("modern", "auto, legacy"),
    "OLLAMA_MCP_SSE": ("perhaps", "1 or 0"),
    "OLLAMA_MCP_TOKEN": ("a" * 31, "at least 32"),
    "OLLAMA_MCP_TOKEN_FILE": ("/no/such/file", "file that exists"),
    "OLLAMA_MCP_VERIFIER": ("my.auth", "my_package.auth:make_verifier"),
    "OLLAMA_MCP_INSECURE_NO_AUTH": ("perhaps", "1 or 0"),
    "OLLAMA_MCP_ALLOW_HOSTS": ("https://gpu", "gpu-box:9000"),
    "OLLAMA_MCP_ALLOW_ORIGINS": ("app.example", "https://app.example"),
    "OLLAMA_MCP_HTTP_CONNECTIONS": ("1", "at least 2"),
    "OLLAMA_MCP_HTTP_GRACE": ("-1", "from 0"),
    "OLLAMA_MCP_LOG_LEVEL": ("CHATTY", "DEBUG, INFO"),
    "OLLAMA_MCP_EMBEDDED_MODEL": ("/no/such/file", "file that exists"),
    "OLLAMA_MCP_CONFIG": ("/no/such/file", "cannot be read"),
}


def problems(environment: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        load(environment)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return str(caught.value)


@pytest.fixture
def config(tmp_path):
    """Writes a TOML file, and returns the environment that names it."""

    def write(text: str, **environment: str) -> dict[str, str]:
        file = tmp_path / "config.toml"
        file.write_text(text, encoding="utf-8")
        return {"OLLAMA_MCP_CONFIG": str(file), **environment}

    return write


# --- defaults ----------------------------------------------------------------------------------


def test_nobody_needs_to_set_anything():
    assert dataclasses.replace(load({}), cache=Settings().cache) == Settings()


def test_blank_variables_are_those_of_a_user_who_sets_nothing():
    for blank in ("", "  "):
        found = load(dict.fromkeys(VARIABLES, blank))
        assert dataclasses.replace(found, cache=Settings().cache) == Settings()


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.variable)
def test_the_default_that_is_told_is_the_one_in_force(field):
    if field.variable in {"OLLAMA_MCP_CACHE", "OLLAMA_MCP_CONFIG"}:
        return
    told = load({field.variable: field.default})
    assert dataclasses.replace(told, cache=Settings().cache) == Settings()


def test_every_setting_is_told_once_with_a_sentence():
    assert len(set(VARIABLES)) == len(VARIABLES)
    assert all(field.description.endswith(".") for field in FIELDS)
    assert all(v.startswith("OLLAMA_MCP_") or v in {"OLLAMA_HOST", "OLLAMA_API_KEY"} for v in VARIABLES)
    secret = {"OLLAMA_API_KEY", "OLLAMA_MCP_HEADERS", "OLLAMA_MCP_TOKEN", "OLLAMA_MCP_TOKEN_FILE"}
    assert {f.variable for f in FIELDS if f.secret} == secret


def test_a_soft_deadline_of_zero_is_never():
    assert load({"OLLAMA_MCP_SOFT_DEADLINE": "0"}).soft_deadline == 0
    assert load({}).soft_deadline is None


def test_the_clocks_are_those_of_the_contract():
    assert Timeouts() == Timeouts(connect=5, first_byte=300, idle=60, transfer=600)


def test_the_limits_are_those_of_the_contract():
    mib = 2**20
    assert (Limits().line, Limits().prompt, Limits().messages_size) == (16 * mib, mib, 4 * mib)
    assert (Limits().messages, Limits().images, Limits().images_size) == (1000, 8, 20 * mib)
    assert (Limits().megapixels, Limits().keep_alive) == (50, "1h")


def test_the_process_environment_is_read_by_default(monkeypatch):
    for name in os.environ:
        if name.startswith("OLLAMA"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OLLAMA_HOST", "gpu:5")
    assert load().backend.host.url == "http://gpu:5"


# --- values ------------------------------------------------------------------------------------


def test_every_setting_reaches_its_place(tmp_path):
    pem = tmp_path / "ca.pem"
    pem.write_text("x")
    found = load(
        {
            "OLLAMA_HOST": "https://me:pw@gpu/x",
            "OLLAMA_API_KEY": SECRET,
            "OLLAMA_MCP_API_KEY_HOST": "GPU",
            "OLLAMA_MCP_HEADERS": '{"X-Team": "a"}',
            "OLLAMA_MCP_CA_FILE": str(pem),
            "OLLAMA_MCP_CHAT_MODEL": "qwen3:8b",
            "OLLAMA_MCP_EMBEDDING_MODEL": "nomic-embed-text",
            "OLLAMA_MCP_WARM": "qwen3:8b, nomic-embed-text,qwen3:8b",
            "OLLAMA_MCP_OPTIONS": '{"max_tokens": 5}',
            "OLLAMA_MCP_SYSTEM": "Be brief.",
            "OLLAMA_MCP_KEEP_ALIVE": "2d",
            "OLLAMA_MCP_THINK": "false",
            "OLLAMA_MCP_MAX_CONTEXT": "8192",
            "OLLAMA_MCP_MAX_KEEP_ALIVE": "forever",
            "OLLAMA_MCP_MAX_LINE": "1g",
            "OLLAMA_MCP_MAX_PROMPT": "5",
            "OLLAMA_MCP_MAX_IMAGES_SIZE": "9 KiB",
            "OLLAMA_MCP_MAX_TEXTS": "11",
            "OLLAMA_MCP_MAX_FILES": "16",
            "OLLAMA_MCP_MAX_FILE_SIZE": "17",
            "OLLAMA_MCP_CLOUD": "yes",
            "OLLAMA_MCP_REGISTRIES": "registry.ollama.ai, HF.co",
            "OLLAMA_MCP_MAX_PULL_GB": "4.5",
            "OLLAMA_MCP_ROOTS": os.pathsep.join([str(tmp_path), "", str(tmp_path.parent)]),
            "OLLAMA_MCP_OUTPUT": str(tmp_path),
            "OLLAMA_MCP_STORE": str(tmp_path / "store"),
            "OLLAMA_MCP_SHARED_COLLECTIONS": "manual, faq",
            "OLLAMA_MCP_PROGRESS": "TEXT",
            "OLLAMA_MCP_SOFT_DEADLINE": "2.5",
            "OLLAMA_MCP_PAGE": "5000",
            "OLLAMA_MCP_UNCLAIMED_TIMEOUT": "60",
            "OLLAMA_MCP_PARALLEL": "2",
            "OLLAMA_MCP_QUEUE": "0",
            "OLLAMA_MCP_CONNECT_TIMEOUT": "1.5",
            "OLLAMA_MCP_FIRST_BYTE_TIMEOUT": "2",
            "OLLAMA_MCP_IDLE_TIMEOUT": "3",
            "OLLAMA_MCP_TRANSFER_TIMEOUT": "4",
            "OLLAMA_MCP_RETRIES": "1",
            "OLLAMA_MCP_RATE": "60/min, ollama_chat=1/s",
            "OLLAMA_MCP_BURST": "3",
            "OLLAMA_MCP_LOG_LEVEL": "debug",
            "OLLAMA_MCP_LOG_FILE": "x.log",
            "OLLAMA_MCP_CACHE": str(tmp_path),
        }
    )
    assert found.backend == Backend(
        host=parse_host("https://me:pw@gpu/x"),
        api_key=SECRET,
        api_key_host="gpu",
        headers={"X-Team": "a"},
        ca_file=str(pem),
        timeouts=Timeouts(1.5, 2, 3, 4),
        retries=1,
    )
    assert (found.chat_model, found.embedding_model) == ("qwen3:8b", "nomic-embed-text")
    assert found.warm == ("qwen3:8b", "nomic-embed-text")
    assert found.defaults == ModelDefaults({"num_predict": 5}, "Be brief.", "48h", think=False)
    assert (found.rate, found.burst) == ({"": Rate(60, 60.0), "ollama_chat": Rate(1, 1.0)}, 3)
    assert (found.max_context, found.cloud, found.progress, found.log_level) == (8192, True, "text", "DEBUG")
    assert (found.soft_deadline, found.page, found.unclaimed_timeout) == (2.5, 5000, 60)
    assert (found.parallel, found.queue) == (2, 0)
    assert found.limits == Limits(
        line=2**30, prompt=5, images_size=9 * 2**10, texts=11, files=16, file_size=17, keep_alive=-1
    )
    assert (found.registries, found.max_pull_gb) == (("registry.ollama.ai", "hf.co"), 4.5)
    assert (found.log_file, found.cache) == ("x.log", tmp_path)
    assert (found.roots, found.output) == ((tmp_path, tmp_path.parent), tmp_path)
    assert (found.store, found.shared_collections) == (str(tmp_path / "store"), ("manual", "faq"))


@pytest.mark.parametrize(("variable", "wrong"), WRONG.items())
def test_a_wrong_value_is_named_with_what_is_allowed(variable, wrong):
    value, allowed = wrong
    text = problems({variable: value})
    assert text.startswith(variable)
    assert allowed in text
    assert len(text) < 500


def test_every_setting_that_can_be_wrong_is_tested_here():
    any_text = {field.variable for field in FIELDS if field.read in {read_text, read_path, read_path_text}}
    assert set(VARIABLES) - set(WRONG) == any_text - {"OLLAMA_MCP_CONFIG"}


def test_all_that_is_wrong_is_named_at_once():
    text = problems({variable: value for variable, (value, _) in WRONG.items()})
    assert all(variable in text for variable in WRONG)


@pytest.mark.parametrize("value", ["GPU", "https://gpu", "gpu:11434", " gpu "])
def test_the_host_that_may_have_the_key_is_known_by_its_name_alone(value):
    assert load({"OLLAMA_MCP_API_KEY_HOST": value}).backend.api_key_host == "gpu"


@pytest.mark.parametrize(
    "headers",
    ['{"X": "é"}', '{"X": "a\\nb"}', '{"X\\n": "a"}', '{"": "a"}', '{"é": "a"}', '{"X Y": "a"}', "[]", "x"],
)
def test_headers_that_http_does_not_allow_are_refused_without_their_value(headers):
    text = problems({"OLLAMA_MCP_HEADERS": headers})
    assert "é" not in text


# --- secrets -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "environment",
    [
        {"OLLAMA_API_KEY": SECRET + "\n" + SECRET},
        {"OLLAMA_API_KEY": SECRET + "é"},
        {"OLLAMA_MCP_HEADERS": SECRET},
        {"OLLAMA_MCP_HEADERS": json.dumps({"X": SECRET + "\n"})},
        {"OLLAMA_HOST": f"ftp://me:{SECRET}@gpu"},
        {"OLLAMA_HOST": f"me:{SECRET}@gpu://"},
        {"OLLAMA_HOST": f"http://me:{SECRET}@169.254.169.254"},
        {"OLLAMA_HOST": f"http://me:{SECRET}@a b"},
        {"OLLAMA_HOST": f"http:/me:{SECRET}@gpu"},
        {"OLLAMA_HOST": f"http://me:x/{SECRET}@gpu"},
        {"OLLAMA_MCP_API_KEY_HOST": f"ftp://me:{SECRET}@gpu"},
        {"OLLAMA_MCP_STORE": f"mysql://me:{SECRET}@db/notes"},
        {"OLLAMA_MCP_STORE": f"postgresql://me:{SECRET} @db/notes"},
        {"OLLAMA_MCP_STORE": f"postgresql:me:{SECRET}@db/notes"},
        {"OLLAMA_MCP_STORE": f"host=db user=me password={SECRET} dbname=notes"},
    ],
)
def test_a_secret_is_in_no_message(environment):
    assert SECRET not in problems(environment)


def test_a_secret_is_in_no_message_about_the_file(config):
    assert SECRET not in problems(
        config(f'api_key = ["{SECRET}"]\nheaders = "{SECRET}"\nhost = ["me:{SECRET}@gpu"]')
    )


def test_settings_can_be_shown():
    found = load(
        {
            "OLLAMA_HOST": f"https://me:{SECRET}@gpu",
            "OLLAMA_API_KEY": SECRET,
            "OLLAMA_MCP_HEADERS": json.dumps({"X": SECRET}),
            "OLLAMA_MCP_STORE": f"postgresql://me:{SECRET}@db/notes",
        }
    )
    for shown in (
        str(found.store),
        repr(found),
        str(found),
        repr(found.backend),
        repr(found.backend.host),
        str(found.backend.host),
    ):
        assert SECRET not in shown


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_a_store_may_be_a_database(scheme):
    url = f"{scheme}://me:{SECRET}@db,db2:5433/notes?sslmode=require"
    found = load({"OLLAMA_MCP_STORE": url}).store
    assert isinstance(found, DatabaseUrl)
    assert found.secret == url


# --- the file ----------------------------------------------------------------------------------


def test_the_environment_wins_over_the_file(config):
    text = 'host = "a"\nchat_model = "from-file"\nmax_context = 4096\ncloud = true\n'
    text += "idle_timeout = 5\noptions = {seed = 1}\n"
    found = load(config(text, OLLAMA_HOST="b", OLLAMA_MCP_OPTIONS='{"seed": 2}'))
    assert found.backend.host.hostname == "b"
    assert found.chat_model == "from-file"
    assert (found.max_context, found.cloud, found.backend.timeouts.idle) == (4096, True, 5)
    assert found.defaults.options == {"seed": 2}


def test_every_setting_of_the_environment_is_one_of_the_file(config):
    for field in FIELDS:
        if field.key in {"", "ca_file", "embedded_model"}:
            continue
        value = json.loads(field.default) if field.default.startswith("{") else field.default
        line = f"{field.key} = {{}}" if value == {} else f"{field.key} = {json.dumps(value)}"
        assert dataclasses.replace(load(config(line)), cache=Settings().cache) == Settings()


def test_defaults_for_one_model_stand_over_those_for_all(config):
    found = load(
        config(
            'system = "all"\nkeep_alive = "5m"\noptions = {seed = 1, top_k = 2}\n'
            '[models."qwen3:8b"]\nthink = "low"\noptions = {seed = 9}\nkeep_alive = 0\n'
            '[models.llama]\nsystem = "one"\n'
        )
    )
    assert found.defaults_for("qwen3:8b") == ModelDefaults({"seed": 9, "top_k": 2}, "all", 0, "low")
    assert found.defaults_for("other") == ModelDefaults({"seed": 1, "top_k": 2}, "all", "5m")
    for name in (
        "llama",
        "llama:latest",
        "LLAMA",
        "library/llama",
        "registry.ollama.ai/library/llama:latest",
    ):
        assert found.defaults_for(name).system == "one"
    assert found.defaults_for("QWEN3:8b").think == "low"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hots = 'a'", "Did you mean host?"),
        ("zzz = 1", "There are host"),
        ("max_context = 'many'", "max_context in OLLAMA_MCP_CONFIG"),
        ("cloud = 2", "1 or 0"),
        ("chat_model = 5", "a string"),
        ("models = 5", "tables"),
        ("[models]\na = 5", "it must be a table"),
        ("[models.a]\nhost = 'x'", "host is unknown"),
        ("[models.a]\noptions = {temprature = 1}", "temperature"),
        ("[models.'a b']\nthink = true", "model name"),
        ("idle_timeout = true", "above 0"),
        ("retries = true", "at least 0"),
        ("keep_alive = true", "not a time"),
        ("= 1", "is not TOML"),
        ("options = 'x'", "JSON object"),
        ("headers = {X = 1979-05-27}", "X"),
        ("cache = '~nobody-has-this-name/x'", "cache"),
        ("log_level = 1979-05-27", "DEBUG"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(config, text, said):
    if text.startswith("headers"):
        assert load(config(text)).backend.headers == {"X": "1979-05-27"}
        return
    assert said in problems(config(text))


def test_a_file_that_cannot_be_read_is_named(tmp_path, config):
    assert "cannot be read" in problems({"OLLAMA_MCP_CONFIG": str(tmp_path)})
    for bad in ("\0", "~nobody-has-this-name/x", "x" * 5000):
        assert "OLLAMA_MCP_CONFIG" in problems({"OLLAMA_MCP_CONFIG": bad})
    (tmp_path / "latin.toml").write_bytes(b'system = "\xe9"')
    assert "is not TOML" in problems({"OLLAMA_MCP_CONFIG": str(tmp_path / "latin.toml")})
    assert "OLLAMA_MCP_CONFIG" in problems(config("a = " + "[" * 100_000))


def test_files_of_editors_that_write_a_byte_order_mark_are_read(tmp_path):
    (tmp_path / "c.toml").write_text("max_context = 2048\n", encoding="utf-8-sig")
    (tmp_path / "tokens").write_text(f"ann {'t' * 32}\n", encoding="utf-8-sig")
    found = load(
        {
            "OLLAMA_MCP_CONFIG": str(tmp_path / "c.toml"),
            "OLLAMA_MCP_TOKEN_FILE": str(tmp_path / "tokens"),
        }
    )
    assert found.max_context == 2048
    assert [owner for owner, _ in found.http.tokens] == ["ann"]


def test_the_cache_of_a_user_of_windows_is_no_store(monkeypatch, tmp_path):
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    load().cache.mkdir()
    assert not with_default_store(Settings()).store
    assert Path(with_default_store(Settings(), is_made=True).store) == tmp_path / "ollama-mcp" / "store"


def test_a_file_is_found_by_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "c.toml").write_text("max_context = 2048")
    assert load({"OLLAMA_MCP_CONFIG": "~/c.toml"}).max_context == 2048


# --- strangers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["OLLAMA_MCP_FOO", "OLLAMA_MCP_TEMPERATURE"])
def test_no_setting_is_guessed_that_is_not_close(name):
    assert load({name: "1"}).unknown == (f"Unknown setting {name}.",)


def test_a_program_that_has_our_code_in_it_logs_the_warnings(monkeypatch, caplog):
    monkeypatch.setenv("OLLAMA_MCP_CHAT_MODLE", "x")
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:abc")
    App.create()
    assert "Did you mean OLLAMA_MCP_CHAT_MODEL?" in caplog.messages[0]
    assert "http://127.0.0.1:11434 is called" in caplog.messages[1]


def test_an_unknown_variable_of_ours_is_told_and_not_refused():
    found = load({"OLLAMA_MCP_CHATMODEL": "x", "OLLAMA_MCP_ZZZ": "1", "OLLAMA_ORIGINS": "*", "PATH": "/bin"})
    assert len(found.unknown) == 2
    known = "Unknown setting OLLAMA_MCP_CHATMODEL. Did you mean OLLAMA_MCP_CHAT_MODEL?"
    assert found.unknown == (known, "Unknown setting OLLAMA_MCP_ZZZ.")


# --- anything ----------------------------------------------------------------------------------

VALUES = st.one_of(
    st.text(),
    st.sampled_from(
        [
            "~",
            "~x/y",
            "\0",
            "x" * 5000,
            "9" * 5000,
            "NaN",
            "1e999",
            "[" * 2000,
            '{"a":' * 2000,
            "\ud800",
            "١",
            "²",
        ]
    ),
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5)).map(json.dumps),
)


@given(
    st.dictionaries(
        st.sampled_from(VARIABLES) | st.text(max_size=20).map("OLLAMA_MCP_".__add__), VALUES, max_size=4
    )
)
@example({"XDG_CACHE_HOME": "~nobody-has-this-name"})
@example({"XDG_CACHE_HOME": "\0"})
@example({"OLLAMA_MCP_MAX_CONTEXT": "²"})
@example({"OLLAMA_MCP_EMBEDDED_MODEL": "~nobody-has-this-name/x"})
@example({"OLLAMA_MCP_CA_FILE": "x" * 5000})
@example({"OLLAMA_MCP_CA_FILE": "\0"})
def test_any_strings_are_settings_or_a_settings_error(environment):
    try:
        found = load(environment)
    except SettingsError as error:
        assert error.problems  # noqa: PT017
        assert all(len(problem) < 1000 for problem in error.problems)  # noqa: PT017
        return
    assert isinstance(found, Settings)


TOML = st.recursive(
    st.one_of(
        st.text(max_size=5),
        st.integers(),
        st.booleans(),
        st.floats(),
        st.datetimes(),
        st.just(10**400),
        st.just("\0"),
    ),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
LIKELY = st.sampled_from(
    [
        "gpu:99999",
        "1h",
        "-0",
        "1e3",
        " 1 ",
        "a,b",
        "[]",
        "{}",
        "~",
        "1/s",
        "0x10",
        "٣",
        "true",
        "",
        "inf GB",
        "a=1/h",
    ]
)


@hypothesis.settings(max_examples=40)
@given(VALUES | TOML | LIKELY)
def test_a_reader_takes_any_value_or_says_what_is_right(raw):
    for entry in FIELDS:  # each value for all of them: to draw it takes longer than to read it
        try:
            entry.read(raw)
        except OllamaError as error:
            assert len(str(error)) <= 400, entry.variable  # noqa: PT017
        except ValueError as error:
            assert type(error) is ValueError, entry.variable  # noqa: PT017 - not a UnicodeError of the value's own
            assert 0 < len(str(error)) < 200, entry.variable  # noqa: PT017


KEYS = st.sampled_from([field.key for field in FIELDS if field.key]) | st.text(max_size=5)


@given(
    st.dictionaries(KEYS, TOML, max_size=4),
    st.none() | TOML | st.dictionaries(st.text(max_size=5), st.dictionaries(KEYS, TOML)),
)
@example({"keep_alive": 10**400}, None)
@example({}, {"a": 5})
def test_any_file_is_settings_or_a_settings_error(tmp_path_factory, table, models):
    table = table if models is None else {**table, "models": models}
    with mock.patch("tomllib.loads", return_value=table):
        file = tmp_path_factory.getbasetemp() / "any.toml"
        file.touch()
        try:
            load({"OLLAMA_MCP_CONFIG": str(file)})
        except SettingsError as error:
            assert error.problems  # noqa: PT017


def test_a_log_file_may_be_in_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load({"OLLAMA_MCP_LOG_FILE": "~/x.log"}).log_file == str(tmp_path / "x.log")
    assert load({}).log_file == ""


@pytest.mark.parametrize("name", ["MAX_CONNECTIONS", "MAX_IMAGES"])
def test_a_setting_that_is_no_more_is_ignored_with_a_warning(tmp_path, name):
    in_file = tmp_path / "settings.toml"
    in_file.write_text(f"{name.lower()} = 5\nparallel = 100\n")
    found = load({f"OLLAMA_MCP_{name}": "5", "OLLAMA_MCP_CONFIG": str(in_file)})
    assert [warning for warning in found.warnings if f"OLLAMA_MCP_{name} is ignored" in warning]
    assert found.backend.max_connections == 200, "as many as PARALLEL needs"
    assert load({}).backend.max_connections == 64


def test_a_link_local_address_is_the_operators_to_allow_and_metadata_is_nobodys():
    cable = {"OLLAMA_HOST": "169.254.7.8:11434"}
    with pytest.raises(SettingsError, match="OLLAMA_MCP_LINK_LOCAL=1"):
        load(cable)
    assert load(cable | {"OLLAMA_MCP_LINK_LOCAL": "1"}).backend.host.url == "http://169.254.7.8:11434"
    for address in ("169.254.169.254", "metadata.google.internal", "[fd00:ec2::254]"):
        with pytest.raises(SettingsError, match="metadata"):
            load({"OLLAMA_HOST": address, "OLLAMA_MCP_LINK_LOCAL": "1"})
