"""Which tools there are: read-only, toolsets and single tools, each with every tool; who confirms what."""

import itertools
import json
from pathlib import Path
from typing import Any

import anyio
import hypothesis
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mcp.client import Client
from mcp_types import ElicitResult

from ollama_mcp import App, create_server
from ollama_mcp.settings import Settings, load
from ollama_mcp.testing import FakeOllama, Model
from ollama_mcp.tools import TOOLSETS

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]

SNAPSHOTS = Path(__file__).parent.parent / "snapshots"


def changes(tool):
    """Whether its accepted definition says that it changes something."""
    accepted = json.loads((SNAPSHOTS / f"{tool.name}.json").read_text("utf-8"))
    return not accepted["annotations"].get("readOnlyHint", False)


TOOLS = {tool.name: (tool.toolset, changes(tool)) for toolset in TOOLSETS.values() for tool in toolset}
"""Name: (its toolset, whether it changes something)."""
WITH_EACH = {"ollama_continue", "ollama_cancel"}
"""Any call may go on after its answer."""
BY_DEFAULT = set(Settings().toolsets)


@pytest.fixture
async def fake(anyio_backend):
    async with FakeOllama([Model("m"), Model("n"), Model("me/p")]) as fake:
        yield fake


def offered(settings):
    """The names of the tools that a client sees."""

    async def listed():
        async with App.create(load(settings)) as app, Client(create_server(app)) as client:
            return {tool.name for tool in (await client.list_tools()).tools}

    settings = {"OLLAMA_MCP_STORE": str(SNAPSHOTS / "none"), **settings}
    return anyio.run(listed)


@hypothesis.settings(max_examples=30)
@given(
    st.sets(st.sampled_from(list(TOOLSETS))),
    st.sets(st.sampled_from(sorted(TOOLS))),
    st.booleans(),
    st.booleans(),
)
@example(set(), set(), True, False)
@example(set(TOOLSETS), set(TOOLS), False, True)
def test_toolsets_and_single_tools_are_added_up_and_read_only_beats_both(sets, tools, by_default, read_only):
    settings = {} if by_default else {"OLLAMA_MCP_TOOLSETS": ",".join(sorted(sets)) or "models"}
    settings |= {"OLLAMA_MCP_TOOLS": ",".join(sorted(tools))} if tools else {}
    settings |= {"OLLAMA_MCP_READ_ONLY": "1"} if read_only else {}
    on = BY_DEFAULT if by_default else sets or {"models"}
    wanted = {name for name, (toolset, _) in TOOLS.items() if toolset in on or name in tools}
    wanted = {name for name in wanted if not (read_only and TOOLS[name][1])}
    assert offered(settings) - WITH_EACH == wanted - WITH_EACH
    assert not wanted or offered(settings) >= WITH_EACH


OFF = [name for name, (toolset, _) in TOOLS.items() if toolset not in BY_DEFAULT]
CHANGING = [name for name, (_, changes) in TOOLS.items() if changes]
READ_ONLY = {"OLLAMA_MCP_TOOLSETS": "all", "OLLAMA_MCP_READ_ONLY": "1"}


@pytest.mark.parametrize(
    ("tool", "settings"), [*[(tool, {}) for tool in OFF], *[(tool, READ_ONLY) for tool in CHANGING]]
)
async def test_a_tool_that_is_off_cannot_be_called_by_its_name(fake, tool, settings):
    arguments = {"model": "m", "source": "m", "destination": "x", "confirm": "m:latest", "files": ["*"]}
    app = App.create(load({"OLLAMA_HOST": fake.url, **settings}))
    with anyio.fail_after(20):
        async with app, Client(create_server(app)) as client:
            result = await client.call_tool(tool, arguments)
    assert result.is_error
    says = "OLLAMA_MCP_READ_ONLY" if settings else f"toolset {TOOLS[tool][0]}, which is switched off here"
    assert result.content[0].text.startswith(f"FORBIDDEN: {tool} ")
    assert says in result.content[0].text
    assert not fake.requests


# --- who confirms --------------------------------------------------------------------------------

DESTRUCTIVE = {
    "ollama_delete_model": ({"model": "m"}, "m:latest", "/api/delete"),
    "ollama_copy_model": ({"source": "m", "destination": "n"}, "n:latest", "/api/copy"),
    "ollama_create_model": ({"model": "n", "from_model": "m", "system": "s"}, "n:latest", "/api/create"),
    "ollama_push_model": ({"model": "me/p"}, "me/p:latest", "/api/push"),
}
CONFIRMS = {
    # what is sent as `confirm`, for the name NAME: whether a client that cannot ask has confirmed with it
    "nothing": ("", False),
    "yes": ("yes", False),
    "true": ("true", False),
    "an asterisk": ("*", False),
    "the tool": ("TOOL", False),
    "another model": ("other:latest", False),
    "a name that begins so": ("NAMEx", False),
    "another tag": ("NAME-q4", False),
    "the name and more": ("NAME please", False),
    "the name in quotes": ('"NAME"', False),
    "a path to it": ("../NAME", False),
    "the exact name": ("NAME", True),
    "the name in capitals": ("CAPITALS", True),
}
SAYS = {
    "yes": (ElicitResult(action="accept", content={"confirm": True}), True),
    "an unticked box": (ElicitResult(action="accept", content={"confirm": False}), False),
    "nothing": (ElicitResult(action="accept"), False),
    "a word": (ElicitResult(action="accept", content={"confirm": "true"}), False),
    "no": (ElicitResult(action="decline"), False),
    "goes away": (ElicitResult(action="cancel"), False),
}


@pytest.fixture(scope="module")
def desk():
    """A fake and a server in front of it, for many event loops."""
    with FakeOllama.in_thread() as fake:
        app = App.create(load({"OLLAMA_HOST": fake.url, "OLLAMA_MCP_TOOLSETS": "all"}))
        yield fake, create_server(app)


async def done(desk, tool, confirm, user=None, mode="auto"):
    """Whether the server was changed."""
    fake, server = desk
    arguments, _, path = DESTRUCTIVE[tool]
    given = {**arguments, "confirm": confirm} if confirm else arguments
    fake.models.clear()
    for name in ("m", "n", "me/p"):
        fake.add_model(Model(name))
    before = len(fake.asked(path))
    with anyio.fail_after(20):
        async with Client(server, mode=mode, elicitation_callback=user) as client:
            result = await client.call_tool(tool, given)
    changed = len(fake.asked(path)) > before
    assert changed != result.is_error
    assert changed or result.content[0].text.startswith(("NOT_CONFIRMED: ", "INVALID_ARGUMENT: "))
    return changed


@pytest.mark.parametrize("tool", DESTRUCTIVE)
async def test_a_client_that_cannot_ask_confirms_by_the_exact_name(desk, subtests, thorough, tool):
    name = DESTRUCTIVE[tool][1]
    # What counts as the name is decided in one place for all of them: one tool is asked everything.
    is_whole = thorough or tool == "ollama_delete_model"
    for confirm in CONFIRMS if is_whole else ("nothing", "another model", "the exact name"):
        written, wanted = CONFIRMS[confirm]
        with subtests.test(confirm):
            sent = written.replace("NAME", name).replace("TOOL", tool).replace("CAPITALS", name.upper())
            assert await done(desk, tool, sent) == wanted


def _asked(tool: str, says: str, mode: str) -> Any:
    """A case of the next test; quick are all of one tool, and yes and no for the others."""
    is_quick = tool == "ollama_delete_model" or (says in {"yes", "no"} and mode == "auto")
    return pytest.param(tool, says, mode, marks=[] if is_quick else pytest.mark.long)


@pytest.mark.parametrize(
    ("tool", "says", "mode"),
    [_asked(*case) for case in itertools.product(DESTRUCTIVE, SAYS, ("auto", "legacy"))],
)
async def test_where_a_user_is_asked_only_the_users_yes_counts(desk, tool, says, mode):
    answer, wanted = SAYS[says]
    confirm = "" if wanted else "the exact name"
    asked = []

    async def user(_, params):
        asked.append(params.message)
        return answer

    assert await done(desk, tool, confirm and DESTRUCTIVE[tool][1], user, mode) == wanted
    assert len(asked) == 1
