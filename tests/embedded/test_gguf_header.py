import struct

import pytest

from ollama_mcp.embedded.gguf_header import ModelFileError, read_header


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def entry(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def gguf(entries: list[bytes], data: bytes = b"\0" * 128, *, shape: tuple[int, ...] = (8, 4)) -> bytes:
    tensor = text("w") + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
    tensor += struct.pack("<IQ", 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(entries)) + b"".join(entries) + tensor
    return head + b"\0" * (-len(head) % 32) + data


ARCHITECTURE = entry("general.architecture", 8, text("llama"))


@pytest.fixture
def write(tmp_path):
    def write(content: bytes):
        path = tmp_path / "model.gguf"
        path.write_bytes(content)
        return path

    return write


def test_a_whole_file_says_what_it_is(write):
    numbers = (
        entry("general.file_type", 4, struct.pack("<I", 3)),
        entry("llama.context_length", 4, struct.pack("<I", 99)),
    )
    header = read_header(write(gguf([ARCHITECTURE, *numbers])))
    assert (header.architecture, header.quantization) == ("llama", "Q4_1")
    assert (header.of_architecture("context_length"), header.of_architecture("nothing")) == (99, 0)
    assert header.parameter_count == 32
    assert header.tensors[0].type_name == "F32"


def test_long_arrays_are_skipped_and_short_ones_kept(write):
    long = entry("scores", 9, struct.pack("<IQ", 6, 200) + b"\0" * 800)
    words = entry("words", 9, struct.pack("<IQ", 8, 2) + text("a") + text("b"))
    many = entry("tokens", 9, struct.pack("<IQ", 8, 101) + text("a") * 101)
    header = read_header(write(gguf([long, words, many, ARCHITECTURE])))
    assert header.metadata["scores"] is None
    assert header.metadata["tokens"] is None
    assert header.metadata["words"] == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "ends inside"),
        (b"not a model at all", "not a GGUF"),
        (b"GGUF" + struct.pack("<I", 99), "version 99"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 1), "corrupt"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + text("k") + struct.pack("<I", 77), "value type 77"),
        (gguf([ARCHITECTURE])[:60], "ends inside"),
        (gguf([ARCHITECTURE], b"\0" * 127), "cut off"),
        (gguf([ARCHITECTURE], shape=(1, 1, 1, 1, 1)), "5 dimensions"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "no tensors"),
    ],
)
def test_a_broken_file_is_told_by_what_is_broken(write, content, what):
    with pytest.raises(ModelFileError, match=what):
        read_header(write(content))


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(ModelFileError, match="missing"):
        read_header(tmp_path / "nothing.gguf")


def test_every_cut_of_a_file_is_noticed(write):
    whole = gguf([ARCHITECTURE])
    for length in range(len(whole)):
        with pytest.raises(ModelFileError):
            read_header(write(whole[:length]))
    read_header(write(whole))
