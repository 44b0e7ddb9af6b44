"""In a crowd of calls, those that are answered at once pass; otherwise everything keeps its order."""

import json

from ollama_mcp.transports.stdio.framing import TooLong
from ollama_mcp.transports.stdio.inbox import _CROWD, PriorityInbox

OPENING = [b'{"jsonrpc":"2.0","id":0,"method":"initialize"}', b'{"method":"notifications/initialized"}']


def call(number: int, tool: str, **arguments: str) -> bytes:
    params = {"name": tool, "arguments": arguments}
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}).encode()


CALLS = [call(number, "chat", prompt='say "status" or "ping"') for number in range(2 * _CROWD)]
STATUS = call(9_999, "status")
PING = b'{"jsonrpc":"2.0","id":"p","method":"ping"}'
POLL = b'{"jsonrpc":"2.0","id":"t","method":"tasks/get","params":{"taskId":"0"}}'


def order(*lines: bytes) -> list[bytes]:
    lanes = PriorityInbox({"status"})
    for line in lines:
        lanes.add(line)
    found = []
    while lanes:
        found.append(lanes.take())
    return found


def test_what_is_answered_at_once_passes_a_crowd_in_its_own_order():
    assert order(*CALLS, STATUS, *CALLS, PING, POLL) == [CALLS[0], STATUS, PING, POLL, *CALLS[1:], *CALLS]


def test_without_a_crowd_nothing_passes():
    few = CALLS[:_CROWD]
    assert order(*few, STATUS) == [*few, STATUS]


def test_nothing_passes_the_opening_of_the_session():
    assert order(*OPENING, *CALLS, STATUS) == [*OPENING, CALLS[0], STATUS, *CALLS[1:]]


def test_a_cancel_stays_behind_the_call_that_it_is_for():
    cancel = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":3}}'
    assert order(*CALLS, cancel) == [*CALLS, cancel]


def test_what_only_looks_like_such_a_call_keeps_its_place():
    strangers = [
        call(1, "chat", prompt=STATUS.decode()),
        STATUS[:-1],
        b'{"method":"ping"}',
        call(2, "status", text="x" * 5_000),
        b'["ping"]',
    ]
    assert order(*CALLS, *strangers) == [*CALLS, *strangers]
    lanes = PriorityInbox({"status"})
    for line in (*CALLS, TooLong(PING, PING, 1)):
        lanes.add(line)
    assert [lanes.take() for _ in CALLS] == CALLS


def test_those_that_pass_are_taken_even_where_nothing_else_waits_any_more():
    lanes = PriorityInbox({"status"})
    for line in (*OPENING, *[OPENING[1]] * _CROWD, STATUS):
        lanes.add(line)
    for _ in range(_CROWD + 2):
        assert lanes.take() in OPENING
    assert lanes.take() == STATUS
    assert not lanes
