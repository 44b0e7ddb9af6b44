"""Pull, push and create: what is refused, what wants a confirmation, what being broken off means."""

import anyio
import pytest

from ollama_mcp.errors import (
    Busy,
    Forbidden,
    InvalidArgument,
    ModelNotFound,
    NotConfirmed,
    StreamBroken,
    Timeout,
    TooLarge,
    Truncated,
    UnknownOption,
    Upstream,
)
from ollama_mcp.jobs.job import JobState
from ollama_mcp.services.confirmation import Confirmation
from ollama_mcp.services.create import build_create
from ollama_mcp.settings.limits import Limits
from ollama_mcp.testing import Model, Script

pytestmark = pytest.mark.anyio

GB = 1_000_000_000
PULL, PUSH, CREATE = "/api/pull", "/api/push", "/api/create"


def layer(digest: str, total: int, completed: int) -> bytes:
    told = f'"digest":"sha256:{digest}","total":{total},"completed":{completed}'
    return f'{{"status":"pulling {digest}",{told}}}'.encode()


MANIFEST, SUCCESS = b'{"status":"pulling manifest"}', b'{"status":"success"}'


# --- pull --------------------------------------------------------------------------------------


async def test_a_pulled_model_is_installed_and_described(bench):
    with anyio.fail_after(5):
        async with bench() as b:
            job = b.begin_pull("smollm2:135m")
            done = await job.result()
    assert (done.model, done.status, done.bytes, done.notes) == ("smollm2:135m", "success", 2019393189, [])
    assert done.digest == Model("smollm2:135m").digest
    assert done.size == 2019393189
    assert (job.count, job.total, job.unit) == (2019393189, 2019393189, "bytes")
    assert job.state is JobState.DONE


async def test_what_was_known_of_a_model_is_forgotten_when_it_is_pulled(bench):
    with anyio.fail_after(5):
        async with bench(Model("m", ("completion",))) as b:
            assert "vision" not in (await b.app.catalog.find("m")).capabilities
            b.fake.models["m:latest"].capabilities = ("completion", "vision")
            await b.pull("m")
            assert "vision" in (await b.app.catalog.find("m")).capabilities


async def test_a_pull_above_the_limit_stops_and_says_what_to_confirm(bench):
    lines = [MANIFEST, layer("a", 15 * GB, GB), layer("b", 9 * GB, 1), layer("b", 9 * GB, 2), SUCCESS]
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(Script(lines=lines, how="silence", cut_after_tokens=4), path=PULL)
            job = b.begin_pull("big:70b")
            with pytest.raises(NotConfirmed) as refused:
                await job.result()
            await b.fake.wait_for(lambda fake: fake.disconnects == 1)
    error = refused.value
    assert "24.0 GB" in str(error)
    assert "OLLAMA_MCP_MAX_PULL_GB (20)" in str(error)
    assert 'confirm="big:70b"' in error.remedy
    assert error.details["bytes"] == 24 * GB
    assert Confirmation.of(error) == Confirmation("big:70b", "")


async def test_a_confirmed_pull_may_be_of_any_size(bench):
    with anyio.fail_after(5):
        async with bench(max_pull_gb=0.5) as b:
            with pytest.raises(NotConfirmed):
                await b.pull("big")
            with pytest.raises(NotConfirmed, match="'other' was confirmed"):
                await b.pull("big", confirmed=Confirmation("other"))
            assert (await b.pull("big", confirmed=Confirmation("big:latest"))).status == "success"


async def test_every_pull_wants_a_confirmation_where_the_limit_is_nothing(bench):
    with anyio.fail_after(5):
        async with bench(max_pull_gb=0.0) as b:
            with pytest.raises(NotConfirmed):
                await b.pull("small")


async def test_a_large_model_that_is_there_already_is_brought_up_to_date_unasked(bench):
    lines = [MANIFEST, layer("a", 400 * GB, 400 * GB), layer("b", GB, 1), SUCCESS]
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(Script(lines=lines), path=PULL)
            assert (await b.pull("big")).bytes == 401 * GB


async def test_a_model_that_was_made_here_is_replaced_by_a_registrys_only_where_that_was_confirmed(bench):
    with anyio.fail_after(5):
        async with bench(Model("m")) as b:
            await b.create("mine", "m", system="Mine.")
            made = await b.app.catalog.entry("mine")
            with pytest.raises(NotConfirmed, match="overwrite mine:latest"):
                await b.pull("registry.ollama.ai/library/MINE")
            with pytest.raises(NotConfirmed, match="changed"):
                await b.pull("mine", confirmed=Confirmation("mine", "f" * 64))
            assert b.sent(PULL) == []
            assert (await b.pull("mine", confirmed=Confirmation("mine", made.digest))).status == "success"


async def test_a_yes_to_replace_a_model_counts_also_where_the_new_one_is_large(bench):
    with anyio.fail_after(5):
        async with bench(Model("m"), max_pull_gb=0.0) as b:
            await b.create("mine", "m", system="Mine.")
            made = await b.app.catalog.entry("mine")
            assert (await b.pull("mine", confirmed=Confirmation("mine", made.digest))).status == "success"


async def test_a_pull_whose_registry_has_no_such_model_says_so(bench):
    error = b'{"error":"pull model manifest: file does not exist"}'
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(Script(lines=[MANIFEST, error]), path=PULL)
            with pytest.raises(ModelNotFound, match="no registry has"):
                await b.pull("nope:1b")


async def test_a_cancelled_pull_closes_its_connection_and_says_that_it_resumes(bench):
    lines = [MANIFEST, layer("a", 4 * GB, GB), SUCCESS]
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(Script(lines=lines, how="silence", cut_after_tokens=2), path=PULL)
            job = b.begin_pull("m")
            await job.begun.wait()
            await job.cancel()
            await b.fake.wait_for(lambda fake: fake.disconnects == 1)
    assert job.state is JobState.CANCELLED
    assert job.notes == ["Stopped at 1.0 of 4.0 GB, what has come is kept: pulling m again goes on there"]


@pytest.mark.parametrize(
    ("script", "failure"),
    [
        (
            Script(lines=[MANIFEST, layer("a", 4 * GB, GB), SUCCESS], how="reset", cut_after_tokens=2),
            StreamBroken,
        ),
        (Script(lines=[MANIFEST, layer("a", 4 * GB, GB)]), Truncated),
    ],
)
async def test_a_pull_that_breaks_off_says_that_pulling_again_resumes(bench, script, failure):
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(script, path=PULL)
            with pytest.raises(failure) as broken:
                await b.pull("m")
            assert len(b.fake.asked(PULL)) == 1  # never sent again by ourselves
    assert broken.value.remedy.startswith("Stopped at 1.0 of 4.0 GB")
    assert "pulling m again" in broken.value.remedy


async def test_transfers_have_an_idle_clock_of_their_own(bench):
    script = Script(lines=[MANIFEST, layer("a", 4 * GB, GB), SUCCESS], how="silence", cut_after_tokens=2)
    with anyio.fail_after(5):
        async with bench(timeouts={"idle": 30.0, "transfer": 0.1}) as b:
            b.fake.script(script, path=PULL)
            with pytest.raises(Timeout) as late:
                await b.pull("m")
    assert late.value.details == {"clock": "transfer"}
    assert "pulling m again" in late.value.remedy


async def test_the_idle_clock_of_answers_does_not_end_a_pull(bench):
    lines = [MANIFEST, layer("a", GB, GB), SUCCESS]
    with anyio.fail_after(5):
        async with bench(timeouts={"idle": 0.1, "transfer": 5.0}) as b:
            b.fake.script(Script(lines=lines, delay=0.3), path=PULL)
            assert (await b.pull("m")).status == "success"


async def test_a_registry_that_cannot_be_reached_is_an_error_without_its_addresses(bench):
    error = b'{"error":"pull model manifest: dial tcp: lookup x on 198.51.100.53:53: no such host"}'
    with anyio.fail_after(5):
        async with bench() as b:
            b.fake.script(Script(lines=[MANIFEST, error]), path=PULL)
            with pytest.raises(Upstream) as failed:
                await b.pull("m")
    assert "198.51" not in str(failed.value)


# --- push --------------------------------------------------------------------------------------


async def test_a_push_wants_that_very_content_confirmed(bench):
    with anyio.fail_after(5):
        async with bench(Model("me/m")) as b:
            with pytest.raises(NotConfirmed, match=r"registry\.ollama\.ai") as refused:
                await b.push("me/m")
            with pytest.raises(NotConfirmed, match="has changed"):
                await b.push("me/m", confirmed=Confirmation("me/m", "an older digest"))
            assert b.fake.asked(PUSH) == []
            done = await b.push("me/m", confirmed=Confirmation.of(refused.value))
    assert (done.model, done.status, done.bytes) == ("me/m:latest", "success", 2019393189)


async def test_transfers_share_one_line_and_the_next_one_waits_or_is_busy(bench, in_line):
    with anyio.fail_after(10):
        async with bench(parallel=1, queue=1) as b:
            b.fake.script(Script(lines=[b'{"status":"success"}'], hold_after_tokens=0), path=PULL)
            first = b.begin_pull("a")
            await b.fake.wait_for(lambda fake: fake.asked(PULL))
            second = b.begin_pull("b")
            while second.queue_entry is None:
                await anyio.lowlevel.checkpoint()
            assert second.status().startswith(in_line(1, "b"))
            with pytest.raises(Busy):
                await b.pull("c")
            b.fake.release()
            assert (await first.result()).status == (await second.result()).status == "success"
            assert len(b.fake.asked(PULL)) == 2


async def test_a_model_that_is_not_installed_is_not_pushed(bench):
    with anyio.fail_after(5):
        async with bench(Model("me/m")) as b:
            with pytest.raises(ModelNotFound, match=r"me/n.*ollama_list_models"):
                await b.push("me/n", confirmed=Confirmation("me/n"))
            assert b.fake.asked(PUSH) == []


async def test_a_name_without_an_account_is_not_pushed(bench):
    with anyio.fail_after(5):
        async with bench(Model("m")) as b:
            with pytest.raises(InvalidArgument, match="<account>/m:latest"):
                await b.push("m", confirmed=Confirmation("m"))


async def test_a_push_to_the_account_of_others_is_forbidden(bench):
    said = b'{"error":"unauthorized: access denied"}'
    with anyio.fail_after(5):
        async with bench(Model("you/m")) as b:
            b.fake.script(Script(lines=[MANIFEST, said]), path=PUSH)
            with pytest.raises(Forbidden, match="ollama signin"):
                await b.push("you/m", confirmed=Confirmation("you/m"))


# --- create ------------------------------------------------------------------------------------


async def test_a_model_is_created_from_an_installed_one(bench):
    with anyio.fail_after(5):
        async with bench(Model("base")) as b:
            done = await b.create(
                "pirate",
                "base",
                system="You are a pirate.",
                template="{{ .Prompt }}!",
                parameters={"max_tokens": 8, "temperature": 0, "stop": "Arr", "mirostat": 1},
                messages=[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Arr"}],
                quantize="q4_K_M",
                license="MIT",
            )
            sent = b.sent(CREATE)
    assert (done.model, done.status) == ("pirate:latest", "success")
    assert done.notes == ["option mirostat was dropped: Ollama retired it"]
    assert sent == [
        {
            "model": "pirate",
            "from": "base",
            "system": "You are a pirate.",
            "template": "{{ .Prompt }}!",
            "parameters": {"num_predict": 8, "temperature": 0.0, "stop": ["Arr"]},
            "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Arr"}],
            "quantize": "q4_K_M",
            "license": "MIT",
            "stream": True,
        }
    ]


async def test_nothing_is_created_from_a_model_that_ollama_would_have_to_pull(bench):
    with anyio.fail_after(5):
        async with bench(Model("base")) as b:
            for source in ("nope:1b", "hf.co/a/b", "base:other"):
                with pytest.raises(ModelNotFound):
                    await b.create("new", source)
            assert b.fake.asked(CREATE) == []


async def test_a_name_that_is_taken_is_overwritten_only_when_that_was_confirmed(bench):
    with anyio.fail_after(5):
        async with bench(Model("base"), Model("mine")) as b:
            with pytest.raises(NotConfirmed, match="overwrite mine:latest") as refused:
                await b.create("Mine", "base")
            with pytest.raises(NotConfirmed):
                await b.create("base", "base", system="x")
            assert b.fake.asked(CREATE) == []
            await b.create("mine", "base", confirmed=Confirmation.of(refused.value), system="x")
            with pytest.raises(NotConfirmed, match="has changed"):  # since it was overwritten
                await b.create("mine", "base", confirmed=Confirmation.of(refused.value))


@pytest.mark.parametrize(
    ("wrong", "failure"),
    [
        ({"parameters": {"temperature": "hot"}}, InvalidArgument),
        ({"parameters": {"temperature": True}}, InvalidArgument),
        ({"parameters": {"num_ctx": 1.5}}, InvalidArgument),
        ({"parameters": {"stop": [1]}}, InvalidArgument),
        ({"parameters": {"temprature": 1}}, UnknownOption),
        ({"quantize": "q4; rm"}, InvalidArgument),
        ({"messages": ["hi"]}, InvalidArgument),
        ({"messages": [{"role": "tool", "content": "x"}]}, InvalidArgument),
        ({"messages": [{"role": ["user"], "content": "x"}]}, InvalidArgument),
        ({"messages": [{"role": "user", "content": 1}]}, InvalidArgument),
        ({"messages": [{"role": "user", "content": "x", "images": ["/etc/passwd"]}]}, InvalidArgument),
        ({"source": " "}, InvalidArgument),
    ],
)
def test_what_would_break_the_model_later_is_refused_now(wrong, failure):
    with pytest.raises(failure):
        build_create(**({"model": "new", "source": "base"} | wrong))


async def test_what_ollama_refuses_while_it_creates_is_an_error(bench):
    said = b'{"error":"quantization is only supported for F16 and F32 models"}'
    with anyio.fail_after(5):
        async with bench(Model("base")) as b:
            b.fake.script(Script(lines=[b'{"status":"x"}', said]), path=CREATE)
            with pytest.raises(InvalidArgument, match="F16"):
                await b.create("new", "base", quantize="Q4_K_M")


async def test_options_of_a_model_are_lowered_like_those_of_a_call(bench):
    with anyio.fail_after(5):
        async with bench(Model("base"), max_context=4096) as b:
            done = await b.create("new", "base", parameters={"num_ctx": 100_000, "num_predict": 8})
            sent = b.sent(CREATE)
    assert sent[0]["parameters"] == {"num_ctx": 4096, "num_predict": 8}
    assert done.notes == ["num_ctx lowered from 100000 to 4096, the most that OLLAMA_MCP_MAX_CONTEXT allows"]


@pytest.mark.parametrize(
    ("large", "setting"),
    [
        ({"system": "x" * 11}, "PROMPT"),
        ({"template": "x" * 11}, "PROMPT"),
        ({"license": "x" * 11}, "PROMPT"),
        ({"parameters": {"stop": ["x" * 11]}}, "PROMPT"),
        ({"messages": [{"role": "user", "content": "x"}] * 3}, ""),
        ({"messages": [{"role": "user", "content": "x" * 30}]}, ""),
    ],
)
def test_what_is_too_large_for_a_model_is_told_with_its_setting(large, setting):
    limits = Limits(prompt=10, messages=2, messages_size=20)
    with pytest.raises(TooLarge, match=f"OLLAMA_MCP_MAX_{setting}" if setting else '"messages" has'):
        build_create(model="new", source="base", limits=limits, **large)


# --- old servers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "warned"),
    [("0.17.0", True), ("0.9.6", True), ("0.17.1", False), ("0.33.0-rc2", False), ("dev", False)],
)
async def test_servers_that_leak_memory_are_warned_of(bench, version, warned):
    with anyio.fail_after(5):
        async with bench(Model("me/base"), version=version) as b:
            created = await b.create("new", "me/base")
            pushed = await b.push("me/base", confirmed=Confirmation("me/base"))
    for done in (created, pushed):
        assert any("CVE-2026-7482" in note for note in done.notes) is warned


async def test_a_server_that_hides_its_version_is_used_all_the_same(bench):
    with anyio.fail_after(5):
        async with bench(Model("base")) as b:
            b.fake.script(Script(status=500, body={"error": "no"}), path="/api/version")
            assert (await b.create("new", "base")).notes == []


async def test_a_model_that_somebody_else_has_deleted_is_not_pulled_to_make_another_from_it(bench):
    with anyio.fail_after(5):
        async with bench(Model("m"), Model("n")) as b:
            await b.app.catalog.find("m")
            del b.fake.models["m:latest"]
            with pytest.raises(ModelNotFound):
                await b.create("new", "m", system="s")
            assert b.sent(CREATE) == []
