"""Reads and writes safetensors headers: names, dtypes, shapes and byte ranges, checked before anything trusts them.

The safetensors library opens whole files for reading tensors; a merge needs the byte offsets, and a header alone
must be enough to plan it. Knows nothing of models.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import NamedTuple

from mull.errors import MullError

# bytes per element; the names are the format's own
ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
    "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "C64": 8,
}  # fmt: skip
FLOATING = ("F64", "F32", "F16", "BF16")
_MAX_HEADER = 100_000_000  # the format's own limit


class TensorInfo(NamedTuple):
    """Where one tensor lies."""

    name: str
    dtype: str
    """As safetensors spells it, e.g. "BF16"."""
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
        MullError: the file is no safetensors file, or its header is corrupt, or the data is cut short.
    """
    remedy = "download or save this file again"
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        if len(prefix) < 8:
            raise MullError(f"{path} is not a safetensors file: only {size} bytes", remedy)
        (length,) = struct.unpack("<Q", prefix)
        if length > min(_MAX_HEADER, size - 8):
            raise MullError(f"{path}: corrupt safetensors header: it claims {length} bytes in a file of {size}", remedy)
        raw = file.read(length)
    try:
        header = json.loads(raw)
        metadata = header.pop("__metadata__", {}) or {}
        entries = [(name, e["dtype"], tuple(e["shape"]), *e["data_offsets"]) for name, e in header.items()]
        if not all(
            isinstance(dtype, str) and all(isinstance(n, int) and n >= 0 for n in (*shape, begin, end))
            for _, dtype, shape, begin, end in entries
        ):
            raise ValueError("fields of the wrong type")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MullError(f"{path}: corrupt safetensors header ({error})", remedy) from None
    entries.sort(key=lambda entry: entry[3:])
    data = 8 + length
    tensors: dict[str, TensorInfo] = {}
    expected = 0
    for name, dtype, shape, begin, end in entries:
        item = ITEM_BYTES.get(dtype)
        if item is not None and end - begin != item * math.prod(shape):
            raise MullError(
                f"{path}: corrupt safetensors header: {name} ({dtype} {list(shape)}) has {end - begin} bytes", remedy
            )
        if begin != expected or end < begin:
            raise MullError(
                f"{path}: corrupt safetensors header: {name} starts at byte {begin}, not {expected}", remedy
            )
        expected = end
        tensors[name] = TensorInfo(name, dtype, shape, path, data + begin, end - begin)
    if data + expected != size:
        raise MullError(f"{path} is cut short or damaged: {size} bytes, its header announces {data + expected}", remedy)
    return tensors, metadata


def layout_header(tensors: list[tuple[str, str, tuple[int, ...]]]) -> tuple[bytes, dict[str, tuple[int, int]]]:
    """Header bytes of a file that holds `(name, dtype, shape)` in this order, and each tensor's (start, bytes).

    The header is padded to 8 bytes, so that data of 8-byte items stays aligned.
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
