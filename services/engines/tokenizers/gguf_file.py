"""A reader for the header of a GGUF file: its metadata and number of parameters, without the weights.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian. The library `gguf` takes
seconds to read a vocabulary; this reader takes 0.2 s.
"""

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from services.engines.models import ModelError

Value = int | float | bool | str | list["Value"]

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_U32, _U64 = "<I", "<Q"


@dataclass(frozen=True, slots=True)
class GgufFile:
    """Metadata by key, and the number of the model's parameters."""

    metadata: Mapping[str, Value]
    parameters: int

    def text(self, key: str) -> str | None:
        """Return the string for a key; None if it is missing or of another type."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None

    def number(self, key: str) -> int | None:
        """Return the integer for a key; None if it is missing or of another type."""
        value = self.metadata.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def texts(self, key: str) -> list[str]:
        """Return the strings in the list for a key; empty if it is missing."""
        value = self.metadata.get(key)
        return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []

    def numbers(self, key: str) -> list[int]:
        """Return the integers in the list for a key; empty if it is missing."""
        value = self.metadata.get(key)
        return [item for item in value if isinstance(item, int)] if isinstance(value, list) else []


def read_gguf(path: Path) -> GgufFile:
    """Read a file's metadata. Raises `ModelError` if it is not a GGUF file."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _read(_Cursor(data))
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise ModelError(f"{path} is not a readable GGUF file: {error}") from error


@dataclass(slots=True)
class _Cursor:
    """A reader of values at a position in the file, which it advances."""

    data: mmap.mmap
    at: int = 0

    def scalar(self, form: str) -> int:
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value

    def string(self) -> str:
        length = self.scalar(_U64)
        start, self.at = self.at, self.at + length
        return self.data[start : self.at].decode()

    def value(self, kind: int) -> Value:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            inner, count = self.scalar(_U32), self.scalar(_U64)
            return [self.value(inner) for _ in range(count)]
        return self.scalar(_SCALARS[kind])

    def tensor_size(self) -> int:
        """Skip a tensor's description and return its number of elements."""
        self.string()
        shape = [self.scalar(_U64) for _ in range(self.scalar(_U32))]
        self.scalar(_U32)
        self.scalar(_U64)
        return prod(shape)


def _read(cursor: _Cursor) -> GgufFile:
    if cursor.data[:4] != b"GGUF":
        raise ValueError("it does not begin with GGUF")
    cursor.at = 4
    version, tensors, pairs = cursor.scalar(_U32), cursor.scalar(_U64), cursor.scalar(_U64)
    if version not in {2, 3}:
        raise ValueError(f"version {version}")
    metadata = {cursor.string(): cursor.value(cursor.scalar(_U32)) for _ in range(pairs)}
    return GgufFile(metadata, sum(cursor.tensor_size() for _ in range(tensors)))
