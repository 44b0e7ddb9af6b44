"""The JSON that Ollama speaks: what is sent exactly, what comes back tolerantly."""

import json
import pydoc
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ollama_mcp.errors import InvalidArgument
from ollama_mcp.ollama import api_models as api
from ollama_mcp.ollama import endpoints
from ollama_mcp.ollama.options import Options

ROWS = [row for row in vars(endpoints).values() if isinstance(row, endpoints.Call | endpoints.Stream)]
RESPONSES = sorted(
    {model for model in vars(api).values() if isinstance(model, type) and issubclass(model, api.Response)},
    key=lambda model: model.__name__,
)
GENERATION = "model options format keep_alive think truncate shift logprobs top_logprobs stream"
# The table of endpoints in Ollama's documentation: method, path, fields of the request.
TABLE = {
    ("GET", "/"): None,
    ("GET", "/api/version"): None,
    ("GET", "/api/tags"): None,
    ("POST", "/api/show"): "model verbose",
    ("GET", "/api/ps"): None,
    ("POST", "/api/chat"): GENERATION + " messages tools",
    ("POST", "/api/generate"): GENERATION + " prompt suffix system template raw images",
    ("POST", "/api/embed"): "model input truncate dimensions keep_alive options",
    ("POST", "/api/embeddings"): "model prompt",
    ("POST", "/api/pull"): "model insecure stream",
    ("POST", "/api/push"): "model insecure stream",
    (
        "POST",
        "/api/create",
    ): "model from files adapters template license system parameters messages quantize stream",
    ("POST", "/api/copy"): "source destination",
    ("DELETE", "/api/delete"): "model",
    ("HEAD", "/api/blobs/{digest}"): None,
    ("POST", "/api/blobs/{digest}"): bytes,
    ("POST", "/api/web_search"): "query max_results",
    ("POST", "/api/web_fetch"): "url",
}
ANSWERS = {
    api.Version: "version",
    api.ModelList: "models",
    api.ModelInfo: "name model modified_at size digest details remote_model remote_host capabilities",
    api.ModelDetails: "parent_model format family families parameter_size quantization_level context_length"
    " embedding_length",
    api.ShowResponse: "license modelfile parameters template system details messages model_info"
    " projector_info tensors capabilities modified_at requires remote_model remote_host",
    api.RunningModel: "name model size digest details expires_at size_vram context_length",
    api.ChatChunk: "model created_at message done done_reason total_duration load_duration prompt_eval_count"
    " prompt_eval_duration eval_count eval_duration remote_model remote_host logprobs",
    api.GenerateChunk: "model created_at response thinking done done_reason context",
    api.ChatMessage: "role content thinking tool_calls",
    api.EmbedResponse: "model embeddings total_duration load_duration prompt_eval_count",
    api.LegacyEmbeddingsResponse: "embedding",
    api.ProgressLine: "status digest total completed",
}


def names(model) -> set[str]:
    return {field.serialization_alias or name for name, field in model.model_fields.items()}


# --- the table ---------------------------------------------------------------------------------


def test_every_endpoint_of_ollama_is_one_row():
    assert sorted((row.method, row.path) for row in ROWS) == sorted(TABLE)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method} {row.path}")
def test_a_row_has_every_field_of_its_request(row):
    wanted = TABLE[row.method, row.path]
    if not isinstance(wanted, str):
        assert row.request is (wanted or type(None))
    else:
        assert set(wanted.split()) <= names(row.request)
    assert issubclass(row.response, api.Response)


@pytest.mark.parametrize("model", ANSWERS, ids=lambda model: model.__name__)
def test_an_answer_has_every_field_that_ollama_documents(model):
    assert set(ANSWERS[model].split()) <= names(model)


def test_only_what_answers_with_lines_is_a_stream():
    streams = {row.path for row in ROWS if isinstance(row, endpoints.Stream)}
    assert streams == {"/api/chat", "/api/generate", "/api/pull", "/api/push", "/api/create"}
    assert {row.path for row in ROWS if getattr(row, "tells_in_stream", False)} == streams - {
        "/api/chat",
        "/api/generate",
    }
    assert {row.path for row in ROWS if getattr(row, "cloud", False)} == {"/api/web_search", "/api/web_fetch"}


# --- what is sent ------------------------------------------------------------------------------


def sent(request: api.Request):
    return json.loads(request.to_json())


def test_what_was_not_given_is_not_sent():
    assert sent(api.ChatRequest(model="m")) == {"model": "m", "messages": [], "stream": True}
    assert sent(api.GenerateRequest(model="m")) == {"model": "m", "prompt": "", "stream": True}
    assert sent(api.EmbedRequest(model="m", input="")) == {"model": "m", "input": ""}
    assert sent(api.ShowRequest(model="m")) == {"model": "m"}
    assert sent(api.PullRequest(model="m")) == {"model": "m", "stream": True}
    request = api.ChatRequest(model="m", options=Options(num_ctx=5), messages=[api.Message(role="user")])
    assert sent(request)["options"] == {"num_ctx": 5}
    assert sent(request)["messages"] == [{"role": "user", "content": ""}]


def test_zeros_and_false_are_sent():
    request = api.ChatRequest(
        model="m", keep_alive=0, think=False, truncate=False, options=Options(temperature=0)
    )
    assert sent(request) == {
        "model": "m",
        "messages": [],
        "stream": True,
        "keep_alive": 0,
        "think": False,
        "truncate": False,
        "options": {"temperature": 0},
    }


def test_a_null_inside_a_schema_or_a_tool_is_sent():
    request = api.ChatRequest(model="m", format={"enum": [None], "const": None}, tools=[{"default": None}])
    assert sent(request)["format"] == {"enum": [None], "const": None}
    assert sent(request)["tools"] == [{"default": None}]


def test_create_sends_from_under_its_own_name():
    assert sent(api.CreateRequest(model="m", from_="base"))["from"] == "base"
    assert sent(api.CreateRequest.model_validate({"model": "m", "from": "base"}))["from"] == "base"


def test_a_field_that_ollama_does_not_have_is_refused():
    with pytest.raises(ValidationError):
        api.ChatRequest.model_validate({"model": "m", "mesages": []})


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_does_not_have_is_refused(number):
    with pytest.raises(ValidationError):
        api.ChatRequest(model="m", keep_alive=number)
    with pytest.raises(ValidationError):
        Options(temperature=number)


def test_a_tool_call_whose_arguments_are_json_text_is_sent_with_an_object():
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    message = api.Message.model_validate({"role": "assistant", "tool_calls": [call]})
    assert sent(message)["tool_calls"] == [{"id": "c1", "function": {"name": "add", "arguments": {"a": 1}}}]


@pytest.mark.parametrize("arguments", ["{", "[1]", "1", "[" * 5000, "\ud800", 5, [1]])
def test_a_tool_call_whose_arguments_are_no_object_is_refused(arguments):
    with pytest.raises(ValidationError):
        api.Message.model_validate(
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}
        )


@pytest.mark.parametrize("arguments", ["", " ", None, {}, "{}"])
def test_no_arguments_are_an_empty_object(arguments):
    assert api.ToolFunction.model_validate({"name": "f", "arguments": arguments}).arguments == {}


def test_an_empty_set_of_arguments_is_still_sent():
    message = api.Message(role="assistant", tool_calls=[api.ToolCall(function=api.ToolFunction(name="f"))])
    assert sent(message)["tool_calls"] == [{"function": {"name": "f", "arguments": {}}}]


def test_a_lone_surrogate_is_sent_as_the_replacement_character_and_a_pair_as_what_it_means():
    message = api.Message(role="user", content="a\ud800b")
    assert sent(api.ChatRequest(model="m", messages=[message]))["messages"][0]["content"] == "a\ufffdb"
    tools = [{"\udfff": ["\ud83d\ude00", "😀", None, 1]}]
    assert sent(api.ChatRequest(model="m", tools=tools))["tools"] == [{"\ufffd": ["😀", "😀", None, 1]}]


def test_what_is_nested_beyond_reason_is_refused_and_not_a_crash():
    deep: dict = {}
    for _ in range(5000):
        deep = {"a": deep}
    with pytest.raises(InvalidArgument):
        api.ChatRequest(model="m", tools=[deep]).to_json()
    with pytest.raises(InvalidArgument):
        api.ChatRequest(model="m\ud800", tools=[deep]).to_json()


# --- what comes back ---------------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(),
    st.text(max_size=5),
    st.integers(),
    st.sampled_from([10**400, -(10**30), "\ud800"]),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def objects(model) -> st.SearchStrategy[dict]:
    """JSON objects with the fields of a model, its own objects and lists among what they hold."""
    return st.fixed_dictionaries(
        {}, optional={name: fields(field.annotation) for name, field in model.model_fields.items()}
    )


def fields(annotation) -> st.SearchStrategy:
    inner = [t for t in RESPONSES if t.__name__ in str(annotation)]
    nested = [st.one_of(objects(t), st.lists(objects(t) | JSON, max_size=3)) for t in inner]
    return st.one_of(
        JSON,
        st.just({"str": 1, "list[str]": 2}),
        st.lists(st.lists(SCALARS, max_size=3), max_size=3),
        *nested,
    )


@pytest.mark.parametrize("model", RESPONSES, ids=lambda model: model.__name__)
def test_any_object_parses_or_is_a_value_error(model):
    @given(objects(model), st.dictionaries(st.text(max_size=5), JSON, max_size=2))
    def check(raw, more):
        try:
            parsed = model.parse({**more, **raw})
        except ValueError as error:
            assert not isinstance(error, ValidationError | UnicodeError)  # noqa: PT017 - which kind is the point
            assert model.essential
            assert len(str(error)) < 200  # noqa: PT017
            return
        assert isinstance(parsed, model)

    check()


@pytest.mark.parametrize("model", RESPONSES, ids=lambda model: model.__name__)
def test_an_empty_object_has_go_s_zero_values(model):
    parsed = model.parse({})
    assert parsed == model.parse(dict.fromkeys(model.model_fields))
    assert parsed == model.parse({"a field of the future": 1})


def test_an_essential_field_of_the_wrong_type_is_told_by_its_name():
    with pytest.raises(ValueError, match=r"message\.content"):
        api.ChatChunk.parse({"message": {"content": 5}})
    with pytest.raises(ValueError, match="response"):
        api.GenerateChunk.parse({"response": ["a"]})
    with pytest.raises(ValueError, match="arguments"):
        api.ChatChunk.parse({"message": {"tool_calls": [{"function": {"arguments": [1]}}]}})
    with pytest.raises(ValueError, match="embeddings"):
        api.EmbedResponse.parse({"embeddings": [[1.0, "x"]]})
    with pytest.raises(ValueError, match="embeddings"):
        api.EmbedResponse.parse({"embeddings": [[1.0, None]]})
    with pytest.raises(ValueError, match="done"):
        api.ChatChunk.parse({"done": "perhaps"})


def test_any_other_field_of_the_wrong_type_counts_as_missing():
    chunk = api.ChatChunk.parse(
        {
            "message": {"content": "hi", "role": 5},
            "eval_count": "many",
            "model": None,
            "logprobs": [5, {"token": "a"}],
        }
    )
    assert (chunk.text, chunk.eval_count, chunk.model, chunk.message.role) == ("hi", 0, "", "")
    assert chunk.logprobs == [{"token": "a"}]
    show = api.ShowResponse.parse({"license": {"str": 1}, "capabilities": ["vision", 5], "model_info": []})
    assert (show.license, show.capabilities, show.model_info) == ("", ["vision"], {})
    assert api.ShowResponse.parse({"license": ["a", "b"]}).license == ["a", "b"]
    assert api.ShowResponse.parse({"license": [1, "b"]}).license == ""


def test_one_odd_model_does_not_hide_the_others():
    raw = [5, {"name": "a", "size": "big", "details": {"families": [1, "llama"]}}, None, {"name": "b"}]
    listed = api.ModelList.parse({"models": raw}).models
    assert [model.name for model in listed] == ["a", "b"]
    assert listed[0].details.families == ["llama"]


def test_a_number_beyond_64_bits_counts_as_missing():
    chunk = api.ChatChunk.parse({"eval_count": 10**400, "eval_duration": 2**63, "total_duration": 2**63 - 1})
    assert (chunk.eval_count, chunk.eval_duration, chunk.total_duration) == (0, 0, 2**63 - 1)
    assert api.ShowResponse(model_info={"x.context_length": 10**400}).fact("context_length") == 0
    assert api.ShowResponse(model_info={"x.context_length": 2048}).fact("context_length") == 2048
    assert api.ShowResponse(model_info={"x.context_length": True}).fact("context_length") == 0


def test_what_was_read_is_not_changed():
    raw = {"models": [{"name": "a", "size": "big"}], "more": {"kept": 1}}
    before = json.dumps(raw)
    api.ModelList.parse(raw)
    assert json.dumps(raw) == before


@pytest.mark.parametrize(
    ("raw", "last"),
    [
        ({"done": True}, True),
        ({"done_reason": "stop"}, True),
        ({}, False),
        ({"done": False}, False),
        ({"done": None}, False),
    ],
)
def test_an_answer_is_complete_with_done_or_a_done_reason(raw, last):
    assert api.ChatChunk.parse(raw).is_last is last
    assert api.GenerateChunk.parse(raw).is_last is last


def test_a_legacy_vector_is_brought_to_length_1():
    assert api.LegacyEmbeddingsResponse(embedding=[3, 4]).normalised() == [0.6, 0.8]
    assert api.LegacyEmbeddingsResponse(embedding=[0, 0]).normalised() == [0, 0]
    assert api.LegacyEmbeddingsResponse(embedding=[3e200, 4e200]).normalised() == pytest.approx([0.6, 0.8])


def recorded() -> list[Path]:
    return sorted((Path(__file__).parent.parent / "recordings").glob("*.json"))


def test_every_recorded_object_parses(subtests):
    for path in recorded():
        with subtests.test(path.stem):
            exchange = json.loads(path.read_text())
            row = next(
                (
                    r
                    for r in ROWS
                    if (r.method, r.path) == (exchange["request"]["method"], exchange["request"]["path"])
                ),
                None,
            )
            if (
                row is None
                or exchange["response"]["status"] >= 300
                or row.response in {api.Done, api.Greeting}
            ):
                return
            whole = [line for line in exchange["response"]["body"].split("\n") if line.strip().endswith("}")]
            for line in whole:
                raw = json.loads(line)
                parsed = row.response.parse(raw)
                unknown = raw.keys() - names(row.response) - {"error"}
                assert not unknown, f"fields that wire does not know: {unknown}"
                assert parsed


BODIES = [
    kind
    for kind in vars(api).values()
    if isinstance(kind, type) and issubclass(kind, api.Request | api.Response)
]


def test_help_lists_every_field_with_its_kind(subtests):
    for kind in BODIES:
        with subtests.test(kind.__name__):
            lines = pydoc.render_doc(kind, renderer=pydoc.plaintext).partition("Method resolution order")[0]
            for name in kind.model_fields:
                assert re.search(rf"^ \|      {name}: \S", lines, re.MULTILINE), (name, lines)


def test_help_shows_defaults_and_the_fields_of_all_requests():
    assert (
        "    model: str\n    stream: bool = True\n    options: Options | None = None\n"
        in api.ChatRequest.__doc__
    )
    assert "    messages: list[Message]" in api.ChatRequest.__doc__
