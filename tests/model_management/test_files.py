"""Models from files of this machine: only from allowed folders, only GGUF, streamed from the disk."""

import hashlib
import os
from pathlib import Path
from typing import Any

import anyio
import pytest

from ollama_mcp.errors import Forbidden, InvalidArgument, NotConfirmed, StorageError
from ollama_mcp.services import transfers
from ollama_mcp.services.create import ModelFile, build_create, open_file, send
from ollama_mcp.testing import Exchange, Model, Script

pytestmark = pytest.mark.anyio

RECORDINGS = Path(__file__).parent.parent / "recordings"
CREATE = "/api/create"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


def gguf(folder: Path, name: str = "m.gguf", size: int = 3_000_000) -> Path:
    path = folder / name
    path.write_bytes(b"GGUF" + bytes(range(256)) * (size // 256))
    return path


def digest_of(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def open_and_close(path: object, *roots: Path) -> None:
    open_file(ModelFile(str(path), roots)).close()


# --- creating ----------------------------------------------------------------------------------


async def test_a_model_is_made_from_a_file_that_is_sent_once(bench, root):
    path = gguf(root)
    with anyio.fail_after(10):
        async with bench() as b:
            wanted = build_create(model="new", files=[str(path)], roots=[root], system="Be kind.")
            job = b.begin_create(wanted)
            done = await job.result()
            blobs, sent = dict(b.fake.blobs), b.sent(CREATE)
            other = build_create(model="again", files=[str(path)], roots=[root])
            await b.begin_create(other).result()
            uploads = [r for r in b.fake.requests if r.method == "POST" and r.path.startswith("/api/blobs/")]
    digest = digest_of(path)
    assert blobs == {digest: path.read_bytes()}
    assert sent[0]["files"] == {"m.gguf": digest}
    assert "from" not in sent[0]
    assert (done.model, done.status) == ("new:latest", "success")
    assert (job.count, job.total) == (path.stat().st_size, path.stat().st_size)
    assert [int(request.headers["content-length"]) for request in uploads] == [path.stat().st_size]


async def test_files_are_off_where_no_folder_is_allowed(root):
    with pytest.raises(Forbidden, match="OLLAMA_MCP_ROOTS"):
        build_create(model="new", files=[str(gguf(root))])


async def test_a_model_is_made_from_a_model_or_from_files_not_both(root):
    for wrong in ({}, {"source": "m", "files": [str(gguf(root))]}):
        with pytest.raises(InvalidArgument):
            build_create(model="new", roots=[root], **wrong)


async def test_nothing_is_sent_before_an_installed_name_is_confirmed_to_be_replaced(bench, root):
    with anyio.fail_after(5):
        async with bench(Model("new")) as b:
            wanted = build_create(model="new", files=[str(gguf(root))], roots=[root])
            with pytest.raises(NotConfirmed):
                await b.begin_create(wanted).result()
            assert b.fake.blobs == {}


async def test_a_name_that_is_taken_while_the_file_is_sent_is_not_replaced(bench, root, monkeypatch):
    with anyio.fail_after(10):
        async with bench() as b:

            async def sent_late(*arguments: Any) -> str:
                digest = await send(*arguments)
                b.fake.add_model(Model("new"))
                return digest

            monkeypatch.setattr(transfers, "send", sent_late)
            wanted = build_create(model="new", files=[str(gguf(root))], roots=[root])
            with pytest.raises(NotConfirmed):
                await b.begin_create(wanted).result()
            assert b.sent(CREATE) == []


def test_two_files_of_the_same_name_are_not_taken_for_one(root):
    (root / "a").mkdir()
    with pytest.raises(InvalidArgument, match="the same name"):
        build_create(model="new", files=["m.gguf", "a/m.gguf"], roots=[root])


async def test_a_file_that_changes_between_hashing_and_sending_is_refused_by_its_digest(bench, root):
    path = gguf(root)

    def tell(doing: str, sent: int, total: int) -> None:
        if 0 < sent < total:
            with path.open("r+b") as file:
                file.seek(-8, os.SEEK_END)
                file.write(b"changed!")

    with anyio.fail_after(5):
        async with bench() as b:
            with pytest.raises(InvalidArgument, match="digest mismatch"):
                await send(b.app.client, ModelFile(str(path), (root,)), tell)


async def test_a_file_that_shrinks_while_it_is_sent_is_an_error_of_this_machine(bench, root):
    path = gguf(root)

    def tell(doing: str, sent: int, total: int) -> None:
        if 0 < sent < total:
            os.truncate(path, 4)

    with anyio.fail_after(5):
        async with bench() as b:
            with pytest.raises(StorageError, match="changed while it was sent"):
                await send(b.app.client, ModelFile(str(path), (root,)), tell)


async def test_an_upload_may_take_longer_than_any_clock_of_a_call(bench, root):
    path = gguf(root)
    with anyio.fail_after(10):
        async with bench(timeouts={"first_byte": 0.2, "idle": 0.2, "transfer": 5.0}) as b:
            b.fake.script(Script(delay_first=0.5), method="POST", path=f"/api/blobs/{digest_of(path)}")
            await send(b.app.client, ModelFile(str(path), (root,)), lambda *_: None)
            assert list(b.fake.blobs) == [digest_of(path)]


async def test_recorded_answers_about_blobs_are_understood(bench, root):
    path = gguf(root)
    with anyio.fail_after(5):
        async with bench() as b:
            missing = Exchange.load(RECORDINGS / "blob-head-missing.json").script()
            stored = Exchange.load(RECORDINGS / "blob-post.json").script()
            b.fake.script(missing, method="HEAD", path=f"/api/blobs/{digest_of(path)}")
            b.fake.script(stored, method="POST", path=f"/api/blobs/{digest_of(path)}")
            assert await send(b.app.client, ModelFile(str(path), (root,)), lambda *_: None) == digest_of(path)


# --- which files -------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="links and pipes want rights or do not exist on Windows")
def test_a_file_under_an_allowed_folder_is_opened_however_its_path_is_spelled(root):
    path = gguf(root)
    (root / "sub").mkdir()
    (root / "link.gguf").symlink_to(path)
    for spelled in (path, root / "sub" / ".." / "m.gguf", root / "link.gguf"):
        open_and_close(spelled, root)


@pytest.mark.skipif(os.name == "nt", reason="links and pipes want rights or do not exist on Windows")
def test_what_lies_outside_is_not_opened_whatever_leads_there(root, tmp_path):
    outside = gguf(tmp_path, "secret.gguf")
    neighbour = tmp_path / "models-of-others"
    neighbour.mkdir()
    (root / "link.gguf").symlink_to(outside)
    (root / "folder").symlink_to(tmp_path)
    (root / "circle").symlink_to(root / "circle")
    for path in (
        outside, root / ".." / "secret.gguf", root / "link.gguf", root / "folder" / "secret.gguf",
        gguf(neighbour), root / "circle" / "x", "/etc/passwd", f"{root}/a\0b", "~/secret.gguf", "m.gguf",
        "~nobody-has-this-name/x", "/proc/self/mem",
    ):  # fmt: skip
        with pytest.raises((Forbidden, InvalidArgument)) as refused:
            open_and_close(path, root)
        assert str(tmp_path) not in str(refused.value)


@pytest.mark.skipif(os.name == "nt", reason="links and pipes want rights or do not exist on Windows")
def test_what_is_no_plain_gguf_file_is_refused_without_waiting(root):
    os.mkfifo(root / "fifo.gguf")
    (root / "folder.gguf").mkdir()
    (root / "text.gguf").write_text("#!/bin/sh")
    (root / "empty.gguf").touch()
    for name in ("fifo.gguf", "folder.gguf", "text.gguf", "empty.gguf", "absent.gguf", "text.gguf/x"):
        with pytest.raises(InvalidArgument):
            open_and_close(root / name, root)


@pytest.mark.skipif(os.name == "nt", reason="links and pipes want rights or do not exist on Windows")
def test_a_path_that_is_turned_elsewhere_while_it_is_opened_is_refused(root, tmp_path, monkeypatch):
    path, outside = gguf(root), gguf(tmp_path, "secret.gguf")
    real = os.open

    def turned(name, flags, **more):
        if name == path.name:  # from the descriptor of its folder
            path.unlink()
            path.symlink_to(outside)
        return real(name, flags, **more)

    monkeypatch.setattr(os, "open", turned)
    with pytest.raises(Forbidden):
        open_and_close(path, root)
