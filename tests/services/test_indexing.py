"""Indexing documents into a collection: what is read, what is left as it is, what fails."""

import io
import os
from dataclasses import replace
from functools import partial

import anyio
import pytest
from pypdf.errors import DependencyError

from ollama_mcp import App
from ollama_mcp.errors import InvalidArgument
from ollama_mcp.jobs.job import Job
from ollama_mcp.services.collections import changed_since
from ollama_mcp.services.indexing import build_index
from ollama_mcp.services.splitting import NewPassage, split_document
from ollama_mcp.settings import load
from ollama_mcp.sources import Passage
from ollama_mcp.stores.collection_store import CollectionKey, OtherModel
from ollama_mcp.testing import FakeOllama, Model, Script

pytestmark = pytest.mark.anyio
MODEL = "nomic-embed-text:latest"
NOTES = CollectionKey("", "notes")


@pytest.fixture
async def fake(anyio_backend):
    async with FakeOllama() as fake:
        yield fake


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "notes"
    (made / "deep").mkdir(parents=True)
    (made / "tea.md").write_text("# Tea\n\n## Green\n\nGreen tea steeps for two minutes.\n")
    (made / "deep" / "bread.md").write_text("Bread is baked at 230 degrees.\n")
    return made


@pytest.fixture
async def app(fake, folder, tmp_path):
    made = App.create(
        load(
            {
                "OLLAMA_HOST": fake.url,
                "OLLAMA_MCP_STORE": str(tmp_path / "store"),
                "OLLAMA_MCP_ROOTS": str(folder),
            }
        )
    )
    yield made
    await made.aclose()


async def index(app, *files, documents=()):
    spec = build_index(app.settings.limits, "notes", files, documents)
    work = partial(app.indexer.run, spec, app.settings.roots)
    return await app.jobs.start(work, unit="documents").result()


async def names(app):
    return sorted(one.name for one in (await app.collections.store.documents(NOTES)).values())


async def test_only_what_has_changed_is_read_again(app, folder, fake):
    first = await index(app, "**/*.md")
    assert (first.read, first.unchanged, first.documents, first.model) == (2, 0, 2, MODEL)
    asked = len(fake.asked("/api/embed"))
    (folder / "tea.md").touch()  # another time, the same content
    second = await index(app)
    assert (second.read, second.unchanged, second.removed) == (0, 2, 0)
    assert len(fake.asked("/api/embed")) == asked
    (folder / "tea.md").write_text("Black tea steeps for four minutes.\n")
    (folder / "new.md").write_text("Salt.\n")
    (folder / "deep" / "bread.md").unlink()
    third = await index(app)
    assert (third.read, third.unchanged, third.removed) == (2, 0, 1)
    assert await names(app) == ["new.md", "tea.md"]


async def test_files_of_a_folder_that_is_away_stay(app, folder):
    await index(app, "deep/*.md")
    (folder / "deep").rename(folder.parent / "elsewhere")
    again = await index(app)
    assert again.documents == 1
    assert again.failed == {"deep/*.md": "no file fits; its documents are kept"}


async def test_files_of_folders_that_this_server_may_not_read_stay(app, folder, fake, tmp_path):
    long = "outside" * 15
    outside = tmp_path / long
    outside.mkdir()
    (outside / "tea.md").write_text("Green tea")
    work = partial(app.indexer.run, build_index(app.settings.limits, "notes", [f"{outside}/*"]), [outside])
    await app.jobs.start(work, unit="documents").result()
    again = await index(app)
    assert (again.removed, again.documents) == (0, 1)
    assert list(again.failed.values()) == [
        "that file is in none of the folders that are allowed; its documents are kept"
    ]
    assert str(tmp_path) not in str(again.failed)


async def test_a_name_that_is_no_unicode_is_a_line_and_not_the_end(app, folder):
    (folder / os.fsdecode(b"caf\xe9.md")).write_text("Coffee")
    found = await index(app, "*.md")
    assert (found.read, found.failed) == (
        1,
        {"caf .md": "has a path that is not in UTF-8. Give it another name."},
    )


async def test_a_document_of_more_passages_than_a_call_may_embed_is_refused(app, folder):
    (folder / "parts.md").write_text("# a\nb\n" * 4)
    limits = replace(app.settings.limits, texts=3)
    work = partial(app.indexer.run, build_index(limits, "notes", ["*.md"]), app.settings.roots, limits=limits)
    found = await app.jobs.start(work, unit="documents").result()
    assert found.read == 1
    assert found.failed == {"parts.md": "it has 4 passages; the limit is 3 (OLLAMA_MCP_MAX_TEXTS)"}


async def test_a_text_is_known_by_its_address_or_title(app):
    await index(app, documents=[Passage("one", "documents", "Tea", "note:1"), Passage("two", "documents")])
    again = await index(
        app, documents=[Passage("changed", "documents", "Tea", "note:1"), Passage("two", "documents")]
    )
    assert (again.read, again.unchanged, again.documents) == (1, 1, 2)


async def test_a_file_that_cannot_be_read_is_a_line_and_not_the_end(app, folder):
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    (folder / "blank.md").write_text("\n\n")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    found = await index(app, "*", "missing.md")
    assert found.read == 1
    assert found.failed.keys() == {"picture.png", "blank.md", "broken.pdf", "missing.md"}
    assert "cannot be read as PDF" in found.failed["broken.pdf"]
    assert found.failed["missing.md"] == "there is no such file"


async def test_pages_of_html_are_text_with_headings(app, folder):
    (folder / "page.html").write_text(
        "<html><head><style>p {}</style></head><body><h1>Tea</h1><p>Boil <b>water</b>.</p>"
        "<script>x()</script><h2>Black</h2><ul><li>Assam</li></ul></body></html>"
    )
    await index(app, "page.html")
    opened = await app.collections.open("", "notes")
    found = await opened.search(None, ["assam", "water"])
    texts = {one.title: " ".join(one.text.split()) for one in found.passages}
    assert texts == {"Tea": "# Tea Boil water.", "Tea › Black": "## Black Assam"}


async def test_a_page_that_is_made_to_break_the_parser_is_a_line_and_not_the_end(app, folder):
    (folder / "broken.html").write_text("<![foo[")
    (folder / "deep.html").write_text("<div>" * 3000 + "deep")
    (folder / "many.html").write_text("<b>" * 500_001)
    found = await index(app, "*")
    assert found.read == 2
    assert found.failed == {
        "broken.html": "cannot be read as HTML. Name another file.",
        "many.html": "has more than 500000 marks of HTML. Name smaller files.",
    }


@pytest.mark.parametrize("error", [NotImplementedError, DependencyError, OverflowError, AssertionError])
async def test_a_pdf_may_break_its_parser_in_any_way(app, folder, monkeypatch, error):
    def fails(*_):
        raise error("broken")

    monkeypatch.setattr("pypdf.PdfReader", fails)
    (folder / "tea.pdf").write_bytes(pdf("tea"))
    found = await index(app, "*")
    assert (found.read, found.failed) == (1, {"tea.pdf": "cannot be read as PDF. Name another file."})


async def test_the_text_of_a_pdf_is_indexed(app, folder):
    (folder / "tea.pdf").write_bytes(pdf("Green tea steeps"))
    assert (await index(app, "tea.pdf")).read == 1
    opened = await app.collections.open("", "notes")
    assert [one.text for one in (await opened.search(None, ["steeps"])).passages] == ["Green tea steeps"]


def pdf(text):
    """A page with a line of text, as short as a PDF can be."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        (
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] /Contents 4 0 R "
            b"/Resources << /Font << /F1 5 0 R >> >> >>"
        ),
        b"<< /Length %d >> stream\n%s\nendstream"
        % (len(text) + 31, b"BT /F1 12 Tf 10 100 Td (%s) Tj ET" % text.encode()),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out = io.BytesIO()
    out.write(b"%PDF-1.4\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(out.tell())
        out.write(b"%d 0 obj %s endobj\n" % (number, body))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.writelines(b"%010d 00000 n \n" % place for place in places)
    out.write(b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, start))
    return out.getvalue()


async def test_a_passage_without_a_vector_is_left_out_and_said(app, fake, folder):
    (folder / "tea.md").write_text("".join(f"# Part {n}\n\ntext {n}\n\n" for n in range(4)))

    def fails_of_the_third(request):
        given = request.json["input"]
        is_bad = "text 2" in "".join([given] if isinstance(given, str) else given)
        return Script(status=500, body={"error": "NaN"}) if is_bad else Script()

    fake.script(fails_of_the_third, path="/api/embed")
    found = await index(app, "tea.md")
    assert found.passages == 3
    assert found.notes == ["tea.md: 1 passages could not be embedded"]
    fake.script(Script(), path="/api/embed")  # it is repaired
    assert (await index(app, "tea.md")).passages == 4


async def test_what_was_deleted_or_emptied_is_not_found_any_more(app, folder):
    await index(app, "*.md", "deep/*.md")
    (folder / "tea.md").unlink()
    (folder / "deep" / "bread.md").write_text("")
    found = await index(app)
    assert (found.removed, found.documents) == (2, 0)
    assert found.failed == {"deep/bread.md": "it has no text"}
    (folder / "tea.md").write_text("Black tea")
    await index(app, "*.md")
    (folder / "tea.md").unlink()
    assert (await index(app, "*.md")).removed == 1


async def test_texts_with_one_title_are_all_kept(app):
    documents = [Passage("What is tea?", "documents", "FAQ"), Passage("What is bread?", "documents", "FAQ")]
    documents += [Passage(f"{n}", "documents", uri=f"https://x.example/{'a' * 600}/{n}") for n in range(2)]
    assert (await index(app, documents=documents)).documents == 4
    again = await index(app, documents=documents)
    assert (again.read, again.unchanged) == (0, 4)


async def test_a_model_that_has_changed_is_told_and_search_goes_on_by_words(app, fake):
    await index(app, "**/*.md")
    fake.models["nomic-embed-text:latest"] = Model(
        "nomic-embed-text:latest", capabilities=["embedding"], digest="f" * 64
    )
    app.catalog.snapshot.installed.expire()
    with pytest.raises(OtherModel, match="another version of nomic-embed-text:latest"):
        await index(app)
    opened = await app.collections.open("", "notes")
    ranked = await app.retriever.rank("green tea", [], Job("texts"), opened)
    assert ranked.notes == (
        (
            "passages were ranked by words only: INVALID_ARGUMENT: collection notes was indexed with another "
            "version of nomic-embed-text:latest"
        ),
    )
    assert ranked.passages[0].text.startswith("## Green")


async def test_a_question_that_cannot_be_embedded_is_searched_by_words(app, fake):
    await index(app, "**/*.md")
    opened = await app.collections.open("", "notes")

    def fails_of_the_question(request):
        given = request.json["input"]
        is_bad = "odd" in "".join([given] if isinstance(given, str) else given)
        return Script(status=500, body={"error": "NaN"}) if is_bad else Script()

    fake.script(fails_of_the_question, path="/api/embed")
    ranked = await app.retriever.rank("odd green tea", [], Job("texts"), opened)
    assert ranked.passages[0].text.startswith("## Green")


async def test_a_cancelled_run_goes_on_where_it_was(app, fake, folder):
    for number in range(100):
        (folder / f"{number:03}.txt").write_text(f"note {number} " * 60)
    spec = build_index(app.settings.limits, "notes", ["*.txt"])
    job = app.jobs.start(partial(app.indexer.run, spec, app.settings.roots), unit="documents")
    while job.count < 64:
        await anyio.sleep(0.01)
    assert "of 100 documents" in job.summary()
    await job.cancel()
    stored = len(await names(app))
    assert 0 < stored < 100
    found = await index(app, "*.txt")
    assert (found.unchanged, found.read, found.documents) == (stored, 100 - stored, 100)


async def test_what_changed_since_it_was_indexed_is_said(app, folder):
    await index(app, "**/*.md")
    documents = list((await app.collections.store.documents(NOTES)).values())
    assert await changed_since(documents) == {}
    (folder / "tea.md").write_text("other")
    (folder / "deep" / "bread.md").unlink()
    assert sorted((await changed_since(documents)).values()) == [
        "changed since it was indexed",
        "gone since it was indexed",
    ]


def test_a_name_or_text_that_cannot_be_is_refused_before_anything_is_done():
    limits = load({}).limits
    for name in ("", "a/b", "x" * 65, "a b"):
        with pytest.raises(InvalidArgument, match="cannot be the name of a collection"):
            build_index(limits, name, ["*"])
    with pytest.raises(InvalidArgument, match="a document is empty"):
        build_index(limits, "notes", [], [Passage(" ", "documents")])


def test_markdown_is_cut_at_headings_and_code_keeps_its_lines():
    text = "intro\n\n# A\n\n## B\n\n```sh\n# no heading\n```\n\n## C\n\nend"
    assert split_document("x.md", text) == [
        NewPassage("x.md", "intro", 1),
        NewPassage("A › B", "## B\n\n```sh\n# no heading\n```", 5),
        NewPassage("A › C", "## C\n\nend", 11),
    ]
    code = "\n".join(f"def f{n}(): return {n}" for n in range(100))
    pieces = split_document("x.py", code)
    assert all(code.splitlines()[one.line - 1].startswith(one.text[:10]) for one in pieces)
    assert {one.title for one in pieces} == {"x.py"}


def test_a_document_that_is_made_to_take_long_is_cut_at_once():
    for line in ("# x" + "#" * 200_000 + "y", "# x" + " #" * 100_000 + "y", "# " + " " * 200_000 + "y"):
        assert len(split_document("x.md", line)) <= 201


def test_a_long_heading_is_not_repeated_whole_in_each_passage():
    pieces = split_document("x.md", f"# {'long' * 5000}\n" + "## a\nb\n" * 1000)
    assert len(pieces) == 1000
    assert max(len(one.title) for one in pieces) == 200
