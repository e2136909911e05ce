"""Text files of users: UTF-8, or refused with the encoding that they seem to have."""

from __future__ import annotations

import codecs
import shlex
from pathlib import Path

from mull.errors import MullError

_MARKS = {codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}
"""Byte order marks; that of UTF-32 begins with that of UTF-16, so it comes first."""


def decoded(path: Path, content: bytes) -> str:
    """The content of the file as text, without a byte order mark.

    Raises:
        MullError: it is not UTF-8; the message says what it seems to be, and quotes one byte at most.
    """
    for mark, name in _MARKS.items():
        if content.startswith(mark):
            raise _not_utf8(path, "it begins with the mark of", name)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = content[:400]
        if len(start) // 4 < start.count(0) <= len(start) // 2:
            raise _not_utf8(path, "every other byte is 0, as in", "UTF-16") from None
        if start.count(0):
            raise MullError(f"{path} is not UTF-8 text", "give a text file, not a spreadsheet or an archive") from None
        line = content.count(b"\n", 0, error.start) + 1
        where = f"byte 0x{content[error.start]:02x} in line {line} may be"
        raise _not_utf8(path, where, "WINDOWS-1252") from None


def _not_utf8(path: Path, why: str, name: str) -> MullError:
    command = f"iconv -f {name} -t UTF-8 {shlex.quote(path.name)} > new{path.suffix}"
    return MullError(f"{path} is not UTF-8 text: {why} {name}", f"save it as UTF-8, as with: {command}")
