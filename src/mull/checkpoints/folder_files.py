"""The files of a model folder besides its weights: which of them a copy needs, and which cannot be used as they are.

A clone without Git LFS holds short pointers in place of large files. The hub's cache holds links to its blobs, which
may be missing. A folder from elsewhere may hold links to private files outside it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from mull.errors import MullError

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".ot")
OTHER_LAYOUTS = ("original", "metal", "onnx", "openvino", "gguf", "coreml", "checkpoint-*")
"""Subfolders in which repositories keep the same model in another layout, or earlier steps of its training."""
_NOT_NEEDED = {"mull.json", "README.md", "training.json"}
_LOADED = (".safetensors", ".json", ".jinja", ".model", ".txt", ".tiktoken", ".py")
_POINTER_BYTES = 1024  # a pointer is smaller than this
_LFS = b"version https://git-lfs.github.com/spec/"


def check_usable(path: Path) -> None:
    """Raise MullError if this is a link to a missing file, cannot be read, or is a Git LFS pointer."""
    if path.is_symlink() and not path.exists():
        what = f"{path} is a link to {path.readlink()}, which is missing"
        raise MullError(what, "download the checkpoint again: the cache it lies in is incomplete")
    try:
        with path.open("rb") as file:
            begin = file.read(len(_LFS))
    except OSError as error:
        raise MullError(f"cannot read {path}: {error.strerror}", "check that you may read it") from None
    if begin == _LFS:
        what = f"{path} is a Git LFS pointer: it stands for a file that was not downloaded"
        raise MullError(what, "run `git lfs pull` in its folder, or download the checkpoint again")


def check_files(folder: Path) -> None:
    """Raise MullError if a file that a model is loaded from is not there: only a link or a pointer to it."""
    with os.scandir(folder) as entries:
        paths = [Path(entry.path) for entry in entries if entry.name.endswith(_LOADED) and entry.name[0] != "."]
    for path in sorted(paths):
        if not path.exists() or (path.is_file() and path.stat().st_size <= _POINTER_BYTES):
            check_usable(path)


def companions(folder: Path) -> list[Path]:
    """Files that a copy of the model needs besides weights: config, tokenizer, templates, licence, code.

    Those in subfolders (`additional_chat_templates`) too, but not in a subfolder that holds weights of its own.
    """
    found = [path for path in sorted(folder.iterdir()) if path.is_file() and _is_companion(path)]
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith((".", "__")):
            found += _companions_within(path)
    return found


def check_companions(folder: Path) -> None:
    """Raise MullError for a companion that must not or cannot be copied.

    A link to a file outside the folder might publish a private file together with the model. The exceptions are the
    links of the hub's cache, from `snapshots/…` to `blobs/…`.
    """
    root = folder.resolve()
    blobs = root.parent.parent / "blobs" if root.parent.name == "snapshots" else root
    for path in companions(folder):
        target = path.resolve()
        if not target.is_relative_to(root) and not target.is_relative_to(blobs):
            what = f"{path} is a link to {target}, outside its folder"
            raise MullError(what, "such a link is not followed: put the file itself there if it belongs to the model")
        if path.is_dir():
            raise MullError(f"{path} is a link to a folder", "put the folder itself there if it belongs to the model")
        if not os.access(path, os.R_OK):
            raise MullError(f"cannot read {path}", "check its permissions: it is copied beside the weights")
        check_usable(path)


def _companions_within(folder: Path) -> Iterator[Path]:
    """The companions in a subfolder, and links to folders as such."""
    if any(fnmatch(folder.name, pattern) for pattern in OTHER_LAYOUTS):
        return
    if folder.is_symlink():
        yield folder
        return
    paths = sorted(folder.iterdir())
    if any(path.name.endswith(WEIGHTS) for path in paths):
        return
    for path in paths:
        if path.is_dir() and not path.name.startswith((".", "__")):
            yield from _companions_within(path)
        elif (path.is_file() or path.is_symlink()) and _is_companion(path):
            yield path


def _is_companion(path: Path) -> bool:
    hidden = path.name.startswith(".")
    return not hidden and path.name not in _NOT_NEEDED and not path.name.endswith((*WEIGHTS, ".index.json"))
