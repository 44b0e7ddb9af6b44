"""Headers of pictures are read for kind and size, whatever the bytes are; nothing is decoded."""

import base64
import struct
import time
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ollama_mcp.errors import InvalidArgument
from ollama_mcp.ollama.images import Picture, look

SIDES = st.integers(1, 2**16 - 1)
NARROW = st.integers(1, 2**14 - 1)
MAGICS = [
    b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR",
    b"\xff\xd8\xff",
    b"GIF87a",
    b"GIF89a",
    b"RIFF\0\0\0\0WEBP",
    b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0",
    b"RIFF\0\0\0\0WEBPVP8 \x0a\0\0\0\0\0\0\x9d\x01\x2a",
    b"RIFF\0\0\0\0WEBPVP8L\x0a\0\0\0\x2f",
    b"BM" + bytes(12) + b"\x28\0\0\0",
    b"BM" + bytes(12) + b"\x0c\0\0\0",
]


def png(width: int, height: int) -> bytes:
    return MAGICS[0] + struct.pack(">II", width, height) + b"\x08\x06\0\0\0"


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0"


def bmp(width: int, height: int) -> bytes:
    return MAGICS[8] + struct.pack("<ii", width, height)


def old_bmp(width: int, height: int) -> bytes:
    return MAGICS[9] + struct.pack("<HH", width, height)


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def frame(width: int, height: int, marker: int = 0xC0) -> bytes:
    return segment(marker, b"\x08" + struct.pack(">HH", height, width) + b"\x03" + bytes(9))


def jpeg(width: int, height: int) -> bytes:
    thumbnail = b"\xff\xd8" + frame(1, 1) + b"\xff\xd9"
    tables = segment(0xE0, b"JFIF\0") + segment(0xE1, b"Exif\0\0" + thumbnail) + segment(0xC4, bytes(20))
    return b"\xff\xd8" + tables + frame(width, height, 0xC2) + b"\xff\xda"


def riff(*parts: tuple[bytes, bytes]) -> bytes:
    packed = [
        name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2) for name, content in parts
    ]
    whole = b"WEBP" + b"".join(packed)
    return b"RIFF" + struct.pack("<I", len(whole)) + whole


def lossy(width: int, height: int) -> tuple[bytes, bytes]:
    return b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height)


def lossless(width: int, height: int) -> tuple[bytes, bytes]:
    return b"VP8L", b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14)


def canvas(width: int, height: int) -> tuple[bytes, bytes]:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"VP8X", bytes(4) + sides


# --- what they say -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "make"), [("PNG", png), ("GIF", gif), ("BMP", bmp), ("BMP", old_bmp), ("JPEG", jpeg)]
)
@given(width=SIDES, height=SIDES)
def test_a_header_tells_kind_and_size(kind, make, width, height):
    assert look(make(width, height)) == Picture(kind, width, height)


@pytest.mark.parametrize("part", [lossy, lossless, canvas])
@given(width=NARROW, height=NARROW)
def test_a_webp_tells_its_size_in_each_of_its_forms(part, width, height):
    assert look(riff(part(width, height))) == Picture("WebP", width, height)


@pytest.mark.parametrize(
    ("text", "picture"),
    [
        # Files that other programs wrote, whole.
        (
            "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABpfZFQAAAAABJRU5ErkJggg==",
            Picture("PNG", 1, 1),
        ),
        ("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7", Picture("GIF", 1, 1)),
        ("UklGRiIAAABXRUJQVlA4IBYAAAAwAQCdASoBAAEADsD+JaQAA3AAAAAA", Picture("WebP", 1, 1)),
        ("UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==", Picture("WebP", 1, 1)),
        ("Qk0eAAAAAAAAABoAAAAMAAAAAQABAAEAGAAAAP8A", Picture("BMP", 1, 1)),
    ],
)
def test_real_files_are_read(text, picture):
    assert look(base64.b64decode(text)) == picture


def test_a_webp_is_as_large_as_the_largest_that_any_of_its_parts_says():
    hidden = riff(canvas(1, 1), (b"ALPH", b"x"), lossless(16000, 9000))
    assert look(hidden) == Picture("WebP", 16000, 9000)


def test_a_bmp_from_top_to_bottom_has_a_height_all_the_same():
    assert look(bmp(3, -4)) == Picture("BMP", 3, 4)
    assert look(bmp(-(2**31), -(2**31))) == Picture("BMP", 2**31, 2**31)


def test_what_stands_between_the_segments_of_a_jpeg_hides_nothing():
    stuffed = (
        b"\xff\xd8" + segment(0xE0, b"x") + b"junk\xff\0\xff\xff\xff\x01\xff\xd3" + frame(30000, 20000)[:]
    )
    assert look(stuffed) == Picture("JPEG", 30000, 20000)


# --- what is none ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", b"%PDF-1.7", b"<svg/>", b"II*\0\x08\0\0\0", b"BM" + b"x" * 40, b"RIFF\0\0\0\0WAVE",
     b"GIF90a", b"\x89PNG\r\n\x1a\n" + b"\0\0\0\x04CgBI" + bytes(40), b"\0\0\0\x18ftypheic", b"\0\0\1\0"],
)  # fmt: skip
def test_what_is_no_picture_for_ollama_is_refused_with_the_kinds_that_are(data):
    with pytest.raises(InvalidArgument, match="kind") as caught:
        look(data)
    assert "PNG, JPEG, GIF, WebP or BMP" in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        png(0, 5),
        png(5, 0),
        gif(0, 1),
        bmp(1, 0),
        jpeg(9, 0),
        riff(lossy(0, 3)),
        riff((b"EXIF", b"x")),
        *MAGICS,
    ],
)
def test_a_picture_without_a_size_is_refused(data):
    with pytest.raises(InvalidArgument, match="no size"):
        look(data)


@pytest.mark.parametrize("whole", [png(7, 8), gif(7, 8), bmp(7, 8), old_bmp(7, 8), riff(lossless(7, 8))])
def test_a_header_that_ends_early_is_refused_at_every_byte(whole):
    size_ends = {b"\x89": 24, b"G": 10, b"R": 25}.get(whole[:1], 22 if len(whole) == 22 else 26)
    for end in range(size_ends):
        with pytest.raises(InvalidArgument):
            look(whole[:end])


@given(st.builds(bytes.__add__, st.sampled_from([b"", *MAGICS]), st.binary(max_size=200)))
@example(b"\xff\xd8\xff\xe0\xff\xff")
@example(b"\xff\xd8\xff\xe0\0\0")
@example(b"RIFF\0\0\0\0WEBPVP8X\xff\xff\xff\xff")
def test_any_bytes_are_a_picture_with_a_size_or_a_failure_of_ours(data):
    with suppress(InvalidArgument):
        picture = look(data)
        assert picture.width > 0
        assert picture.height > 0


@given(st.sampled_from([png, gif, bmp, jpeg]), SIDES, SIDES, st.integers(0, 80), st.integers(0, 255))
def test_a_damaged_byte_never_is_an_unclassified_failure(make, width, height, place, byte):
    data = bytearray(make(width, height))
    data[place % len(data)] = byte
    with suppress(InvalidArgument):
        assert look(bytes(data)).width > 0


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8" + b"\xff" * 20_000_000,
        b"\xff\xd8\xff" + b"\xff\0" * 10_000_000,
        b"\xff\xd8" + b"\xff\xd0" * 10_000_000,
        b"\xff\xd8" + b"\xff\xe0\0\2" * 5_000_000,
        b"RIFF\0\0\0\0WEBP" + b"EXIF\0\0\0\0" * 2_500_000,
    ],
    ids=["fill", "stuffing", "markers", "segments", "chunks"],
)
@pytest.mark.long
def test_a_header_without_an_end_costs_no_time(data):
    before = time.process_time()
    with pytest.raises(InvalidArgument):
        look(data)
    assert time.process_time() - before < 0.5
