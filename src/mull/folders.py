"""Files and folders that are whole or not there, and folders that one process writes to at a time.

What is written stands under a temporary name beside its target until it is renamed.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from mull.errors import MullError


def write_atomically(path: Path, data: bytes, *, onto_disk: bool = False) -> None:
    """Write `data` to `path`, replacing what is there, with normal permissions; its folder must exist.

    `onto_disk`: also wait until it is there, as a crash of the machine asks for.

    Raises:
        MullError: the file cannot be written.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                if onto_disk:
                    file.flush()
                    os.fsync(file.fileno())
            _open_up(Path(name), 0o666)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise MullError(f"cannot write {path}: {error.strerror}", "choose another folder") from None


LOCK = ".lock"
"""The file in a folder that its writer holds."""


@contextmanager
def locked(folder: Path, busy: MullError) -> Iterator[None]:
    """Hold `folder`, made where it is missing, against other processes; raises `busy` where one of them holds it.

    A writer may rename the folder or remove the lock before it lets go: whoever waited for that file then holds
    nothing, and is told that the folder is busy.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = os.path.samestat(os.fstat(lock.fileno()), (folder / LOCK).stat())
        except (BlockingIOError, FileNotFoundError):
            raise busy from None
        if not held:
            raise busy
        yield


LISTING = "mull-files.json"
"""Names what a folder of ours holds: one that holds anything else is never replaced."""


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A new folder to write into, which becomes `out` as a whole at the end, or leaves no trace where that fails.

    An `out` that was written this way before is replaced. No empty folders: they would count as somebody else's.

    Raises:
        MullError: `out` is a file or holds what was not written this way, or its place cannot be written to.
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
        _open_up(partial, 0o777)
        _swap_in(partial, out)
    except OSError as error:
        raise MullError(f"cannot write the folder {out}: {error.strerror}", "choose another --out") from None
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def _swap_in(partial: Path, out: Path) -> None:
    """Put the finished folder in its place; an old one is moved aside first, back on any failure, and removed last."""
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


def _open_up(path: Path, mode: int) -> None:
    """Give what tempfile made for its owner alone the permissions of any new file or folder."""
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
