"""One prompt over many files: a row for each; what was answered is not asked again."""

import os
from pathlib import Path

import anyio
import pytest

from ollama_mcp.errors import CapabilityMissing, Forbidden, InvalidArgument, ModelNotFound, OllamaError
from ollama_mcp.services.files import batch_answers as answers
from ollama_mcp.services.files.batch import build_batch
from ollama_mcp.services.files.batch_answers import Memory, Output, output_folders
from ollama_mcp.settings import Settings
from ollama_mcp.testing import Model, Script

pytestmark = pytest.mark.anyio


def fill(root: Path, count: int) -> None:
    for number in range(count):
        (root / f"{number:02}.txt").write_text(f"This is note {number}.")


def statuses(found) -> list[str]:
    return [row.status for row in found.rows]


async def test_every_file_gets_an_answer_in_the_order_of_the_files(bench, root):
    fill(root, 5)
    with anyio.fail_after(10):
        async with bench() as b:
            job = b.begin()
            found = await job.result()
            prompts = sorted(b.prompts, key=lambda text: text.index("note"))
    assert [row.file for row in found.rows] == [f"0{n}.txt" for n in range(5)]
    assert statuses(found) == ["answered"] * 5
    assert all(row.answer for row in found.rows)
    assert len(prompts) == 5
    assert all(prompt.endswith("\n\nSum up.") for prompt in prompts)
    assert (job.unit, job.count, job.total) == ("files", 5, 5)
    assert job.summary() == "5 of 5 files"
    assert found.size > 0


@pytest.mark.skipif(os.name == "nt", reason="links and pipes want rights or do not exist on Windows")
async def test_a_file_that_fails_is_a_row_and_not_the_end(bench, root, tmp_path):
    fill(root, 2)
    (root / "bad.txt").write_bytes(b"\xff\0")
    (root / "empty.txt").touch()
    os.mkfifo(root / "pipe.txt")
    (root / "out.txt").symlink_to(tmp_path / "secret")
    (root / "p.txt").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\2\0\0\0")
    with anyio.fail_after(10):
        async with bench(Model("m", capabilities=("completion",))) as b:
            job = b.begin(files=["*.txt", "gone.txt", "/etc/passwd"])
            found = await job.result()
    rows = {row.file: row for row in found.rows}
    assert statuses(found).count("answered") == 2
    assert found.counts == {"answered": 2, "failed": len(rows) - 2}
    assert {name: row.error.partition(":")[0] for name, row in rows.items() if row.error} == {
        "bad.txt": "INVALID_ARGUMENT", "empty.txt": "INVALID_ARGUMENT", "gone.txt": "INVALID_ARGUMENT",
        "pipe.txt": "INVALID_ARGUMENT", "out.txt": "FORBIDDEN", "/etc/passwd": "FORBIDDEN",
        "p.txt": "CAPABILITY",
    }  # fmt: skip
    assert "7 failed" in job.summary()


async def test_a_model_that_fails_for_one_file_answers_for_the_others(bench, root):
    fill(root, 3)
    with anyio.fail_after(10):
        async with bench(OLLAMA_MCP_PARALLEL="1", OLLAMA_MCP_RETRIES="0") as b:
            b.fake.script(Script(status=500, body={"error": "no"}), path="/api/chat", times=1)
            found = await b.map()
    assert statuses(found) == ["failed", "answered", "answered"]
    assert found.rows[0].error.startswith("UPSTREAM")


@pytest.mark.parametrize(
    ("arguments", "failure"),
    [
        ({"model": "nothing"}, ModelNotFound),
        ({"files": ["*.pdf"]}, InvalidArgument),
        ({"prompt": ""}, InvalidArgument),
        ({"schema": {"type": 5}}, InvalidArgument),
        ({"output": "../x"}, InvalidArgument),
        ({"model": "e"}, CapabilityMissing),
    ],
)
async def test_what_would_fail_for_every_file_fails_at_once(bench, root, arguments, failure):
    fill(root, 3)
    with anyio.fail_after(10):
        async with bench(Model("m"), Model("e", capabilities=("embedding",))) as b:
            with pytest.raises(failure):
                await b.map(**arguments)
            assert b.prompts == []


# --- what was answered before --------------------------------------------------------------------


async def test_the_same_call_asks_only_for_what_has_changed(bench, root):
    fill(root, 4)
    with anyio.fail_after(10):
        async with bench() as b:
            first = await b.map()
            (root / "01.txt").write_text("This is another note.")
            second = await b.map()
            assert len(b.prompts) == 5
            for other in ({"prompt": "Translate."}, {"system": "Be brief."}, {"options": {"seed": 1}}):
                await b.map(**other)
            assert len(b.prompts) == 17
    assert statuses(second) == ["kept", "answered", "kept", "kept"]
    assert [row.answer for row in second.rows[2:]] == [row.answer for row in first.rows[2:]]


async def test_a_cancelled_call_goes_on_where_it_was(bench, root):
    fill(root, 8)
    with anyio.fail_after(10):
        async with bench(OLLAMA_MCP_PARALLEL="1") as b:
            yes = Script(tokens=["yes"])
            b.fake.script(yes, yes, Script(hold_after_tokens=0), yes, path="/api/chat")
            job = b.begin()
            while len(b.prompts) < 3:
                await anyio.sleep(0.01)
            await job.stop()
            assert job.so_far().text == "00.txt: yes\n01.txt: yes\n"
            found = await b.map()
            assert len(b.prompts) == 9  # the third was asked twice
    assert statuses(found) == ["kept", "kept", *["answered"] * 6]


async def test_callers_do_not_get_one_anothers_answers():
    memory = Memory()
    await memory.of("me").keep("a", "key", "text")
    assert (await memory.of("me").find("a", "key")).text == "text"
    assert await memory.of("you").find("a", "key") is None


async def test_the_memory_is_bounded_and_the_oldest_go():
    memory = Memory(most_bytes=10_000)
    for number in range(1000):
        memory.put("", str(number), "x" * 500)
        assert memory.get("", "0") or number > 2  # what is asked for stays
    kept = [number for number in range(1000) if memory.get("", str(number))]
    assert kept == [0, 997, 998, 999]
    memory.put("", "huge", "x" * 10_000)
    assert memory.get("", "huge") is None


# --- how many at once ----------------------------------------------------------------------------


async def test_no_more_run_at_once_than_the_operator_allows_and_others_get_their_turn(bench, root):
    fill(root, 20)
    with anyio.fail_after(10):
        async with bench(OLLAMA_MCP_PARALLEL="3", OLLAMA_MCP_QUEUE="0") as b:
            most = 0

            async def look() -> None:
                nonlocal most
                while True:
                    most = max(most, *(line.running for line in b.app.model_queue.statistics()), 0, 0)
                    await anyio.sleep(0)

            async with anyio.create_task_group() as group:
                group.start_soon(look)
                found = await b.map()
                group.cancel_scope.cancel()
    assert statuses(found) == ["answered"] * 20
    assert most == 3


async def test_a_line_that_is_full_is_waited_for(bench, root):
    fill(root, 1)
    with anyio.fail_after(10):
        async with bench(Model("m"), OLLAMA_MCP_PARALLEL="1", OLLAMA_MCP_QUEUE="0") as b:
            async with b.app.model_queue.admit("m"):
                job = b.begin(model="m")
                while not any(line.waiting for line in b.app.model_queue.statistics()):
                    await anyio.sleep(0.001)
            assert statuses(await job.result()) == ["answered"]


# --- answers as files ----------------------------------------------------------------------------


def files_of(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


async def test_answers_are_new_files_whose_names_tell_what_they_came_from(bench, root, out):
    (root / "sub").mkdir()
    (root / "sub" / "Füße.txt").write_text("one")
    fill(root, 2)
    with anyio.fail_after(10):
        async with bench() as b:
            b.fake.script(Script(tokens=["An answer."]), path="/api/chat")
            found = await b.map(files=["**/*.txt"], output="sums/first")
            again = await b.map(files=["**/*.txt"], output="sums/first")
            assert len(b.prompts) == 3
    written = [row.written for row in found.rows]
    assert [name[: name.index(".txt")] for name in written] == [
        "sums/first/00", "sums/first/01", "sums/first/sub--F_e"
    ]  # fmt: skip
    assert files_of(out) == dict.fromkeys(sorted(written), "An answer.")
    assert all(row.answer == "" for row in found.rows)
    assert statuses(again) == ["kept"] * 3
    assert [row.written for row in again.rows] == written


async def test_another_process_does_not_ask_again_for_what_is_written(bench, root, out):
    fill(root, 4)
    with anyio.fail_after(10):
        async with bench() as b:
            first = await b.map(output="x")
        Path(out, first.rows[1].written).write_text("")  # one that was not finished
        Path(out, first.rows[2].written).unlink()
        async with bench() as b:
            second = await b.map(output="x")
            asked = len(b.prompts)
    assert statuses(second) == ["kept", "failed", "answered", "kept"]
    assert asked == 2
    assert "STORAGE" in second.rows[1].error  # nothing is overwritten, and be it empty


async def test_answers_that_fit_a_schema_are_json_files(bench, root, out):
    fill(root, 1)
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    with anyio.fail_after(10):
        async with bench() as b:
            b.fake.script(Script(tokens=['{"a": 1}']), path="/api/chat")
            found = await b.map(schema=schema, output=".")
    assert found.rows[0].written.endswith(".json")
    assert files_of(out) == {found.rows[0].written: '{"a": 1}'}


async def test_half_an_answer_is_told_and_not_kept_as_a_whole_one(bench, root, out):
    fill(root, 1)
    with anyio.fail_after(10):
        async with bench() as b:
            b.fake.script(Script(tokens=["Half"], done_reason="length"), path="/api/chat")
            found = await b.map(output="x")
            assert statuses(await b.map(output="x")) == ["cut"]
    (row,) = found.rows
    assert (row.status, row.answer, row.written) == ("cut", "Half", "")
    assert "cut off" in row.note
    assert files_of(out) == {}


async def test_a_prompt_that_was_cut_is_noted_and_its_answer_is_whole(bench, root, out):
    fill(root, 1)
    with anyio.fail_after(10):
        async with bench(Model("m", ("completion",))) as b:
            b.fake.version = "0.5.0"
            b.fake.script(Script(tokens=["Whole"], final={"prompt_eval_count": 64}), path="/api/chat")
            found = await b.map(model="m", options={"num_ctx": 64})
    (row,) = found.rows
    assert (row.status, row.answer) == ("answered", "Whole")
    assert "cut the prompt" in row.note


async def test_an_empty_answer_is_no_answer(bench, root, out):
    fill(root, 1)
    with anyio.fail_after(10):
        async with bench() as b:
            b.fake.script(Script(tokens=[""]), path="/api/chat")
            found = await b.map(output="x")
    assert found.rows[0].error.startswith("BAD_UPSTREAM: no answer: the model stopped at once")
    assert files_of(out) == {}


async def test_answers_that_lie_in_the_folder_are_not_read_as_notes(bench, root):
    fill(root, 2)
    (root / "answers").mkdir()
    with anyio.fail_after(10):
        async with bench(OLLAMA_MCP_OUTPUT=str(root / "answers")) as b:
            await b.map(files=["**/*.txt"], output="x")
            assert len((await b.map(files=["**/*.txt"], output="x")).rows) == 2


def test_files_are_written_only_where_the_operator_allows_it():
    with pytest.raises(Forbidden, match="OLLAMA_MCP_OUTPUT"):
        build_batch(Settings(), prompt="x", files=["*"], output="x")


@pytest.mark.parametrize(
    "name",
    ["..", "../x", "a/../b", "/etc", "a//b", "a\0", "a\nb", "C:", "a:b", ".hidden", "a/.git", "~", "a\\b",
     "x.", "x ", "é", "a" * 65, "a/b/c/d/e", "*", "con|", "\u202e", "-x"],
)  # fmt: skip
def test_a_folder_for_answers_has_a_plain_name(name):
    try:
        folders = output_folders(name)
    except InvalidArgument:
        return
    assert (name, folders) in {("/etc", ("etc",)), ("x ", ("x",))}  # below the operator's folder all the same


@pytest.mark.skipif(os.name == "nt", reason="links and pipes want rights or do not exist on Windows")
async def test_no_link_in_the_output_folder_leads_out_of_it(out, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (out / "x").symlink_to(elsewhere)
    for can_walk in (True, False):
        monkeypatch.setattr(answers, "CAN_WALK", can_walk)
        store = Output(out, ("x",), ".txt")
        assert await store.find("a", "key") is None
        with pytest.raises(OllamaError):
            await store.keep("a", "key", "text")
    assert list(elsewhere.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="links and pipes want rights or do not exist on Windows")
@pytest.mark.parametrize("can_walk", [True, False])
@pytest.mark.parametrize("can_link", [True, False])
async def test_nothing_that_is_there_is_replaced(out, tmp_path, monkeypatch, can_walk, can_link):
    monkeypatch.setattr(answers, "CAN_WALK", can_walk)
    if not can_walk:
        monkeypatch.setattr(os, "rename", windows_rename)
    if not can_link:
        monkeypatch.setattr(os, "link", no_links)
    store = Output(out, (), ".txt")
    kept = await store.keep("a", "key", "first")
    assert await store.keep("a", "key", "second") == kept == await store.find("a", "key")
    assert files_of(out) == {kept.file: "first"}
    (out / kept.file).unlink()
    (out / kept.file).symlink_to(tmp_path / "victim")
    with pytest.raises(OllamaError):
        await store.keep("a", "key", "third")
    assert not (tmp_path / "victim").exists()
    assert [path.name for path in out.iterdir()] == [kept.file]


def windows_rename(source: str, target: str) -> None:
    if os.path.lexists(target):
        raise FileExistsError
    Path(source).replace(target)


def no_links(*_: object, **__: object) -> None:
    raise PermissionError


async def test_a_full_disk_is_a_row_and_leaves_no_half_file(bench, root, out, monkeypatch):
    fill(root, 1)

    def full(self, name: str, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(answers._Folder, "_create", full)
    with anyio.fail_after(10):
        async with bench() as b:
            found = await b.map(output="x")
    assert found.rows[0].error.startswith("STORAGE")
    assert files_of(out) == {}
