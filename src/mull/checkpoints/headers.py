"""Reads, checks and writes safetensors headers: names, dtypes, shapes and byte ranges of tensors.

The safetensors library does not give byte offsets, which a merge needs; and it must be possible to plan a merge from
headers alone. Knows nothing of models.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import NamedTuple

from mull.errors import MullError
from mull.words import counted

# Bytes per element; the names are the format's own.
ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
    "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "F8_E4M3FNUZ": 1, "F8_E5M2FNUZ": 1, "C64": 8,
}  # fmt: skip
_ITEM_BITS = {name: 8 * size for name, size in ITEM_BYTES.items()} | {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}
FLOATING = ("F64", "F32", "F16", "BF16")
_MAX_HEADER = 100_000_000  # the format's own limit
_MAX_NUMBER = 1 << 62
_MAX_DIMENSIONS = 64
_COMPARED = 1 << 20  # bytes compared at a time


class TensorInfo(NamedTuple):
    """Where one tensor is stored."""

    name: str
    dtype: str
    """Safetensors' name of it, e.g. "BF16"."""
    shape: tuple[int, ...]
    file: Path
    start: int
    """Byte offset in the file."""
    nbytes: int

    @property
    def numel(self) -> int:
        return math.prod(self.shape)


def read_header(path: Path) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """The tensors of a safetensors file, in file order, and its metadata.

    Raises:
        MullError: the file cannot be read or is no safetensors file, its header is corrupt, or its data is cut short.
    """
    remedy = "download or save this file again"
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            prefix = file.read(8)
            if len(prefix) < 8:
                raise MullError(f"{path} is not a safetensors file: only {counted(size, 'byte')}", remedy)
            (length,) = struct.unpack("<Q", prefix)
            if length > min(_MAX_HEADER, size - 8):
                what = f"{path}: corrupt safetensors header: it claims {length} bytes in a file of {size}"
                raise MullError(what, remedy)
            raw = file.read(length)
    except OSError as error:
        raise MullError(
            f"cannot read {path}: {error.strerror}", "check that it exists and that you may read it"
        ) from None
    try:
        entries, metadata = _parse(raw)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MullError(f"{path}: corrupt safetensors header ({error})", remedy) from None
    data = 8 + length
    tensors: dict[str, TensorInfo] = {}
    expected = 0
    for name, dtype, shape, begin, end in entries:
        if dtype not in _ITEM_BITS:
            raise MullError(f"{path}: {name} has the unknown dtype {dtype!r}", "known: " + ", ".join(_ITEM_BITS))
        if begin != expected:
            raise MullError(
                f"{path}: corrupt safetensors header: {name} starts at byte {begin}, not {expected}", remedy
            )
        if (end - begin) * 8 != _ITEM_BITS[dtype] * math.prod(shape):
            what = f"{path}: corrupt safetensors header: {name} ({dtype} {list(shape)}) has {end - begin} bytes"
            raise MullError(what, remedy)
        expected = end
        tensors[name] = TensorInfo(name, dtype, shape, path, data + begin, end - begin)
    if data + expected != size:
        raise MullError(f"{path} is cut short or damaged: {size} bytes, its header announces {data + expected}", remedy)
    return tensors, metadata


def same_bytes(a: TensorInfo, b: TensorInfo) -> bool:
    """Whether two tensors agree in dtype, shape and every byte. Reads both up to their first difference."""
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    try:
        with a.file.open("rb") as left, b.file.open("rb") as right:
            for done in range(0, a.nbytes, _COMPARED):
                left.seek(a.start + done)
                right.seek(b.start + done)
                count = min(_COMPARED, a.nbytes - done)
                if left.read(count) != right.read(count):
                    return False
    except OSError as error:
        raise MullError(f"cannot read {a.file}: {error.strerror}", "check the disk, then run it again") from None
    return True


_Entry = tuple[str, str, tuple[int, ...], int, int]


def _parse(raw: bytes) -> tuple[list[_Entry], dict[str, str]]:
    """`(name, dtype, shape, begin, end)` in file order, and the metadata.

    Raises ValueError, KeyError, TypeError, AttributeError or RecursionError if `raw` is no such header.
    """
    header = json.loads(raw.decode("utf-8"))
    metadata = header.pop("__metadata__", None) or {}
    if not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("metadata that is not text")
    entries: list[_Entry] = []
    for name, entry in header.items():
        name.encode()  # raises ValueError for a lone surrogate, which cannot be written into another header
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or not isinstance(shape, list) or len(shape) > _MAX_DIMENSIONS:
            raise ValueError("fields of the wrong type")
        if not all(type(number) is int and 0 <= number < _MAX_NUMBER for number in (*shape, begin, end)):
            raise ValueError("sizes or offsets that are no numbers in range")
        entries.append((name, dtype, tuple(shape), begin, end))
    return sorted(entries, key=lambda entry: entry[3:]), metadata


def layout_header(tensors: list[tuple[str, str, tuple[int, ...]]]) -> tuple[bytes, dict[str, tuple[int, int]]]:
    """Header bytes of a file with tensors `(name, dtype, shape)` in this order, and each tensor's (start, bytes).

    The header is padded to a multiple of 8 bytes, so that 8-byte elements are aligned.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    spans: dict[str, tuple[int, int]] = {}
    offset = 0
    for name, dtype, shape in tensors:
        nbytes = ITEM_BYTES[dtype] * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + nbytes]}
        spans[name] = (offset, nbytes)
        offset += nbytes
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    head = struct.pack("<Q", len(raw)) + raw
    return head, {name: (len(head) + start, nbytes) for name, (start, nbytes) in spans.items()}
