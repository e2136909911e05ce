"""A short content hash of a checkpoint: enough to tell two apart without reading gigabytes."""

from __future__ import annotations

import hashlib

from mull.checkpoints.checkpoint import Checkpoint
from mull.checkpoints.headers import read_header

_PLACES = 64
_BYTES = 4096
_SMALL = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def fingerprint(checkpoint: Checkpoint) -> str:
    """Hex digest over the small files, the headers, and 64 evenly spaced blocks of each weight file.

    Independent of where the folder lies. Two trainings of one model differ nearly everywhere, so a sample of blocks
    tells them apart; a deliberate change of a few weights between the blocks would go unseen.
    """
    digest = hashlib.sha256()
    for name in _SMALL:
        path = checkpoint.folder / name
        digest.update(f"{name}:".encode() + (path.read_bytes() if path.is_file() else b""))
    for path in checkpoint.files:
        tensors, _ = read_header(path)
        digest.update(repr([(t.name, t.dtype, t.shape, t.start) for t in tensors.values()]).encode())
        size = path.stat().st_size
        with path.open("rb") as file:
            for i in range(_PLACES):
                file.seek(i * max(0, size - _BYTES) // (_PLACES - 1))
                digest.update(file.read(_BYTES))
    return digest.hexdigest()[:16]
