"""Upstreams as real processes: what they print, of what they die, and how they come back."""

import os
import signal
import sys
from pathlib import Path

import anyio
import pytest

from ollama_mcp.services.upstream_pool import UpstreamPool
from ollama_mcp.settings.upstreams import UpstreamServer
from ollama_mcp.sources import SourceError
from ollama_mcp.tools.upstreams import child_process
from ollama_mcp.tools.upstreams.source import Upstreams

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]
CHILD = str(Path(__file__).with_name("child.py"))


@pytest.fixture
async def upstream(monkeypatch):
    """Make a source of one server; a busy machine takes its time to start one."""
    monkeypatch.setattr("ollama_mcp.services.upstream_pool.BEGIN_S", 60.0)
    made: list[UpstreamPool] = []

    def upstream(kind: str, **fields: object) -> Upstreams:
        server = UpstreamServer("up", **{"command": sys.executable, "args": (CHILD, kind)} | fields)
        made.append(UpstreamPool([server]))
        return Upstreams(made[-1])

    yield upstream
    for pool in made:
        await pool.aclose()


@pytest.mark.parametrize(
    ("kind", "version"),
    [("normal", "2026-07-28"), ("noisy", "2026-07-28"), ("dies_on_discover", "2025-11-25")],
)
async def test_each_server_is_spoken_to_in_its_version_whatever_it_prints(upstream, kind, version):
    source = upstream(kind)
    assert "up__rows" in {tool.name for tool in await source.tools()}
    opened = await source._pool.client("up", source._connect)
    assert opened.client.protocol_version == version


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"args": (CHILD, "exits"), "env": {"KEY": "k"}}, "it has ended; it said: no such database: k"),
        ({"command": "/no/such/command"}, "it cannot be started (No such file or directory)"),
        ({"cwd": "/no/such/folder"}, "it cannot be started (No such file or directory)"),
    ],
)
async def test_a_server_that_does_not_start_says_why(upstream, fields, why):
    source = upstream("normal", **fields)
    assert (await source.tools()).failures == {"up__": f"upstream up: {why}"}


async def test_a_server_that_was_killed_is_started_again(upstream, tmp_path):
    pids = tmp_path / "pids"
    source = upstream("normal", env={"PIDS": str(pids)})
    await source.tools()
    os.kill(int(await anyio.Path(pids).read_text()), signal.SIGKILL)
    with anyio.fail_after(30):
        while source._pool.statuses()[0].state == "running":
            await anyio.sleep(0.01)
    assert source._pool.statuses()[0].error == "it has ended"
    assert (await source.call("up__rows", {"query": "x"}))[0].title == "Parking"
    assert len((await anyio.Path(pids).read_text()).split()) == 2


async def test_a_line_that_is_too_long_ends_the_connection_and_not_us(upstream, monkeypatch):
    monkeypatch.setattr(child_process, "_LONGEST", 1000)
    source = upstream("normal")
    with pytest.raises(SourceError, match="a line of more than"):
        await source.offered(source._pool.servers["up"])
