"""Calls whose model is not known yet: as many may look it up as may run and wait."""

from contextlib import ExitStack

import pytest

from ollama_mcp.errors import Busy
from ollama_mcp.guards import Gate

pytestmark = pytest.mark.anyio


async def test_no_more_look_a_model_up_than_may_run_and_wait():
    now = [0.0]
    gate = Gate(parallel=1, queue=2, clock=lambda: now[0])
    with ExitStack() as stack:
        for name in ("llama3.2", "llama3.2:latest", "LLAMA3.2"):
            stack.enter_context(gate.looking_up(name))
        now[0] = 7.0
        with pytest.raises(Busy) as told, gate.looking_up("llama3.2"):
            pass
        with gate.looking_up("another"), gate.looking_up(""):
            pass
    assert told.value.retry_after_s == 7.0
    assert "3 calls wait for Ollama" in str(told.value)
    with gate.looking_up("llama3.2"):
        pass
    assert gate.statistics() == ()


async def test_a_place_is_free_again_when_the_lookup_fails():
    gate = Gate(parallel=1, queue=0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), gate.looking_up("m"):
            raise ZeroDivisionError
    assert not gate._lookups.here()
