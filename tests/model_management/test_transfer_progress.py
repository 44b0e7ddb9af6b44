"""Progress of a transfer only grows, is never above its total, and reads as a person wants it."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_mcp.jobs.job import Job, JobState
from ollama_mcp.ollama.api_models import ProgressLine
from ollama_mcp.ollama.ndjson import parse_object
from ollama_mcp.services.transfer_progress import SPACING_S, Layers, TransferProgress
from ollama_mcp.testing import Exchange

RECORDINGS = Path(__file__).parent.parent / "recordings"
ANY_NUMBER = st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 30)
LINES = st.lists(
    st.builds(
        ProgressLine,
        status=st.sampled_from(["pulling a", "pulling manifest", "verifying sha256 digest", ""]) | st.text(),
        digest=st.sampled_from(["", "sha256:a", "sha256:b", "sha256:c"]) | st.text(max_size=3),
        total=ANY_NUMBER,
        completed=ANY_NUMBER,
    ),
    max_size=40,
)


class Watch:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def line(status: str, digest: str = "", total: int = 0, completed: int = 0) -> ProgressLine:
    return ProgressLine(status=status, digest=digest, total=total, completed=completed)


def recorded(name: str) -> list[ProgressLine]:
    body = Exchange.load(RECORDINGS / f"{name}.json").body()
    return [ProgressLine.parse(parse_object(part)) for part in body.splitlines() if part]


# --- the sum over all layers -------------------------------------------------------------------


@given(LINES)
def test_whatever_lines_come_the_count_grows_and_stays_below_the_total(lines):
    layers, counts, totals = Layers(), [0], [0]
    for each in lines:
        layers.feed(each)
        counts.append(layers.count)
        totals.append(layers.total)
        assert 0 <= layers.moved <= layers.count <= layers.total
        assert 0 <= layers.missing <= layers.total
    assert counts == sorted(counts)
    assert totals == sorted(totals)
    layers.finish()
    assert layers.count == layers.total


@given(LINES, st.lists(st.floats(0, 100), min_size=41, max_size=41))
def test_whatever_lines_come_a_reply_can_be_told(lines, waits):
    watch, job = Watch(), Job[None]()
    meter, shown = TransferProgress(job, watch), [0]
    for each, wait in zip(lines, waits, strict=False):
        meter.take(each)
        assert len(job.status()) <= 160
        assert "\n" not in job.status()
        assert job.count >= shown[-1]
        assert job.count <= (job.total or 0)
        shown.append(job.count)
        watch.time += wait
    meter.finish()
    assert job.count == (job.total or 0)


def test_a_layer_that_goes_back_does_not_take_the_count_with_it():
    layers = Layers()
    for completed in (50, 20, 60):
        layers.feed(line("pulling a", "a", 100, completed))
    assert (layers.count, layers.total) == (60, 100)


def test_layers_add_up():
    layers = Layers()
    for digest, total, completed in (("a", 100, 100), ("b", 50, 10), ("a", 100, 100)):
        layers.feed(line("pulling", digest, total, completed))
    assert (layers.count, layers.total) == (110, 150)


def test_what_was_there_before_has_not_moved():
    layers = Layers()
    for completed in (700, 750):
        layers.feed(line("pulling a", "a", 1000, completed))
    assert (layers.count, layers.moved) == (750, 50)


def test_a_server_that_names_layers_for_ever_fills_no_memory():
    layers = Layers()
    for place in range(20_000):
        layers.feed(line("pulling", str(place), 1, 1))
    assert layers.total == 10_000


@pytest.mark.parametrize(("name", "missing"), [("pull-again", 0), ("pull-resumes", 98362432)])
def test_only_layers_that_are_not_there_are_missing(name, missing):
    layers = Layers()
    for each in recorded(name):
        layers.feed(each)
    assert layers.missing == missing


@pytest.mark.parametrize("name", ["pull-client-leaves", "pull-resumes", "pull-again", "push"])
def test_recorded_progress_only_grows(name):
    layers, counts = Layers(), [0]
    for each in recorded(name):
        layers.feed(each)
        counts.append(layers.count)
    assert counts == sorted(counts)
    assert layers.total in (98362432, 98362432 + 102 + 59 + 152)


def test_a_pull_that_was_broken_off_begins_where_it_was():
    layers = Layers()
    for each in recorded("pull-resumes")[:2]:
        layers.feed(each)
    assert (layers.count, layers.moved) == (18874368, 0)


# --- the line for people -----------------------------------------------------------------------


def pulled(*steps: tuple[float, ProgressLine]) -> Job[None]:
    """A Job after lines that came at those seconds."""
    watch, job = Watch(), Job[None]()
    meter = TransferProgress(job, watch)
    for at, each in steps:
        watch.time = 100.0 + at
        meter.take(each)
    return job


def test_the_line_says_amount_share_speed_time_left_and_what_is_done():
    digest = "6a0746a1ec1a" + "0" * 52
    job = pulled(
        (0, line("pulling manifest")),
        (1, line("pulling 6a0746a1ec1a", digest, 4_700_000_000, 1_018_000_000)),
        (5, line("pulling 6a0746a1ec1a", digest, 4_700_000_000, 1_234_000_000)),
    )
    # The manifest does not belong to what the speed is measured over: 216 MB in 4 s.
    assert job.status() == "1.2 of 4.7 GB · 26 % · 54 MB/s · 64 s left · pulling 6a0746a1ec1a"
    assert (job.state, job.count, job.total) == (JobState.WORKING, 1_234_000_000, 4_700_000_000)


def test_what_was_there_before_counts_for_no_speed():
    job = pulled(*[(at, line("pulling a", "a", 10**9, 9 * 10**8)) for at in (0, 1)])
    assert job.status() == "0.9 of 1.0 GB · 90 % · pulling a"


def test_before_any_bytes_the_line_says_what_is_waited_for():
    job = Job[None]()
    job.model = "qwen3:8b"
    meter = TransferProgress(job, Watch())
    assert job.status() == "waiting for qwen3:8b"
    meter.take(line("pulling manifest"))
    assert job.status() == "pulling manifest"
    assert job.first_at is None


def test_checking_what_has_come_has_no_speed_but_says_how_long_it_takes():
    watch, job = Watch(), Job[None]()
    meter = TransferProgress(job, watch)
    for each in (line("pulling a", "a", 10**9, 0), line("pulling a", "a", 10**9, 10**9), line("verifying")):
        meter.take(each)
        watch.time += 12
    assert job.status() == "1.0 of 1.0 GB · 100 % · verifying, 12 s"


def test_a_stalled_pull_gets_slower_instead_of_keeping_its_last_speed():
    watch, job = Watch(), Job[None]()
    meter = TransferProgress(job, watch)
    meter.take(line("pulling a", "a", 10**9, 1))
    watch.time += 1
    meter.take(line("pulling a", "a", 10**9, 10**8))
    fast = job.status()
    watch.time += 9
    assert "100 MB/s" in fast
    assert "10 MB/s" in job.status()


def test_a_reply_gets_at_most_four_counts_a_second():
    watch, job, counts = Watch(), Job[None](), []
    meter = TransferProgress(job, watch)
    for completed in range(1, 171):  # ten seconds of Ollama's seventeen lines
        meter.take(line("pulling a", "a", 1000, completed))
        counts.append(job.count)
        watch.time += 1 / 17
    changes = sum(1 for before, after in itertools.pairwise(counts) if before != after)
    assert changes <= 10 / SPACING_S


def test_a_status_shows_neither_paths_nor_whole_digests():
    meter = TransferProgress(Job[None]())
    meter.take(line("creating new layer sha256:" + "ab" * 32))
    assert meter.status == "creating new layer abababababab"
    meter.take(line("open /var/lib/ollama/blobs/x"))
    assert "/var" not in meter.status
