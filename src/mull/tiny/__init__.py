"""The built-in pair: its checkpoints and its arithmetic problems. The folder `training` holds how it was made."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Kind = Literal["base", "instruct", "thinking"]


def checkpoint_folder(kind: Kind) -> Path:
    """The folder of a built-in checkpoint, as transformers reads it."""
    return Path(__file__).parent / "weights" / kind
