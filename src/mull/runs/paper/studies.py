"""The studies of the interpolation paper as lists of settings: ablations of layers, modules and decoding, other
backbones, other merge methods (Wu et al. 2025, arXiv 2510.10977, section 4 and its tables)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from mull.checkpoints.names import MODULE_KINDS, layer_of, module_kind
from mull.engines.base import Sampling
from mull.errors import MullError
from mull.merging.coefficients import Coefficients
from mull.merging.coefficients.presets import preset
from mull.merging.coefficients.recipe import Recipe
from mull.merging.coefficients.rules import Rule
from mull.merging.methods import make
from mull.runs.settings import Setting
from mull.words import counted


def layer_settings(lam: float, names: Sequence[str], ranges: Sequence[tuple[int, int]] | None = None) -> list[Setting]:
    """λ in all layers; then λ in each range only, with Instruct's weights in the other layers.

    Ranges include both ends. By default the paper's: each third, the first two thirds, the last two thirds.
    """
    count = max((layer for layer in map(layer_of, names) if layer is not None), default=-1) + 1
    if ranges is None:
        if count < 3:
            raise MullError(f"a model of {counted(count, 'layer')} has no thirds", "name the ranges with --ranges")
        third = [round(count * part / 3) for part in range(4)]
        cuts = [(0, 1), (1, 2), (2, 3), (0, 2), (1, 3)]
        ranges = [(third[first], third[last] - 1) for first, last in cuts]
    settings = [Setting.of(Coefficients.scalar(lam), "all layers")]
    for first, last in ranges:
        coefficients = Coefficients.only(lam, layers=(first, last))
        settings.append(Setting.of(coefficients, f"layers {first}-{last}"))
    return settings


def module_settings(lam: float, names: Sequence[str]) -> list[Setting]:
    """λ everywhere; λ in one kind of module only, for each kind; λ everywhere except in one kind. Else Instruct."""
    present = {module_kind(name) for name in names}
    kinds = [kind for kind in MODULE_KINDS if kind in present]
    settings = [Setting.of(Coefficients.scalar(lam), "all modules")]
    settings += [Setting.of(Coefficients.only(lam, modules=[kind]), f"only {kind}") for kind in kinds]
    return settings + [Setting.of(_without(lam, kind), f"without {kind}") for kind in kinds]


def _without(lam: float, kind: str) -> Coefficients:
    return Coefficients(lam, (Rule(0.0, modules=(kind,)),))


def decoding_settings(
    lam: float, sampling: Sampling, temperatures: Iterable[float], top_ps: Iterable[float]
) -> list[Setting]:
    """One λ with every combination of temperature and top-p. Raises `MullError` for values outside their range."""
    settings = []
    for temperature in temperatures:
        for top_p in top_ps:
            try:
                own = replace(sampling, temperature=temperature, top_p=top_p)
            except ValueError as error:
                raise MullError(str(error), "the paper varies T from 0.6 to 0.7 and top-p from 0.8 to 0.95") from None
            settings.append(Setting(f"T {temperature:g}, top-p {top_p:g}", Recipe(Coefficients.scalar(lam)), own))
    return settings


def backbone_settings(lam: float, roles: Iterable[str]) -> list[Setting]:
    """λ between Instruct and Thinking, then between each checkpoint in `roles` and Thinking."""
    settings = [Setting.of(Coefficients.scalar(lam), "instruct")]
    for role in roles:
        settings.append(Setting(role, Recipe(Coefficients.scalar(lam), models=(role, "thinking"))))
    return settings


def comparison_settings(lams: Iterable[float], *, base: bool, hybrid: bool, density: float = 0.5) -> list[Setting]:
    """Interpolation at several λ, SLERP, and the methods that need a base: the paper's baselines and DARE.

    `base`: the plan has a pretrained checkpoint with the role "base"; `hybrid`: it has a checkpoint with the role
    "hybrid" that both ends were trained from. The baselines' α and densities are those of the paper's presets. DARE
    takes TA's α and keeps the share `density` of the elements.
    """
    settings = [Setting.of(Coefficients.scalar(lam)) for lam in lams]
    settings += [Setting(f"slerp {lam:g}", Recipe(Coefficients.scalar(lam), make("slerp"))) for lam in (0.5, 0.8)]
    roles = {"hybrid": ""} if hybrid else {}
    roles |= {"base": "-base"} if base else {}
    for role, suffix in roles.items():
        for name in ("ta", "ties"):
            found = preset(f"mi-paper:{name}{suffix}")
            coefficients = Coefficients.scalar(found.coefficient, extrapolate=True)
            settings.append(Setting(f"{name}{suffix}", Recipe(coefficients, found.method, base=role)))
        alpha = Coefficients.scalar(preset("mi-paper:ta").coefficient, extrapolate=True)
        settings.append(Setting(f"dare{suffix}", Recipe(alpha, make("dare", {"density": density}), base=role)))
    return settings
