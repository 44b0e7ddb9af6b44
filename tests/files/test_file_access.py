"""Which paths are opened: a table of hostile ones, and names that are turned into links meanwhile."""

import itertools
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_mcp.errors import Forbidden, InvalidArgument, OllamaError, StorageError
from ollama_mcp.services import file_access
from ollama_mcp.services.file_access import check_name, open_inside

pytestmark = pytest.mark.skipif(
    os.name == "nt", reason="links and pipes want rights or do not exist on Windows"
)

SECRET = "outside-secret"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `root` with all sorts of things in it, and others beside it."""
    base = tmp_path_factory.mktemp("tree").resolve()
    root, other, outside = base / "root", base / "other", base / "outside"
    for folder in (root / "sub" / "deep", root / ".git", other, outside / "sub", base / "root-neighbour"):
        folder.mkdir(parents=True)
    for folder in (root, root / "sub", root / "sub" / "deep", root / ".git", other):
        (folder / "a.txt").write_text(f"inside {folder.name}")
    (root / "sp ace; $(x).txt").write_text("inside space")
    (root / "Füße.txt").write_text("inside feet")
    (root / "~").write_text("inside tilde")
    (root / "back\\slash.txt").write_text("inside backslash")
    for folder in (outside, outside / "sub", base / "root-neighbour"):
        (folder / "a.txt").write_text(SECRET)
    links = {
        "to_file": "a.txt", "to_file_absolute": root / "a.txt", "to_sub": "sub", "to_other": other / "a.txt",
        "round": "sub/../a.txt", "sub/up": "../a.txt", "out": outside / "a.txt", "out_dir": outside,
        "out_relative": "../outside/a.txt", "out_missing": outside / "nothing", "dangling": "nothing",
        "loop": "loop", "ping": "pong", "pong": "ping", "parent": "..", "top": "/", "proc": "/proc/self",
        "zero": "/dev/zero", "stdin": "/dev/stdin", "self": ".", "in_and_out": "sub/leaving/a.txt",
        "sub/leaving": "../../outside", "link0": "a.txt",
        "out_and_back": outside / "sub" / ".." / ".." / "root" / "a.txt",
    }  # fmt: skip
    for name, target in links.items():
        (root / name).symlink_to(target)
    for number in range(1, 60):
        (root / f"link{number}").symlink_to(f"link{number - 1}")
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        before = Path.cwd()
        os.chdir(root)  # the name of a socket is short
        listener.bind("socket")
        os.chdir(before)
    return base


def read(path: str, *roots: Path) -> str:
    with open_inside(path, roots) as file:
        return file.read().decode()


def tried(path: str, *roots: Path) -> str | OllamaError:
    """What was read, or why nothing was."""
    try:
        return read(path, *roots)
    except OllamaError as error:
        return error


ALLOWED = {
    "{root}/a.txt": "inside root",
    "{root}/sub/../a.txt": "inside root",
    "{root}/./sub//a.txt": "inside sub",
    "{root}/sub/deep/../../sub/deep/a.txt": "inside deep",
    "{root}/sp ace; $(x).txt": "inside space",
    "{root}/Füße.txt": "inside feet",
    "{root}/back\\slash.txt": "inside backslash",
    "{root}/~": "inside tilde",
    "{root}/.git/a.txt": "inside .git",
    "{root}/to_file": "inside root",
    "{root}/to_file_absolute": "inside root",
    "{root}/to_sub/a.txt": "inside sub",
    "{root}/to_sub/../a.txt": "inside root",
    "{root}/to_other": "inside other",
    "{root}/round": "inside root",
    "{root}/sub/up": "inside root",
    "{root}/self/self/a.txt": "inside root",
    "{root}/link39": "inside root",
    "{root}/link59": "inside root",
    "{root}/out_and_back": "inside root",
    "{root}/a.txt/": "inside root",
    "{other}/a.txt": "inside other",
    "a.txt": "inside root",
    "./sub/a.txt": "inside sub",
    "sub/../a.txt": "inside root",
}
REFUSED = {
    # Outside, by whatever way.
    "{outside}/a.txt": Forbidden,
    "{outside}/nothing": Forbidden,
    "{outside}": Forbidden,
    "{root}-neighbour/a.txt": Forbidden,
    "{root}/../outside/a.txt": Forbidden,
    "{root}/sub/../../outside/a.txt": Forbidden,
    "{root}/../root/a.txt": Forbidden,
    "{root}/../nothing/../root/a.txt": Forbidden,
    "../outside/a.txt": Forbidden,
    "sub/../../outside/a.txt": Forbidden,
    "..": Forbidden,
    "/": Forbidden,
    "/etc/passwd": Forbidden,
    "/etc/nothing-of-that-name": Forbidden,
    "//etc/passwd": Forbidden,
    "/proc/self/environ": Forbidden,
    "/proc/self/mem": Forbidden,
    "/proc/self/cwd/a.txt": Forbidden,
    "/proc/self/root{root}/a.txt": Forbidden,
    "/dev/zero": Forbidden,
    "/dev/tty": Forbidden,
    "~/.ssh/id_ed25519": Forbidden,
    "~root/.bashrc": Forbidden,
    "~nobody-has-this-name/x": Forbidden,
    # Links that leave.
    "{root}/out": Forbidden,
    "{root}/out_dir/a.txt": Forbidden,
    "{root}/out_dir/nothing": Forbidden,
    "{root}/out_relative": Forbidden,
    "{root}/out_missing": Forbidden,
    "{root}/in_and_out": Forbidden,
    "{root}/parent/outside/a.txt": Forbidden,
    "{root}/top/etc/passwd": Forbidden,
    "{root}/proc/environ": Forbidden,
    "{root}/zero": Forbidden,
    "{root}/stdin": Forbidden,
    "{root}/loop": Forbidden,
    "{root}/ping": Forbidden,
    # Inside, and no file to read.
    "{root}": InvalidArgument,
    "{root}/": InvalidArgument,
    "{root}/sub": InvalidArgument,
    "{root}/sub/..": InvalidArgument,
    "{root}/self": InvalidArgument,
    "{root}/fifo": InvalidArgument,
    "{root}/socket": InvalidArgument,
    "{root}/dangling": InvalidArgument,
    "{root}/nothing": InvalidArgument,
    "{root}/a.txt/b": InvalidArgument,
    "{root}/a.txt\0.png": InvalidArgument,
    "{root}/A.TXT ": InvalidArgument,
    "{root}/%2e%2e/outside/a.txt": InvalidArgument,
    "{root}/..\\outside\\a.txt": InvalidArgument,
    "file://{outside}/a.txt": InvalidArgument,
    "https://example.com/a.txt": InvalidArgument,
    "$HOME/a.txt": InvalidArgument,
    "nothing.txt": InvalidArgument,
    "": InvalidArgument,
    " ": InvalidArgument,
    "\n": InvalidArgument,
    "-": InvalidArgument,
    "\ud800": InvalidArgument,
    "{root}/" + "a" * 300: StorageError,
    "{root}/" + "a/" * 3000: InvalidArgument,
}


def spelled(path: str, tree: Path) -> str:
    for name in ("root", "other", "outside"):
        path = path.replace(f"{{{name}}}", str(tree / name))
    return path


@pytest.mark.parametrize(("path", "text"), ALLOWED.items())
def test_a_path_that_stays_inside_is_opened_however_it_is_spelled(tree, path, text):
    assert read(spelled(path, tree), tree / "root", tree / "other") == text


@pytest.mark.parametrize(("path", "refusal"), REFUSED.items())
def test_any_other_path_is_refused_without_a_word_of_what_is_there(tree, path, refusal):
    with pytest.raises(OllamaError) as caught:
        read(spelled(path, tree), tree / "root", tree / "other")
    assert type(caught.value) is refusal
    told = str(caught.value)
    assert str(tree) not in told
    assert "outside" not in told.lower() or refusal is InvalidArgument
    assert SECRET not in told


def test_what_is_outside_is_refused_in_the_same_words_whether_it_is_there_or_not(tree):
    told = set()
    for path in (
        "{outside}/a.txt",
        "{outside}/nothing",
        "{root}/out",
        "{root}/out_missing",
        "/etc/x",
        "../x",
    ):
        with pytest.raises(Forbidden) as caught:
            read(spelled(path, tree), tree / "root")
        told.add(str(caught.value))
    assert len(told) == 1


def test_a_folder_that_is_itself_a_link_is_allowed_under_both_of_its_names(tree, tmp_path):
    alias = tmp_path / "alias"
    alias.symlink_to(tree / "root")
    for path in (alias / "a.txt", tree / "root" / "a.txt", alias / "to_file_absolute"):
        assert read(str(path), alias) == "inside root"


def test_a_file_that_may_not_be_read_is_an_error_of_this_machine(tree, monkeypatch):
    def closed(*_: Any, **__: Any) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "open", closed)
    with pytest.raises(StorageError, match=r"a\.txt cannot be read"):
        read("a.txt", tree / "root")


def test_without_folders_nothing_is_inside(tree):
    for path in ("a.txt", str(tree / "root" / "a.txt")):
        with pytest.raises(Forbidden):
            read(path)


# --- what is turned into something else meanwhile ------------------------------------------------


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    for folder in ("root/sub/deep", "outside/sub/deep", "outside/deep"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.txt").write_text(SECRET if folder.startswith("outside") else "inside")
    return tmp_path


def file_to_link(ground: Path) -> None:
    file = ground / "root/sub/deep/a.txt"
    file.unlink()
    file.symlink_to(ground / "outside/sub/deep/a.txt")


def folder_to_link(ground: Path) -> None:
    folder = ground / "root/sub/deep"
    folder.rename(ground / "root/moved")
    folder.symlink_to(ground / "outside/sub/deep")


def upper_folder_to_link(ground: Path) -> None:
    (ground / "root/sub").rename(ground / "root/moved")
    (ground / "root/sub").symlink_to(ground / "outside/sub")


def file_to_device(ground: Path) -> None:
    file = ground / "root/sub/deep/a.txt"
    file.unlink()
    file.symlink_to("/dev/zero")


def file_to_fifo(ground: Path) -> None:
    file = ground / "root/sub/deep/a.txt"
    file.unlink()
    os.mkfifo(file)


def nothing(ground: Path) -> None:
    (ground / "root/sub/deep/a.txt").unlink()


STEPS = 18
TURNS = (file_to_link, folder_to_link, upper_folder_to_link, file_to_device, file_to_fifo, nothing)


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("step", range(STEPS))
@pytest.mark.parametrize("can_walk", [True, False])
def test_what_is_turned_at_any_step_is_refused_or_was_opened_before(
    ground, turn, step, can_walk, monkeypatch
):
    """The turn comes before the so-manieth call of os.open, os.stat or lstat below the allowed folder."""
    steps = itertools.count()

    def turning(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            is_below = not os.path.isabs(args[0]) or f"{ground}/root/" in f"{args[0]}"
            if is_below and next(steps) == step:
                turn(ground)
            return real(*args, **more)

        return call

    monkeypatch.setattr(file_access, "CAN_WALK", can_walk)
    for owner, name in ((os, "open"), (os, "stat"), (os, "lstat"), (Path, "lstat")):
        monkeypatch.setattr(owner, name, turning(getattr(owner, name)))
    found = tried(str(ground / "root/sub/deep/a.txt"), ground / "root")
    assert found == "inside" or isinstance(found, Forbidden | InvalidArgument)
    assert next(steps) <= STEPS, "there are later steps, which no case turns"


def test_no_descriptor_is_left_open_by_a_refusal(tree):
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for path in REFUSED:
        assert isinstance(tried(spelled(path, tree), tree / "root", tree / "other"), OllamaError)
    if before:
        assert len(os.listdir("/proc/self/fd")) == before


# --- any path at all -----------------------------------------------------------------------------

NAMES = st.sampled_from(
    ["a.txt", "sub", "deep", "..", ".", "", "out", "out_dir", "out_relative", "parent", "top", "to_sub",
     "self", "to_file", "loop", "in_and_out", "leaving", "outside", "root", "etc", "passwd", "~", "fifo",
     "out_and_back"]
)  # fmt: skip


@given(
    names=st.lists(NAMES, max_size=10), start=st.sampled_from(["", "/", "{root}/", "{other}/", "{outside}/"])
)
def test_whatever_the_path_it_is_inside_or_refused(tree, names, start):
    path = spelled(start, tree) + "/".join(names)
    found = tried(path, tree / "root", tree / "other")
    assert SECRET not in str(found)
    assert isinstance(found, Forbidden | InvalidArgument) or str(found).startswith("inside ")


@given(path=st.text(max_size=50))
def test_any_text_as_a_path_is_a_refusal_and_no_failure_of_ours(tree, path):
    told = str(tried(path, tree / "root"))
    assert len(told) <= 400
    assert "\n" not in told


@pytest.mark.parametrize(
    "name", ["nul", "NUL.txt", "Con", "com1.log", "aux ", "a.txt:stream", "C:", "lpt9.x.y"]
)
def test_a_name_that_windows_takes_for_a_device_or_a_stream_is_refused_there(name):
    check_name(name, "posix")
    with pytest.raises(Forbidden):
        check_name(name, "nt")
    check_name("null.txt", "nt")
