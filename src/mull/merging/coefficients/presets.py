"""Settings of published comparisons, by name."""

from __future__ import annotations

from dataclasses import dataclass

from mull.errors import MullError, nearest
from mull.merging.methods import Method
from mull.merging.methods.ta import TaskArithmetic
from mull.merging.methods.ties import Ties


@dataclass(frozen=True)
class Preset:
    """A method with its parameters and coefficient, and a note on what the publication leaves open."""

    method: Method
    coefficient: float
    note: str


_HYBRID = "the base is the hybrid model (Qwen3-4B)"
_PRETRAINED = "the base is the pretrained model (Qwen3-4B-Base)"
_SPARSITY = (
    "the paper's \"sparsity 0.2\" is read as the share that is kept, TIES' own default; "
    "the other reading is --param density=0.8"
)
PRESETS = {
    "mi-paper:ta": Preset(TaskArithmetic(), 0.7, _HYBRID),
    "mi-paper:ta-base": Preset(TaskArithmetic(), 0.7, _PRETRAINED),
    "mi-paper:ties": Preset(Ties(density=0.2), 0.5, f"{_HYBRID}; {_SPARSITY}"),
    "mi-paper:ties-base": Preset(Ties(density=0.2), 0.5, f"{_PRETRAINED}; {_SPARSITY}"),
}
"""The baselines of Wu et al. 2025 (arXiv 2510.10977), section 4."""


def preset(name: str) -> Preset:
    """The preset called `name`. Raises MullError if there is none."""
    if name not in PRESETS:
        raise MullError(f"unknown preset {name!r}", nearest(name, PRESETS))
    return PRESETS[name]
