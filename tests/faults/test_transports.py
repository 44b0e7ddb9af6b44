"""One fault of each code through the command on each transport: the code, and nothing else, comes out."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from ollama_mcp.testing import FakeOllama

from .drivers import TRANSPORTS
from .kinds import CASES, Case
from .play import Upstream, play, warm_up
from .rules import OK, check, codes

pytestmark = [pytest.mark.anyio, pytest.mark.gate]


def one_of_each_code() -> dict[str, Case]:
    """The first case of each code in which a case can end, where it can end in no other."""
    found: dict[str, Case] = {}
    for case in CASES.values():
        (code, *others) = codes(case)
        if not others and code != OK:
            found.setdefault(code, case)
    return found


ONE_OF_EACH = one_of_each_code()


def test_every_code_that_a_fault_ends_in_has_its_case():
    assert ONE_OF_EACH.keys() == {code for case in CASES.values() for code in codes(case)} - {OK, "LATE"}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_fault_of_each_code_comes_out_as_it(transport: str, tmp_path: Path):
    with anyio.fail_after(240), (tmp_path / "stderr").open("w+") as stderr:
        async with (
            FakeOllama() as fake,
            TRANSPORTS[transport]({"OLLAMA_HOST": fake.url}, stderr) as driver,
        ):
            upstream = Upstream(fake)
            await warm_up(driver)
            for number, case in enumerate(ONE_OF_EACH.values()):
                check(case, await play(driver, upstream, case, f"m{number}"))
            await fake.wait_for(lambda fake: fake.in_flight == 0)
            assert fake.open_connections <= 2
        stderr.seek(0)
        assert stderr.read() == ""
