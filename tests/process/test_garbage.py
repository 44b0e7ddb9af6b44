"""An Ollama that writes what JSON cannot carry in every place: half an emoji, NaN, infinity."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ollama_mcp.testing import Script
from ollama_mcp.tools import TOOLSETS

HALF = "half \ud83d an emoji"
MODEL = "llama3.2:3b"
VARIANTS = {
    "texts": (rb"half \ud83d an emoji", b"3"),
    "infinite numbers": (rb"\udfff", b"1e999"),
    "NaN": (b"x", b"NaN"),
}
"""What stands for TEXT and NUMBER below, as JSON writes it."""

DETAILS = (
    b'"details":{"parent_model":"TEXT","format":"TEXT","family":"TEXT","families":["TEXT"],'
    b'"parameter_size":"TEXT","quantization_level":"TEXT","context_length":NUMBER,"embedding_length":NUMBER}'
)
COUNTS = (
    b'"total_duration":NUMBER,"load_duration":NUMBER,"prompt_eval_count":NUMBER,"eval_count":NUMBER,'
    b'"eval_duration":NUMBER,"done_reason":"TEXT","model":"TEXT"'
)
KNOWN = b'"capabilities":["completion","embedding","tools","vision","thinking","insert","TEXT"]'
ABOUT = (
    b'"size":NUMBER,"digest":"TEXT","modified_at":"TEXT","expires_at":"TEXT","size_vram":NUMBER,' + DETAILS
)
WHOLE = {
    "/api/version": b'{"version":"TEXT"}',
    "/api/tags": b'{"models":[{"name":"llama3.2:3b",'
    + KNOWN
    + b","
    + ABOUT
    + b'},{"name":"me/m",'
    + ABOUT
    + b'},{"name":"mTEXT",'
    b'"remote_host":"TEXT","remote_model":"TEXT",' + KNOWN + b"," + ABOUT + b"}]}",
    "/api/ps": b'{"models":[{"name":"llama3.2:3b","context_length":NUMBER,' + ABOUT + b'},{"name":"TEXT"}]}',
    "/api/show": b'{"license":"TEXT","modelfile":"TEXT","parameters":"stop TEXT","template":"TEXT",'
    b'"system":"TEXT","messages":[{"TEXT":NUMBER}],"requires":"TEXT",'
    b'"model_info":{"general.architecture":"TEXT","TEXT.context_length":NUMBER,"TEXT":["TEXT"]},'
    b'"projector_info":{"TEXT":NUMBER},' + KNOWN + b"," + DETAILS + b"}",
    "/api/embed": b'{"embeddings":[[NUMBER,1],[0.5,NUMBER]],' + COUNTS + b"}",
}
CALLS = b'"tool_calls":[{"id":"TEXT","function":{"name":"fTEXT","arguments":{"TEXT":[NUMBER,"TEXT"]}}}]'
SUCCESS = [b'{"status":"success"}']
STREAMS = {
    "/api/chat": [
        *[b'{"message":{"role":"TEXT","thinking":"TEXT","content":""}}'] * 4,
        *[b'{"message":{"role":"TEXT","content":"TEXT"}}'] * 8,
        b'{"message":{"content":"",' + CALLS + b"}}",
        b'{"message":{"content":""},"done":true,' + COUNTS + b"}",
    ],
    "/api/generate": [
        *[b'{"response":"TEXT","thinking":"TEXT"}'] * 8,
        b'{"response":"","done":true,"context":[NUMBER],' + COUNTS + b"}",
    ],
    "/api/pull": [b'{"status":"pulling TEXT","digest":"sha256:TEXT","total":NUMBER,"completed":NUMBER}'] * 8
    + SUCCESS,
    "/api/push": [b'{"status":"pushing TEXT","digest":"TEXT","total":NUMBER,"completed":NUMBER}'] * 8
    + SUCCESS,
    "/api/create": [b'{"status":"TEXT"}'] * 8 + SUCCESS,
}
CHANGES = ("/api/copy", "/api/delete")
FUNCTION = {"type": "function", "function": {"name": "f", "description": HALF, "parameters": {}}}


def spoiled(value: Any) -> Any:
    """The same with half a character in each text, but for the model that there is."""
    if isinstance(value, dict):
        return {name: spoiled(item) for name, item in value.items()}
    if isinstance(value, list):
        return [spoiled(item) for item in value]
    return HALF if isinstance(value, str) and value != MODEL else value


TOOLS: dict[str, list[dict[str, Any]]] = {
    tool.name: [spoiled(tool.example)] for toolset in TOOLSETS.values() for tool in toolset
}
MORE: dict[str, list[dict[str, Any]]] = {
    "ollama_chat": [
        {"prompt": HALF, "tools": [FUNCTION]},
        {"prompt": "x", "model": HALF},
        {"prompt": "x", "options": {HALF: 1}},
        {"prompt": "x", "schema": {"type": "object", "title": HALF}},
        {"prompt": "x", "files": [HALF]},
        {"messages": [{"role": HALF, "content": HALF}]},
    ],
    "ollama_generate": [{"prompt": HALF, "suffix": HALF}, {"prompt": "x", "images": [HALF]}],
    "ollama_compare": [{"prompt": HALF, "models": [MODEL, HALF]}, {"prompt": HALF, "models": [MODEL]}],
    "ollama_continue": [{"handle": HALF}],
    "ollama_cancel": [{"handle": HALF}],
    "ollama_embeddings": [{"input": [HALF, "b"], "vectors": "full"}, {"input": [HALF, "b"]}],
    "ollama_rank": [{"query": HALF, "candidates": [HALF]}],
    "ollama_list_models": [{}, {"capability": HALF}],
    "ollama_show_model": [{"model": MODEL}, {"model": MODEL, "part": "template"}, {"model": HALF}],
    "ollama_load_model": [{"model": MODEL, "keep_alive": HALF}, {"model": MODEL}],
    "ollama_unload_model": [{"model": MODEL}, {"model": HALF}],
    "ollama_status": [{}],
    "ollama_pull_model": [{"model": MODEL, "confirm": MODEL}, {"model": HALF}],
    "ollama_create_model": [
        {"model": "new", "from_model": MODEL, "system": HALF, "parameters": {"stop": HALF}},
        {"model": "new", "from_model": HALF},
    ],
    "ollama_copy_model": [{"source": MODEL, "destination": "copied"}, {"source": HALF, "destination": HALF}],
    "ollama_delete_model": [{"model": MODEL, "confirm": MODEL}, {"model": MODEL, "confirm": HALF}],
    "ollama_push_model": [{"model": "me/m", "confirm": "me/m"}, {"model": MODEL, "confirm": MODEL}],
    "ollama_map_files": [{"prompt": HALF, "files": ["*.txt"]}, {"prompt": "x", "files": [HALF]}],
    "ollama_web_search": [{"query": HALF * 500}, {"query": ""}],
    "ollama_web_fetch": [{"url": HALF}, {"url": f"http://127.0.0.1/{HALF}"}],
}
"""What a tool's example does not have."""
for name, calls in MORE.items():
    TOOLS[name] += calls
TOOLS["half \ud83d a tool"] = [{}]
PROMPTS = {
    "delegate": {"task": HALF, "text": HALF, "model": HALF},
    "summarise": {"text": HALF, "length": HALF, "model": MODEL},
    "second_opinion": {"question": HALF, "answer": HALF},
    "commit_message": {"diff": HALF, "style": HALF},
}
RESOURCES = ["ollama://models", "ollama://status", f"ollama://models/{MODEL}", f"ollama://models/{HALF}",
             f"ollama://embeddings/{HALF}", HALF]  # fmt: skip
TEMPLATES = ["ollama://models/{name}", "ollama://conversations/{name}", "ollama://embeddings/{id}"]


def requests() -> Iterator[tuple[str, dict[str, Any]]]:
    """A request for everything that there is, and more than one where there are several ways."""
    for tool, each in TOOLS.items():
        yield from (("tools/call", {"name": tool, "arguments": arguments}) for arguments in each)
    for prompt, arguments in PROMPTS.items():
        yield "prompts/get", {"name": prompt, "arguments": arguments}
        ref = {"type": "ref/prompt", "name": prompt}
        yield "completion/complete", {"ref": ref, "argument": {"name": "model", "value": "m"}}
    for template in TEMPLATES:
        ref = {"type": "ref/resource", "uri": template}
        yield "completion/complete", {"ref": ref, "argument": {"name": "name", "value": HALF}}
    yield from (("resources/read", {"uri": uri}) for uri in RESOURCES)
    yield HALF, {}


def write_garbage(fake: Any, text: bytes, number: bytes) -> None:
    def filled(template: bytes) -> bytes:
        return template.replace(b"TEXT", text).replace(b"NUMBER", number)

    as_json = {"Content-Type": "application/json"}
    for path, body in WHOLE.items():
        fake.script(Script(body=filled(body), headers=as_json), path=path)
    for path, lines in STREAMS.items():
        fake.script(Script(lines=[filled(line) for line in lines], delay=0.03), path=path)
    for path in CHANGES:
        fake.script(Script(status=400, body=filled(b'{"error":"TEXT"}'), headers=as_json), path=path)


def fail_with_garbage(fake: Any) -> None:
    """Every model's work fails, in the middle of a stream where there is one."""
    error = rb'{"error":"half \ud83d an emoji"}'
    for path, lines in STREAMS.items():
        whole = [line.replace(b"TEXT", rb"\ud800").replace(b"NUMBER", b"3") for line in lines[:2]]
        fake.script(Script(lines=[*whole, error]), path=path)
    for path in ("/api/embed", "/api/show", "/api/ps", *CHANGES):
        fake.script(Script(status=500, body=error, headers={"Content-Type": "application/json"}), path=path)


def ask_for_everything(child: Any) -> list[dict[str, Any]]:
    answers = []
    for number, (method, params) in enumerate(requests()):
        child.request(number, method, **params, _meta={"progressToken": number})
        answers.append(child.answer_to(number).message)
    return answers


def serve_everything(serve: Any, folder: Path, version: str, progress: str) -> Any:
    (folder / "b.txt").write_text("a text")
    (folder / "a.txt").write_bytes(b"\xed\xa0\xbd of CESU-8")
    return serve(
        version,
        OLLAMA_MCP_TOOLSETS="all",
        OLLAMA_MCP_ROOTS=str(folder),
        OLLAMA_MCP_PROGRESS=progress,
        OLLAMA_MCP_IDLE_TIMEOUT="5",
    )


def is_clean(child: Any) -> str:
    """Ends it and returns all that it wrote; the reading thread has looked at every line of it."""
    assert child.finish() == 0
    said = str([line.message for line in child.out.rest()])
    errors = [line.message for line in child.err.rest()]
    assert not [line for line in errors if "had to be mended" in line or "Traceback" in line], errors[:5]
    return said


def test_everything_that_there_is_stands_in_the_table(serve: Any, tmp_path: Path):
    child = serve_everything(serve, tmp_path, "2025-11-25", "status")
    for number, method in enumerate(
        ["tools/list", "prompts/list", "resources/list", "resources/templates/list"]
    ):
        child.request(number, method)
    tools, prompts, resources, templates = (child.result_of(number) for number in range(4))
    assert {tool["name"] for tool in tools["tools"]} <= set(TOOLS)
    assert {prompt["name"] for prompt in prompts["prompts"]} == set(PROMPTS)
    assert {resource["uri"] for resource in resources["resources"]} <= set(RESOURCES)
    assert {template["uriTemplate"] for template in templates["resourceTemplates"]} == set(TEMPLATES)


@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_json_cannot_carry_reaches_no_answer_and_no_progress(
    serve: Any, fake: Any, tmp_path: Path, version: str, variant: str
):
    child = serve_everything(serve, tmp_path, version, "text" if variant == "texts" else "status")
    write_garbage(fake, *VARIANTS[variant])
    answers = ask_for_everything(child)
    said = is_clean(child)
    assert len(answers) == len(list(requests()))
    assert "notifications/progress" in said
    assert variant == "NaN" or "\ufffd" in said


@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])
def test_nor_do_errors_carry_it(serve: Any, fake: Any, tmp_path: Path, version: str):
    child = serve_everything(serve, tmp_path, version, "text")
    fail_with_garbage(fake)
    answers = ask_for_everything(child)
    said = is_clean(child)
    failed = [answer for answer in answers if "error" in answer or answer["result"].get("isError")]
    assert len(failed) > len(answers) / 2
    assert "half \ufffd an emoji" in said
