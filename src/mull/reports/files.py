"""Files that are whole or not there: written under a temporary name beside the target, then renamed."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from mull.errors import MullError


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path`, replacing what is there, with normal permissions; its folder must exist.

    Raises:
        MullError: the file cannot be written.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            umask = os.umask(0)
            os.umask(umask)
            Path(name).chmod(0o666 & ~umask)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise MullError(f"cannot write {path}: {error.strerror}", "choose another folder") from None
