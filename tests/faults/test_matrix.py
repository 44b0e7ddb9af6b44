"""Every fault of an upstream at every moment of every request, through the command on every transport."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from .calls import TEXTS
from .drivers import TRANSPORTS
from .kinds import CASES, Case
from .play import AT_ONCE, MOST_S, Played, Seen, play
from .rules import OK, clock, codes, tries

FOUND_OUT = {"MODEL_NOT_FOUND", "CONTEXT_OVERFLOW"}
"""What is told with more than the answer itself said."""


class Plays:
    """What was played, a transport at a time: all of its cases that this run of pytest has, and no others."""

    def __init__(self, items: list[pytest.Item], folder: Path) -> None:
        self._folder = folder
        self._cases: dict[str, list[Case]] = {transport: [] for transport in TRANSPORTS}
        self._played: dict[str, Played] = {}
        for item in items:
            told = getattr(item, "callspec", None)
            if told is not None and {"transport", "case"} <= told.params.keys():
                self._cases[told.params["transport"]].append(told.params["case"])

    def on(self, transport: str) -> Played:
        if transport not in self._played:
            folder = self._folder / transport
            folder.mkdir()
            self._played[transport] = anyio.run(play, transport, self._cases[transport], folder)
        return self._played[transport]


@pytest.fixture(scope="module")
def plays(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Plays:
    return Plays(request.session.items, tmp_path_factory.mktemp("plays"))


def test_there_are_at_least_24_faults_at_6_moments_and_1500_cases():
    faults, moments = {case.fault for case in CASES.values()}, {case.moment for case in CASES.values()}
    count = len(CASES) * len(TRANSPORTS)
    print(f"{len(faults)} faults, {len(moments)} moments, {len(TRANSPORTS)} transports: {count} cases")
    assert len(faults) >= 24
    assert len(moments) >= 6
    assert count >= 1500


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_fault_ends_in_its_code_in_time_and_the_next_call_works(plays, transport, case):
    seen = plays.on(transport).seen[case.id]
    code = seen.outcome.code or OK
    assert code in codes(case), seen
    assert seen.seconds < MOST_S
    assert seen.asked == tries(case)
    assert (seen.then.code, seen.left) == ("", True)
    if code == OK:
        check_success(case, seen)
    elif seen.outcome.error:
        check_failure(case, seen, code)


def check_success(case: Case, seen: Seen) -> None:
    if case.endpoint.texts and case.moment != "first-byte":
        assert seen.outcome.text.startswith("".join(TEXTS))


def check_failure(case: Case, seen: Seen, code: str) -> None:
    text, error = seen.outcome.text, seen.outcome.error
    assert text.startswith(f"{code}: ")
    assert len(text) <= 400
    assert error["error_id"] is None
    if code == "TIMEOUT":
        assert error["clock"] == clock(case)
    if case.fault.startswith("status-") and code not in FOUND_OUT:
        assert error["upstream_status"] == (None if "cut" in case.fault else int(case.fault[7:10]))
    if case.endpoint.texts and case.moment != "answer" and code != "NOT_OLLAMA":
        assert error["partial_text"] == case.endpoint.text_until(case.moment)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_nothing_is_left_behind(plays, transport):
    played = plays.on(transport)
    assert played.stderr == ""
    assert played.in_flight == 0
    assert played.connections <= 2 * AT_ONCE
