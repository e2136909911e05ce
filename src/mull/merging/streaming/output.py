"""The output folder of a merge, which either is complete or does not exist.

A merge writes into a hidden folder beside it (`.NAME.partial`), which is locked against a second merge and holds a
journal of finished shards. When everything is written, it is renamed to the output. Knows nothing of tensors.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from mull.checkpoints.checkpoint import Checkpoint
from mull.errors import MullError
from mull.folders import LOCK, write_atomically

MANIFEST = "mull.json"
# Begins with a dot, as no companion file of a checkpoint does, so that the two cannot have the same name.
_JOURNAL = ".journal.json"


def check_place(out: Path) -> None:
    """Raise MullError unless a folder can be created as `out` by renaming another one."""
    target = out.resolve()
    if target == target.parent or target.is_mount():
        raise MullError(f"the output {out} is the top of a file system", "choose a folder inside it")
    parent = next(folder for folder in target.parents if folder.exists())
    if not parent.is_dir():
        raise MullError(f"the output {out} would lie in the file {parent}", "choose another output folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise MullError(f"cannot write into {parent}", "check its permissions, or choose another output folder")


def check_target(out: Path, inputs: Iterable[Checkpoint], *, overwrite: bool, config: str = "config.json") -> None:
    """Raise MullError unless a model may be written to `out`. It only replaces a folder with `config` and weights."""
    check_place(out)
    target = out.resolve()
    for side in inputs:
        source = side.folder.resolve()
        if target == source or target in source.parents:
            raise MullError(f"the output {out} holds the input {side.name}", "choose another output folder")
        if source in target.parents:
            raise MullError(f"the output {out} lies in the input {side.name}", "choose another output folder")
    if target.exists() and not target.is_dir():
        raise MullError(f"the output {out} is a file", "choose a folder that does not exist yet")
    if target.exists() and any(target.iterdir()):
        if not overwrite:
            raise MullError(f"the output folder {out} exists", "choose another, or pass --overwrite to replace it")
        if not (target / config).is_file() or not any(target.glob("*.safetensors")):
            kind = "a model" if config == "config.json" else "an adapter"
            what = f"{out} is not {kind} folder, so it is not replaced"
            raise MullError(what, "remove it yourself, or choose another")


def is_finished(out: Path, digest: str) -> bool:
    """Whether `out` is the complete result of the plan with this digest."""
    try:
        return json.loads((out / MANIFEST).read_text())["plan"] == digest
    except (OSError, ValueError, KeyError, TypeError):
        return False


def partial_folder(out: Path) -> Path:
    """The folder that is renamed to `out` at the end; it lies beside it, so that a rename is possible."""
    target = out.resolve()
    return target.with_name(f".{target.name}.partial")


def busy_error(out: Path) -> MullError:
    """The error for an `out` that another process is writing to."""
    return MullError(f"another merge is writing to {out}", "wait for it, or choose another folder")


def finished_shards(partial: Path, digest: str, sizes: dict[str, int]) -> list[str]:
    """File names of the shards that an earlier, killed run of the same plan finished. Removes all files but its shards.

    `digest` identifies the plan; `sizes` holds the bytes of each of its shards by file name.
    """
    try:
        saved = json.loads((partial / _JOURNAL).read_text())
        done = [name for name in saved["done"] if (partial / name).stat().st_size == sizes[name]]
        same = saved["digest"] == digest
    except (OSError, ValueError, KeyError, TypeError):
        done, same = [], False
    keep = {LOCK, _JOURNAL, *sizes} if same else {LOCK}
    for path in partial.iterdir():
        if path.name not in keep:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return done if same else []


def record_finished(partial: Path, digest: str, done: list[str]) -> None:
    """Write the journal that `finished_shards` reads."""
    write_text(partial / _JOURNAL, json.dumps({"digest": digest, "done": done}))


def swap_in(partial: Path, out: Path) -> None:
    """Rename the finished folder to `out`. An existing `out` is renamed first and removed last.

    Between the two stands a third name. Under it lock and journal are removed, so that `out` never has them, and no
    other merge looks for its lock there.
    """
    ready = _ready(out)
    shutil.rmtree(ready, ignore_errors=True)
    _sync(partial)
    partial.rename(ready)
    _take_place(ready, out)


def recover(out: Path, digest: str, *, overwrite: bool) -> bool:
    """Complete a `swap_in` of this plan's result that was killed. Returns whether there was one."""
    ready = _ready(out.resolve())
    if not is_finished(ready, digest) or (out.exists() and not overwrite):
        return False
    _take_place(ready, out.resolve())
    return True


def _ready(out: Path) -> Path:
    return out.with_name(f".{out.name}.ready")


def _take_place(ready: Path, out: Path) -> None:
    old = out.with_name(f".{out.name}.old")
    for name in (_JOURNAL, LOCK):
        (ready / name).unlink(missing_ok=True)
    if out.exists():
        shutil.rmtree(old, ignore_errors=True)
        out.rename(old)
    try:
        ready.rename(out)
    except BaseException:
        if old.exists() and not out.exists():
            old.rename(out)
        raise
    _sync(out.parent)
    shutil.rmtree(old, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write the file atomically and wait until it is on the disk."""
    write_atomically(path, text.encode(), onto_disk=True)


def copy_file(source: Path, target: Path) -> None:
    """Copy the content, not the permissions, into a folder that may be new, and wait until it is on the disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    _sync(target)


def _sync(path: Path) -> None:
    folder = path.is_dir()
    if folder and not hasattr(os, "O_DIRECTORY"):
        return  # Windows: folders cannot be opened
    descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)  # Windows: files only for writing
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
