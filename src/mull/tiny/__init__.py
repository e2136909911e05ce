"""The built-in pair: where its shipped checkpoints lie. How they were made: corpus, vocabulary, train, export."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Kind = Literal["base", "instruct", "thinking"]


def checkpoint_folder(kind: Kind) -> Path:
    """The folder of a built-in checkpoint, as transformers reads it."""
    return Path(__file__).parent / "weights" / kind
