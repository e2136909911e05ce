"""The built-in pair: its checkpoints and its arithmetic problems. The folder `training` holds how it was made."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Kind = Literal["base", "instruct", "thinking"]


THINK_RATIO = {
    0.0: 0.0,
    0.2: 0.0,
    0.3: 0.0,
    0.4: 0.040,
    0.45: 0.189,
    0.5: 0.417,
    0.6: 0.855,
    0.7: 1.0,
    0.8: 1.0,
    0.9: 0.999,
    1.0: 1.0,
}
"""Share of the pair's responses that think, by λ, as `mull demo` measures it (docs/tiny-pair.md)."""

TOKENS = {
    0.0: 29.8,
    0.2: 31.4,
    0.3: 32.5,
    0.4: 35.8,
    0.45: 43.8,
    0.5: 60.0,
    0.6: 99.1,
    0.7: 134.1,
    0.8: 166.4,
    0.9: 200.8,
    1.0: 240.8,
}
"""Mean tokens of a response, by λ, of the same measurement."""


def checkpoint_folder(kind: Kind) -> Path:
    """The folder of a built-in checkpoint, as transformers reads it."""
    return Path(__file__).parent / "weights" / kind
