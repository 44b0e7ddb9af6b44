"""Long calls as tasks of the extension io.modelcontextprotocol/tasks."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.client import Client
from mcp.server.extension import Extension
from mcp.server.mcpserver import Context, MCPServer
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult

from ollama_mcp import App, Tasks, create_server, register
from ollama_mcp.jobs.job import Job
from ollama_mcp.settings import load
from ollama_mcp.testing import FakeOllama, Model, Script

from .client import NO, YES, Declared, ask, begin

SLOW = Script(tokens=["word "] * 100, delay=1)
LONG = Script(tokens=["word " * 1000] * 9, delay=1)

At = Callable[..., Any]


async def nobody(*_: Any) -> Any:
    raise AssertionError("asked in the middle of a call")


@pytest.fixture
def at(virtually: Any) -> At:
    """Runs a test with a fake Ollama, an App and a client, in virtual time."""

    def run(
        work: Callable[[FakeOllama, App, Client], Awaitable[Any]],
        *,
        build: Callable[[App], MCPServer[Any]] = create_server,
        mode: str = "auto",
        declares: bool = True,
        elicits: bool = True,
        **environment: str,
    ) -> Any:
        async def whole() -> Any:
            async with FakeOllama([Model("m"), Model("embed")]) as fake:
                settings = {"OLLAMA_HOST": fake.url, "OLLAMA_MCP_TOOLSETS": "all", **environment}
                async with (
                    App.create(load(settings)) as app,
                    Client(
                        build(app),
                        mode=mode,
                        extensions=[Declared()] if declares else None,
                        elicitation_callback=nobody if elicits else None,
                    ) as client,
                ):
                    return await work(fake, app, client)

        return virtually(whole)

    return run


def now() -> float:
    return asyncio.get_running_loop().time()


async def refused(code: int, client: Client, method: str, **params: Any) -> None:
    with pytest.raises(MCPError) as error:
        await ask(client, method, **params)
    assert error.value.code == code, error.value


async def ended(client: Client, task_id: str) -> dict[str, Any]:
    while (task := await ask(client, "tasks/get", taskId=task_id))["status"] == "working":
        await asyncio.sleep(task["pollIntervalMs"] / 1000)
    return task


@pytest.mark.parametrize(("deadline", "after"), [({}, 5), ({"wait_s": 2}, 2), ({"wait_s": 0}, 5)])
def test_a_call_becomes_a_task_at_its_deadline_or_after_five_seconds(at: At, deadline: Any, after: float):
    async def work(fake: FakeOllama, app: App, client: Client) -> None:
        fake.script(SLOW)
        task = await begin(client, "ollama_chat", prompt="x", **deadline)
        assert now() == pytest.approx(after, abs=0.1)
        assert task["status"] == "working"
        assert task.keys().isdisjoint({"result", "error", "inputRequests", "requestState"})
        assert f"{after} tok" in task["statusMessage"] or f"{after + 1} tok" in task["statusMessage"]
        found = await ask(client, "tasks/get", taskId=task["taskId"])
        assert (found["resultType"], found["createdAt"]) == ("complete", task["createdAt"])

    at(work)


@pytest.mark.parametrize(("mode", "declares"), [("auto", False), ("legacy", True)])
def test_a_client_that_does_not_declare_it_or_is_older_keeps_the_handle(at: At, mode: str, declares: bool):
    async def work(fake: FakeOllama, app: App, client: Client) -> None:
        fake.script(SLOW)
        result = await client.call_tool("ollama_chat", {"prompt": "x"})
        assert now() == pytest.approx(50, abs=0.1)  # the deadline of a client that is not known
        assert result.content[0].text.startswith("STILL RUNNING: ")
        handle = result.meta["ollama-mcp/reply"]["handle"]
        code = -32021 if mode == "auto" else -32601
        for method in ("tasks/get", "tasks/update", "tasks/cancel"):
            await refused(code, client, method, taskId=handle)
        assert (await client.call_tool("ollama_continue", {"handle": handle})).content[
            0
        ].text == "word " * 100

    at(work, mode=mode, declares=declares)


@pytest.mark.parametrize(
    ("tool", "arguments", "script"),
    [
        ("ollama_chat", {"prompt": "x"}, SLOW),
        ("ollama_chat", {"prompt": "x"}, LONG),
        ("ollama_chat", {"prompt": "x"}, Script(tokens=["word "] * 9, delay=1, cut_after_tokens=7)),
        ("ollama_chat", {"prompt": "x", "model": "embed"}, Script(delay_first=2, status=500, body="broken")),
        ("ollama_embeddings", {"input": ["a", "b"]}, Script(delay_first=6)),
        ("ollama_compare", {"prompt": "x", "models": ["m", "embed"]}, SLOW),
    ],
    ids=["answer", "pages", "cut", "failed", "vectors", "table"],
)
def test_its_result_is_that_of_ollama_continue(at: At, tool: str, arguments: Any, script: Script):
    async def work(fake: FakeOllama, app: App, client: Client) -> None:
        fake.script(script)
        task = await begin(client, tool, **arguments, wait_s=1)
        task = await ended(client, task["taskId"])
        assert task["status"] == "completed"
        told = await client.call_tool("ollama_continue", {"handle": task["taskId"]})
        for result in (told, found := CallToolResult.model_validate(task["result"])):
            result.meta = {k: v for k, v in (result.meta or {}).items() if k.startswith("ollama-mcp/")}
        assert found == told

    at(work)


def test_a_place_in_the_queue_is_its_status_and_a_cancel_stops_the_model(at: At):
    async def work(fake: FakeOllama, app: App, client: Client) -> None:
        fake.script(SLOW)
        first, second = [await begin(client, "ollama_chat", prompt="x", wait_s=1) for _ in "ab"]
        assert second["statusMessage"].startswith("1st in line for m:latest")
        for _ in range(2):  # the second cancel finds nothing to do
            stopped = await ask(client, "tasks/cancel", taskId=first["taskId"])
            assert stopped.keys() == {"_meta", "resultType"}
        await fake.wait_for(lambda fake: fake.disconnects == 1)
        task = await ask(client, "tasks/get", taskId=first["taskId"])
        assert task["status"] == "cancelled"
        assert "result" not in task
        assert (await ended(client, second["taskId"]))["status"] == "completed"

    at(work, OLLAMA_MCP_PARALLEL="1")


def test_what_breaks_is_failed_and_says_no_more_than_internal(at: At):
    async def work(fake: FakeOllama, app: App, client: Client) -> None:
        async def breaks(job: Job[str]) -> str:
            raise RuntimeError("secret")

        job = app.jobs.start(breaks)
        assert app.jobs.keep(job)
        task = await ended(client, job.handle)
        assert (task["status"], task["error"]["code"]) == ("failed", -32603)
        assert task["error"]["message"].startswith("INTERNAL: ")
        assert "secret" not in str(task)

    at(work)


@pytest.mark.parametrize(
    ("answer", "text"), [(YES, "m:latest is deleted"), (NO, "NOT_CONFIRMED: the client answered 'decline'")]
)
def test_a_question_is_input_required_and_its_answer_goes_on(at: At, answer: Any, text: str):
    async def work(fake: FakeOllama, app: App, client: Client) -> None:
        task = await begin(client, "ollama_delete_model", model="m")
        assert task["status"] == "input_required"
        task_id = task["taskId"]
        task = await ask(client, "tasks/get", taskId=task_id)
        ((key, request),) = task["inputRequests"].items()
        assert request["method"] == "elicitation/create"
        assert request["params"]["message"].startswith("Delete m:latest")
        await refused(-32602, client, "tasks/update", taskId=task_id, inputResponses={key: {"confirm": True}})
        await ask(client, "tasks/update", taskId=task_id, inputResponses={"another": answer})
        assert (await ask(client, "tasks/get", taskId=task_id))["inputRequests"] == task["inputRequests"]
        await ask(client, "tasks/update", taskId=task_id, inputResponses={key: answer})
        task = await ended(client, task_id)
        assert task["result"]["content"][0]["text"].startswith(text)
        assert len(fake.asked("/api/delete")) == (answer is YES)

    at(work)


@pytest.mark.parametrize(("answer", "written"), [(YES, ["note"]), (NO, [])])
def test_an_agent_asks_in_its_middle_as_a_task(at: At, answer: Any, written: list[str]):
    done: list[str] = []

    def build(app: App) -> MCPServer[Any]:
        server: MCPServer[Any] = MCPServer("host", log_level="CRITICAL")

        @server.tool()
        def write(text: str) -> str:
            done.append(text)
            return "written"

        register(server, app, agent_tools=["write"], tasks=True)
        return server

    async def work(fake: FakeOllama, app: App, client: Client) -> None:
        fake.script(
            Script(tool_calls=[{"name": "write", "arguments": {"text": "note"}}]), "Done.", path="/api/chat"
        )
        task = await begin(client, "ollama_agent", task="Write it down.", tools=["write"])
        assert task["status"] == "input_required"
        ((key, _),) = (await ask(client, "tasks/get", taskId=task["taskId"]))["inputRequests"].items()
        await ask(client, "tasks/update", taskId=task["taskId"], inputResponses={key: answer})
        task = await ended(client, task["taskId"])
        assert task["result"]["content"][0]["text"].startswith("Done.")
        assert done == written

    at(work, build=build)


def test_a_client_that_cannot_ask_has_to_confirm_by_the_argument(at: At):
    async def work(fake: FakeOllama, app: App, client: Client) -> None:
        result = await begin(client, "ollama_delete_model", model="m")
        assert result.content[0].text.startswith("NOT_CONFIRMED")

    at(work, elicits=False)


def test_a_task_is_there_for_its_ttl_and_then_gone(at: At):
    async def work(fake: FakeOllama, app: App, client: Client) -> None:
        fake.script(Script(tokens=["a"] * 9, delay=1))
        begun = now()
        task = await begin(client, "ollama_chat", prompt="x")
        task = await ended(client, task["taskId"])
        await asyncio.sleep(begun + task["ttlMs"] / 1000 - now() - 1)
        assert (await ask(client, "tasks/get", taskId=task["taskId"]))["ttlMs"] == task["ttlMs"]
        await asyncio.sleep(2)
        await refused(-32602, client, "tasks/get", taskId=task["taskId"])

        fake.script(Script(tokens=["a"] * 9_999, delay=10))
        begun = now()
        task = await begin(client, "ollama_chat", prompt="x")
        await asyncio.sleep(begun + task["ttlMs"] / 1000 - now() - 1)
        assert (await ask(client, "tasks/get", taskId=task["taskId"]))["status"] == "working"
        await asyncio.sleep(15 * 60 + 1)  # nobody asked for it
        task = await ask(client, "tasks/get", taskId=task["taskId"])
        assert task["result"]["content"][0]["text"].startswith("TIMEOUT: the answer was stopped")

    at(work)


def test_a_task_is_its_callers_alone(at: At, monkeypatch: pytest.MonkeyPatch):
    async def work(fake: FakeOllama, app: App, client: Client) -> None:
        fake.script(SLOW)
        task = await begin(client, "ollama_chat", prompt="x")
        monkeypatch.setattr("ollama_mcp.tools.tasks.caller_id", lambda: "somebody else")
        for method in ("tasks/get", "tasks/update", "tasks/cancel"):
            await refused(-32602, client, method, taskId=task["taskId"])
        monkeypatch.undo()
        assert (await ended(client, task["taskId"]))["status"] == "completed"

    at(work)


def on_a_host(app: App) -> MCPServer[Any]:
    host: MCPServer[Any] = MCPServer("host", log_level="ERROR", extensions=[Tasks(app)])
    register(host, app, prefix="local_")
    return host


def registered(app: App) -> MCPServer[Any]:
    host: MCPServer[Any] = MCPServer("host", log_level="ERROR")
    register(host, app, prefix="local_", tasks=True)
    return host


@pytest.mark.parametrize("build", [on_a_host, registered])
def test_a_host_has_tasks_by_its_extensions_or_by_register(at: At, build: Any):
    async def work(fake: FakeOllama, app: App, client: Client) -> None:
        fake.script(LONG)
        task = await begin(client, "local_ollama_chat", prompt="x")
        task = await ended(client, task["taskId"])
        head = task["result"]["content"][0]["text"].splitlines()[0]
        assert head.startswith("page 1 of 3. Call local_ollama_continue with handle=")

    at(work, build=build)


def test_a_tasks_extension_of_the_host_is_left_alone(at: At):
    class Theirs(Extension):
        identifier = Tasks.identifier

    def build(app: App) -> MCPServer[Any]:
        host: MCPServer[Any] = MCPServer("host", log_level="ERROR", extensions=[Theirs()])
        register(host, app, tasks=True)
        return host

    async def work(fake: FakeOllama, app: App, client: Client) -> None:
        fake.script(SLOW)
        result = await begin(client, "ollama_chat", prompt="x", wait_s=1)
        assert result.content[0].text.startswith("STILL RUNNING: ")
        await refused(-32601, client, "tasks/get", taskId=result.meta["ollama-mcp/reply"]["handle"])

    at(work, build=build)


def test_of_two_apps_on_a_host_the_first_has_tasks_and_the_other_handles(at: At):
    def build(app: App) -> MCPServer[Any]:
        host = registered(app)
        register(host, App.create(app.settings), prefix="other_", tasks=True)
        return host

    async def work(fake: FakeOllama, app: App, client: Client) -> None:
        fake.script(SLOW)
        task = await begin(client, "local_ollama_chat", prompt="x")
        assert (await begin(client, "local_ollama_continue", handle=task["taskId"]))["taskId"] == task[
            "taskId"
        ]
        result = await begin(client, "other_ollama_chat", prompt="x", wait_s=9)
        assert now() == pytest.approx(19, abs=0.5)
        assert result.content[0].text.startswith("STILL RUNNING: ")
        handle = result.meta["ollama-mcp/reply"]["handle"]
        await refused(-32602, client, "tasks/get", taskId=handle)
        await client.call_tool("other_ollama_cancel", {"handle": handle})

    at(work, build=build)


def test_a_hosts_tool_that_calls_ours_has_its_own_result(at: At):
    def build(app: App) -> MCPServer[Any]:
        host = create_server(app)

        @host.tool()
        async def theirs(ctx: Context) -> str:
            found = await ctx.mcp_server.call_tool("ollama_chat", {"prompt": "x", "wait_s": 9}, ctx)
            return f"{now():.0f} s: {found.content[0].text[:13]}"

        return host

    async def work(fake: FakeOllama, app: App, client: Client) -> None:
        fake.script(SLOW)
        assert (await begin(client, "theirs")).content[0].text == "9 s: STILL RUNNING"

    at(work, build=build)


METHODS = ["tasks/get", "tasks/update", "tasks/cancel"]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5) | st.sampled_from([YES, NO]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
steps = st.tuples(
    st.sampled_from(METHODS),
    st.sampled_from(["mine", "asking", "foreign"]) | json_values,
    st.sampled_from(["key", "foreign key"]) | st.text(max_size=5),
    json_values,
    st.booleans(),
)


@given(drawn=st.lists(steps, max_size=8))
def test_any_requests_are_answered_and_touch_no_task_of_others(at: At, drawn: list[Any]):
    async def work(fake: FakeOllama, app: App, client: Client) -> None:
        async def asks(job: Job[str]) -> str:
            await job.ask("SECRET?")
            return "SECRET"

        jobs = {name: app.jobs.start(asks, "tok", "bob" if name == "foreign" else "") for name in NAMES}
        for job in jobs.values():
            assert app.jobs.keep(job)
        await asyncio.sleep(0)
        keys = {"key": jobs["asking"].questions[0].key, "foreign key": jobs["foreign"].questions[0].key}
        for method, which, key, value, is_map in drawn:
            task_id = jobs[which].handle if isinstance(which, str) and which in jobs else which
            answers = {keys.get(key, key): value} if is_map else value
            try:
                told: Any = await ask(client, method, named=False, taskId=task_id, inputResponses=answers)
            except MCPError as error:
                told = error
            if isinstance(told, MCPError):
                assert told.code == -32602, told
                assert "SECRET" not in str(told)
                continue
            assert which in {"mine", "asking"}
            if method == "tasks/get":
                assert told["taskId"] == task_id
        await asyncio.sleep(0)
        assert jobs["foreign"].open_questions

    at(work)


NAMES = ["mine", "asking", "foreign"]
