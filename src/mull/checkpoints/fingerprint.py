"""A short content hash that distinguishes checkpoints without reading all of their gigabytes."""

from __future__ import annotations

import hashlib

from mull.checkpoints.checkpoint import Checkpoint
from mull.checkpoints.headers import read_header

_BLOCKS = 64
_BLOCK_BYTES = 4096
_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def fingerprint(checkpoint: Checkpoint) -> str:
    """Hex digest over the small files, the headers, and 64 evenly spaced blocks of each weight file.

    Does not depend on the path of the folder. Two trainings of one model differ in nearly all weights, so a sample of
    blocks distinguishes them; a change of only a few weights outside the blocks is not noticed.
    """
    digest = hashlib.sha256()
    for name in _FILES:
        path = checkpoint.folder / name
        digest.update(f"{name}:".encode() + (path.read_bytes() if path.is_file() else b""))
    for path in checkpoint.files:
        tensors, _ = read_header(path)
        digest.update(repr([(t.name, t.dtype, t.shape, t.start) for t in tensors.values()]).encode())
        size = path.stat().st_size
        with path.open("rb") as file:
            for i in range(_BLOCKS):
                file.seek(i * max(0, size - _BLOCK_BYTES) // (_BLOCKS - 1))
                digest.update(file.read(_BLOCK_BYTES))
    return digest.hexdigest()[:16]
