"""Progress is never queued behind anything: a client that reads again gets the newest report only."""

import os
import threading

import anyio
import pytest
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCNotification, JSONRPCResponse

from ollama_mcp.transports.stdio.outbox import Outbox

RESULT = SessionMessage(JSONRPCResponse(jsonrpc="2.0", id=1, result={}))
REPORT = SessionMessage(
    JSONRPCNotification(
        jsonrpc="2.0", method="notifications/progress", params={"progressToken": 1, "progress": 1}
    )
)


@pytest.mark.anyio
async def test_a_report_waits_until_what_is_before_it_and_it_itself_are_written():
    read_end, write_end = os.pipe()
    outbox, sent = Outbox(), anyio.Event()

    async def report() -> None:
        await outbox.send(REPORT)
        sent.set()

    with anyio.fail_after(5):
        await outbox.send(RESULT)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(report)
            await anyio.wait_all_tasks_blocked()
            assert outbox._queue.qsize() == 1, "the report was queued behind the result"
            pump = threading.Thread(target=outbox.pump, args=(write_end, lambda: None), daemon=True)
            pump.start()
            await sent.wait()
            lines = os.read(read_end, 65536).splitlines()
    assert [b"progress" in line for line in lines] == [False, True], "send returned before it was written"
    os.close(read_end)
    outbox.put(RESULT.message)  # cannot be written, which ends the thread
    pump.join(5)
    os.close(write_end)
