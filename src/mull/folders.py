"""Writes files and folders so that they are complete or absent, and locks folders against other processes.

Data are written under a temporary name beside the target, which is renamed at the end.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from mull import portable
from mull.errors import MullError


def write_atomically(path: Path, data: bytes, *, onto_disk: bool = False) -> None:
    """Write `data` to `path`, replacing an existing file, with the permissions of a new file; its folder must exist.

    `onto_disk`: also wait until the data are on disk (fsync), so that they survive a crash of the machine.

    Raises:
        MullError: the file cannot be written.
    """
    with whole_file(path) as partial, partial.open("wb") as file:
        file.write(data)
        if onto_disk:
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """An empty file to write into, which is renamed to `path` at the end, or removed on an error.

    Raises:
        MullError: the file cannot be written.
    """
    partial = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        partial = Path(name)
        yield partial
        _set_default_permissions(partial, 0o666)
        partial.replace(path)
    except OSError as error:
        raise MullError(f"cannot write {path}: {error.strerror or error}", "choose another folder") from None
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


LOCK = ".lock"
"""The file in a folder that its writer locks."""


@contextmanager
def locked(folder: Path, busy: MullError) -> Iterator[None]:
    """Lock `folder`, made if it is missing, against other processes; raises `busy` if another one has locked it, and
    `MullError` if the file system cannot write or lock files.

    The other process may rename the folder or remove the lock file before it unlocks. A process that then locks the
    old file has locked nothing of use, so it gets `busy` too.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("w")
    except OSError as error:
        raise MullError(f"cannot write to {folder}: {error.strerror}", "choose another folder") from None
    with lock:
        try:
            _lock(lock)
            held = os.path.samestat(os.fstat(lock.fileno()), (folder / LOCK).stat())
        except (BlockingIOError, FileNotFoundError):
            raise busy from None
        except OSError as error:  # network file systems without locks
            what = f"{folder} cannot be locked against other processes: {error.strerror}"
            raise MullError(what, "choose a folder on a local disk") from None
        if not held:
            raise busy
        yield


def _lock(file: IO[str]) -> None:
    try:
        portable.lock(file.fileno())
    except BlockingIOError:
        time.sleep(0.05)  # `is_locked` may have held it to find out; it lets go at once
        portable.lock(file.fileno())


def is_locked(folder: Path) -> bool | None:
    """Whether another process has locked `folder`; None if that cannot be found out. Writes nothing."""
    try:
        with (folder / LOCK).open() as lock:
            portable.lock(lock.fileno(), shared=True)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except OSError:
        return None
    return False


LISTING = "mull-files.json"
"""Lists the files that `whole_folder` wrote. A folder with any other file is never replaced."""


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A new folder to write into, which is renamed to `out` at the end, or removed on an error.

    An `out` that was written this way before is replaced. Do not leave empty folders in it: they are not in its list,
    so that the next call would refuse to replace it.

    Raises:
        MullError: `out` is a file, or has files that were not written this way, or cannot be written.
    """
    out = out.resolve()
    _check_replaceable(out)
    partial = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
        yield partial
        names = sorted(path.relative_to(partial).as_posix() for path in partial.rglob("*") if path.is_file())
        write_atomically(partial / LISTING, json.dumps({"files": names}, indent=1).encode())
        _set_default_permissions(partial, 0o777)
        _swap_in(partial, out)
    except OSError as error:
        raise MullError(f"cannot write the folder {out}: {error.strerror}", "choose another --out") from None
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def _swap_in(partial: Path, out: Path) -> None:
    """Rename the finished folder to `out`. An old `out` is moved aside before, moved back on an error, else removed."""
    if not out.exists():
        partial.replace(out)
        return
    old = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        out.replace(old)
        partial.replace(out)
    except BaseException:
        if not out.exists():
            old.replace(out)
        raise
    finally:
        if out.exists():
            shutil.rmtree(old, ignore_errors=True)


def _set_default_permissions(path: Path, mode: int) -> None:
    """Give a path made by tempfile, which only its owner may read, the permissions of a new file or folder."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(mode & ~umask)


def _check_replaceable(out: Path) -> None:
    if out.is_file():
        raise MullError(f"the output {out} is a file", "choose a folder")
    if not out.exists() or not any(out.iterdir()):
        return
    try:
        files = {LISTING, *map(str, json.loads((out / LISTING).read_text())["files"])}
    except (OSError, ValueError, KeyError, TypeError):
        files = set()
    folders = {parent.as_posix() for name in files for parent in PurePosixPath(name).parents}

    def ours(path: Path) -> bool:
        name = path.relative_to(out).as_posix()
        return not path.is_symlink() and name in (folders if path.is_dir() else files)

    foreign = next((path for path in sorted(out.rglob("*")) if not ours(path)), None)
    if foreign is not None:
        name = foreign.relative_to(out)
        raise MullError(f"the folder {out} holds something else ({name})", "choose another --out, or empty it")
