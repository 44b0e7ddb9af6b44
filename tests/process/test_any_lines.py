"""Whatever a client writes, every request of its is answered once, and the server lives."""

import json
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ollama_mcp.settings import Settings
from ollama_mcp.tools import TOOLSETS
from ollama_mcp.tools.arguments import ArgumentCheck

PARAMETERS = {
    tool.name: sorted(ArgumentCheck(tool, Settings())._parameters)
    for toolset in TOOLSETS.values()
    for tool in toolset
}
ERAS = ["2025-11-25", "2026-07-28"]
HANDLE = "0123456789abcdef" * 2

# --- what may be written --------------------------------------------------------------------------

any_text = st.text(st.characters(codec=None, exclude_categories=()), max_size=12)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | any_text
)
huge = st.sampled_from([2**53, -(2**63), 2**64, 10**300, 1e308])
json_values = st.recursive(
    scalars | huge,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=6,
)
models = st.sampled_from(["", "llama3.2:3b", "nomic-embed-text", "nobody", "a/../b", "x" * 300]) | any_text
schemas = st.recursive(
    json_values,
    lambda inner: st.dictionaries(
        st.sampled_from(
            ["type", "properties", "items", "$ref", "required", "enum", "pattern", "$schema", "a"]
        ),
        inner | st.sampled_from(["object", "array", "string", "#", "#/$defs/a", "^(a+)+$", "http://x/y"]),
        max_size=4,
    ),
    max_leaves=6,
)
cursors = st.fixed_dictionaries({}, optional={"cursor": any_text | json_values})
uris = st.builds(
    "{}{}{}".format,
    st.sampled_from(["ollama://", "ollama:", "file:///", "OLLAMA://", "http://", ""]),
    st.sampled_from(["models", "models/", "status", "vectors/", "replies/", "embeddings/", ""]),
    st.sampled_from(["", "llama3.2:3b", HANDLE, "%00", "%2e%2e/x", "a" * 3000, "{name}", "?x=1#y"])
    | any_text,
)
arguments = st.dictionaries(
    any_text | st.sampled_from(["model", "task", "text", "length"]), any_text, max_size=3
)
prompts = st.sampled_from(["delegate", "summarise", "second_opinion", "commit_message"]) | any_text


@st.composite
def calls(draw: st.DrawFn) -> dict[str, Any]:
    tool = draw(st.sampled_from(sorted(PARAMETERS)))
    made = draw(st.dictionaries(st.sampled_from([*PARAMETERS[tool], "x"]), json_values, max_size=3))
    for name, likely in {
        "prompt": any_text, "model": models, "format": schemas, "schema": schemas,
        "handle": any_text | st.just(HANDLE), "page": st.integers(),
        "messages": st.lists(json_values, max_size=2),
    }.items():  # fmt: skip
        if name in PARAMETERS[tool] and draw(st.booleans()):
            made[name] = draw(likely)
    if "wait_s" in PARAMETERS[tool]:
        made["wait_s"] = 1.5
    return {"name": tool, "arguments": made}


completions = st.fixed_dictionaries(
    {
        "ref": st.builds(dict, type=st.just("ref/prompt"), name=prompts)
        | st.builds(dict, type=st.just("ref/resource"), uri=uris | st.just("ollama://models/{name}"))
        | json_values,
        "argument": st.builds(dict, name=st.sampled_from(["model", "name"]) | any_text, value=any_text)
        | json_values,
    },
    optional={"context": st.builds(dict, arguments=arguments) | json_values},
)
METHODS: dict[str, st.SearchStrategy[Any]] = {
    "tools/call": calls() | json_values,
    "tools/list": cursors,
    "resources/list": cursors,
    "resources/templates/list": cursors,
    "prompts/list": cursors,
    "resources/read": st.builds(dict, uri=uris | json_values),
    "prompts/get": st.fixed_dictionaries({"name": prompts}, optional={"arguments": arguments | json_values}),
    "completion/complete": completions,
    "logging/setLevel": st.builds(dict, level=st.sampled_from(["debug", "loud"]) | json_values),
    "resources/subscribe": st.builds(dict, uri=uris),
    "resources/unsubscribe": st.builds(dict, uri=uris),
    "tasks/get": st.builds(dict, taskId=any_text),
    "tasks/list": cursors,
    "server/discover": json_values,
    "ping": json_values,
    "nothing/of/ours": json_values,
}
metas = st.fixed_dictionaries(
    {},
    optional={
        "progressToken": st.integers() | any_text | huge | json_values,
        "io.modelcontextprotocol/clientInfo": json_values,
        "io.modelcontextprotocol/logLevel": json_values,
        "x/y": json_values,
    },
)


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """A request whose id is still to be given."""
    method = draw(st.sampled_from(sorted(METHODS)))
    params = draw(METHODS[method])
    if isinstance(params, dict) and draw(st.booleans()):
        params = params | {"_meta": draw(metas | json_values)}
    return {"method": method, "params": params}


notifications = st.builds(
    dict,
    jsonrpc=st.just("2.0"),
    method=st.sampled_from(
        ["notifications/cancelled", "notifications/progress", "notifications/roots/list_changed", "x"]
    ),
    params=json_values | st.fixed_dictionaries({"requestId": json_values, "progressToken": json_values}),
)
answers = st.builds(dict, jsonrpc=st.just("2.0"), id=json_values, result=json_values)
lines = (
    requests()
    | requests()
    | st.binary(max_size=30).map(lambda line: line.replace(b"\n", b""))
    | st.builds(json.dumps, notifications | answers | json_values).map(str.encode)
)


# --- the test -------------------------------------------------------------------------------------


class Wire:
    """A server, and what was asked of it."""

    def __init__(self, child: Any) -> None:
        self.child = child
        self._numbers = count(1000)

    def write(self, drawn: list[Any], texts: bool) -> list[tuple[Any, dict[str, Any]]]:
        """Write all of them at once; returns the requests that have to be answered, with their ids."""
        asked: list[tuple[Any, dict[str, Any]]] = []
        data = b""
        for line in drawn:
            if isinstance(line, bytes):
                data += line + b"\n"
                continue
            number = next(self._numbers)
            call_id = f"\u00e9 {number}" if texts else number * 10**15
            message = {"jsonrpc": "2.0", "id": call_id, **self._in_era(line)}
            asked.append((call_id, line))
            data += json.dumps(message).encode() + b"\n"
        self.child.process.stdin.write(data)
        self.child.process.stdin.flush()
        return asked

    def _in_era(self, line: dict[str, Any]) -> dict[str, Any]:
        params = line["params"]
        if self.child.version != ERAS[-1] or not isinstance(params, dict):
            return line
        said = {
            "io.modelcontextprotocol/protocolVersion": ERAS[-1],
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": self.child.info,
        }
        meta = params.get("_meta", {})
        return {**line, "params": {**params, "_meta": said | meta if isinstance(meta, dict) else meta}}

    def answers(self, call_id: Any) -> list[dict[str, Any]]:
        seen = [line.message for line in tuple(self.child.out.seen)]
        return [message for message in seen if message.get("id") == call_id and "method" not in message]


@pytest.fixture(params=ERAS)
def wire(request: pytest.FixtureRequest, serve: Callable[..., Any], tmp_path: Path) -> Iterator[Wire]:
    child = serve(request.param, OLLAMA_MCP_TOOLSETS="all", OLLAMA_MCP_ROOTS=str(tmp_path))
    yield Wire(child)
    assert child.finish() == 0
    told = "".join(line.message for line in child.err.rest())
    assert "Traceback" not in told, told


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(drawn=st.lists(lines, min_size=1, max_size=8), texts=st.booleans())
def test_whatever_lines_come_every_request_is_answered_once_and_the_server_lives(
    wire: Wire, drawn: list[Any], texts: bool
):
    asked = wire.write(drawn, texts)
    for call_id, request in asked:
        answer = wire.child.answer_to(call_id).message
        assert ("result" in answer) != ("error" in answer)
        if "error" in answer:
            assert answer["error"]["code"] != -32603, (request, answer)
        else:
            assert "INTERNAL" not in json.dumps(answer["result"]), (request, answer)
    (ping, _), *_ = wire.write([{"method": "tools/list", "params": {}}], texts)
    assert "result" in wire.child.answer_to(ping).message
    for call_id, request in asked:
        assert len(wire.answers(call_id)) == 1, request
    wire.child.out.seen.clear()
