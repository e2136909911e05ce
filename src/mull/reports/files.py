"""Files and folders that are whole or not there: written under a temporary name beside the target, then renamed."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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


MANIFEST = "mull-files.json"
"""Names what a folder of ours holds: one that holds anything else is never replaced."""


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A new folder to write into, which becomes `out` as a whole at the end, or leaves no trace where that fails.

    An `out` that was written this way before is replaced.

    Raises:
        MullError: `out` is a file or holds what was not written this way, or its place cannot be written to.
    """
    out = out.resolve()
    _check_replaceable(out)
    partial = old = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
        yield partial
        names = sorted(path.relative_to(partial).as_posix() for path in partial.rglob("*") if path.is_file())
        write_atomically(partial / MANIFEST, json.dumps({"files": names}, indent=1).encode())
        umask = os.umask(0)
        os.umask(umask)
        partial.chmod(0o777 & ~umask)
        if out.exists():
            old = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
            out.replace(old)
        partial.replace(out)
    except OSError as error:
        if old is not None and not out.exists():
            old.replace(out)
        raise MullError(f"cannot write the folder {out}: {error.strerror}", "choose another --out") from None
    finally:
        for left in (partial, old):
            if left is not None:
                shutil.rmtree(left, ignore_errors=True)


def _check_replaceable(out: Path) -> None:
    if out.is_file():
        raise MullError(f"the output {out} is a file", "choose a folder")
    if not out.exists() or not any(out.iterdir()):
        return
    try:
        known = {MANIFEST, *json.loads((out / MANIFEST).read_text())["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        known = set()
    there = (path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir())
    foreign = next((name for name in sorted(there) if name not in known), None)
    if foreign is not None:
        raise MullError(f"the folder {out} holds something else ({foreign})", "choose another --out, or empty it")
