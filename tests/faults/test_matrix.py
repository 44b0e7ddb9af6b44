"""Every fault of Ollama at every moment: digested in the client, so tested in one process."""

from __future__ import annotations

import pytest

from ollama_mcp.testing import FakeOllama

from .drivers import CLOCK_S, in_process
from .kinds import CASES, Case
from .play import Upstream, play, warm_up
from .rules import check

PARTS = 4
"""Tests into which the cases are divided, for more than one core."""


def test_there_are_at_least_24_faults_at_6_moments_and_700_cases():
    assert len({case.fault for case in CASES.values()}) >= 24
    assert len({case.moment for case in CASES.values()}) >= 6
    assert len(CASES) >= 700


def _sample() -> list[Case]:
    """Every fault at every second of its moments, at one endpoint, in turn: what the quick suite tries."""
    groups: dict[tuple[str, str], list[Case]] = {}
    for case in CASES.values():
        groups.setdefault((case.fault, case.moment), []).append(case)
    return [group[place % len(group)] for place, group in enumerate(groups.values())][::2]


@pytest.mark.parametrize("part", range(PARTS))
def test_a_fault_ends_in_its_code_in_time_and_the_next_call_works(virtually, thorough, part):
    failed: dict[str, str] = {}
    cases = list(CASES.values()) if thorough else _sample()

    async def run() -> None:
        async with FakeOllama() as fake, in_process({"OLLAMA_HOST": fake.url}) as driver:
            upstream = Upstream(fake)
            await warm_up(driver)
            for number, case in enumerate(cases[part::PARTS]):
                seen = await play(driver, upstream, case, f"m{number}")
                note(case, seen)
            assert fake.in_flight == 0
            assert fake.open_connections <= 2

    def note(case: Case, seen: object) -> None:
        try:
            check(case, seen)
            assert seen.seconds <= 2 * CLOCK_S + 1
        except AssertionError as error:
            failed[case.id] = f"{error} {seen}"

    virtually(run)
    assert not failed, "\n".join(f"{case}: {what}" for case, what in failed.items())
