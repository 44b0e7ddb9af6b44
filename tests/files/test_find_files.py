"""Which files a pattern means."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_mcp.errors import Forbidden, InvalidArgument, TooLarge
from ollama_mcp.services.file_access import Place
from ollama_mcp.services.files import batch
from ollama_mcp.services.files.batch import find_files
from ollama_mcp.settings.limits import DEFAULT_LIMITS, Limits

pytestmark = pytest.mark.skipif(
    os.name == "nt", reason="links and pipes want rights or do not exist on Windows"
)


@pytest.fixture
def tree(root: Path, tmp_path: Path) -> Path:
    for name in (
        "b.md",
        "a.md",
        "c.txt",
        ".env",
        "sub/d.md",
        "sub/deep/e.md",
        ".git/config.md",
        "we[i]rd.md",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.md").write_text("x")
    (root / "leaves").symlink_to(tmp_path / "outside")
    (root / "link.md").symlink_to("a.md")
    (root / "out.md").symlink_to(tmp_path / "outside" / "secret.md")
    return root


def names(
    *patterns: str, root: Path, limits: Limits = DEFAULT_LIMITS, without: Path | None = None
) -> list[str]:
    found = find_files(patterns, [root], limits, without)
    return [place.shown if isinstance(place, Place) else f"! {Path(place).name}" for place in found]


def test_a_name_that_looks_like_a_pattern_is_a_file_where_there_is_one(tmp_path):
    (tmp_path / "[draft] a.md").write_text("x")
    assert names("[draft] a.md", root=tmp_path) == ["[draft] a.md"]


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("*.md", ["a.md", "b.md", "out.md", "we[i]rd.md"]),
        ("?.md", ["a.md", "b.md"]),
        ("[ab].*", ["a.md", "b.md"]),
        ("[!a].md", ["b.md"]),
        ("sub/*", ["sub/d.md"]),
        ("sub/**", ["sub/d.md", "sub/deep/e.md"]),
        ("**/e.md", ["sub/deep/e.md"]),
        ("**/**/**/e.md", ["sub/deep/e.md"]),
        ("**/*.txt", ["c.txt"]),
        ("s*/d*/*", ["sub/deep/e.md"]),
        (".e*", [".env"]),
        (".git/*", [".git/config.md"]),
        ("a.md", ["a.md"]),
        ("nothing.md", ["! nothing.md"]),
        ("sub", ["sub"]),
    ],
)
def test_a_pattern_means_files_below_the_folder(tree, pattern, wanted):
    assert names(pattern, root=tree) == wanted
    assert names(f"{tree}/{pattern}", root=tree) == wanted


def test_no_pattern_means_hidden_files_or_follows_links_to_folders(tree):
    found = names("**/*", root=tree)
    assert found == ["a.md", "b.md", "c.txt", "out.md", "we[i]rd.md", "sub/d.md", "sub/deep/e.md"]


def test_each_file_comes_once_whatever_leads_to_it(tree):
    assert names("b.md", "link.md", "*.md", "a.md", root=tree)[:2] == ["b.md", "a.md"]
    assert len(names("**/*.md", "*.md", "sub/../a.md", root=tree)) == 6


def test_the_folder_of_the_answers_is_left_out(tree):
    assert "sub/d.md" not in names("**/*.md", root=tree, without=tree / "sub")


@pytest.mark.parametrize("pattern", ["/etc/*", "/**", "~/*", "/proc/*/environ"])
def test_a_pattern_that_begins_outside_is_refused(tree, pattern):
    with pytest.raises(Forbidden):
        names(pattern, root=tree)


@pytest.mark.parametrize("pattern", ["../*", "sub/../../outside/*", "**/../../*"])
def test_a_pattern_goes_down_only(tree, pattern):
    with pytest.raises(InvalidArgument, match=r'"\.\."'):
        names(pattern, root=tree)


@pytest.mark.parametrize("patterns", [(), ("*.pdf",), ("nothing/*",), ("leaves/*",)])
def test_no_file_at_all_is_told_with_what_to_send(tree, patterns):
    with pytest.raises(InvalidArgument, match="no file fits"):
        names(*patterns, root=tree)


def test_too_many_files_are_refused(tree, monkeypatch):
    with pytest.raises(TooLarge, match="OLLAMA_MCP_MAX_FILES"):
        names("**/*", root=tree, limits=Limits(files=3))
    monkeypatch.setattr(batch, "MOST_LOOKED_AT", 3)
    with pytest.raises(InvalidArgument, match="narrower"):
        names("**/*", root=tree)


def test_many_patterns_together_look_at_no_more_than_one_may(tree, monkeypatch):
    monkeypatch.setattr(batch, "MOST_LOOKED_AT", 60)
    assert names("**/a.md", root=tree)
    with pytest.raises(InvalidArgument, match="fewer"):
        names(*[f"**/a{number}.md" for number in range(100)], root=tree)


@pytest.mark.long
def test_any_folders_behind_any_folders_mean_and_cost_nothing_more(tree):
    assert names("**/**/sub/**/**/**/e.md", root=tree) == ["sub/deep/e.md"]
    for number in range(300):
        (tree / f"{number}.txt").touch()
    before = time.process_time()
    with pytest.raises(InvalidArgument, match="no file fits"):
        names("**/" * 1300 + "nothing*", root=tree)
    assert time.process_time() - before < 0.2


@pytest.mark.long
def test_no_pattern_costs_more_than_it_has_parts(tree):
    deep = tree / "/".join(["a" * 50] * 20)
    deep.mkdir(parents=True)
    (deep / "x").write_text("x")
    before = time.process_time()
    for pattern in ("**/" * 500 + "nothing*", "/".join(["**", "*a*a*a*a*a*a*a*a*b*"] * 60), "*" * 200 + "!"):
        with pytest.raises(InvalidArgument):
            names(pattern, root=tree)
    assert time.process_time() - before < 2


@given(pattern=st.text(alphabet="ab*?[]!./{}\\-", max_size=20))
def test_any_pattern_finds_files_below_the_folder_or_is_refused(tmp_path_factory, pattern):
    root = tmp_path_factory.getbasetemp() / "any"
    (root / "a" / "b").mkdir(parents=True, exist_ok=True)
    (root / "a" / "b" / "ab").write_text("x")
    try:
        found = find_files([pattern], [root], DEFAULT_LIMITS)
    except (Forbidden, InvalidArgument):
        return
    assert all(
        isinstance(place, str) or place.path.resolve().is_relative_to(root.resolve()) for place in found
    )
