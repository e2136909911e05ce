"""`mull ablate`: which part of the difference between Instruct and Thinking makes the model think."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

import typer

from mull.checkpoints.pair import Pair
from mull.cli.config import ConfigOption, kept
from mull.cli.options.common import JsonOption, given_options
from mull.cli.options.groups import grouped
from mull.cli.options.plans import (
    DryRunOption,
    PlanOptions,
    RunOption,
)
from mull.cli.running import sample_and_show
from mull.engines.base import Sampling
from mull.errors import MullError
from mull.merging.coefficients import check_lambda
from mull.runs.paper import studies
from mull.runs.plan import StudyKind
from mull.runs.settings import Setting


class Ablation(StrEnum):
    """What is varied."""

    layers = "layers"
    modules = "modules"
    decoding = "decoding"
    backbone = "backbone"


@grouped
def ablate(
    context: typer.Context,
    what: Annotated[Ablation, typer.Argument(help="What to vary: layers, modules, decoding or backbone.")],
    run: RunOption,
    lam: Annotated[float, typer.Option("--lambda", help="λ of the study.", metavar="λ")] = 0.8,
    ranges: Annotated[
        str | None,
        typer.Option(help="layers: ranges, as in 0-11,12-23 (default: thirds and two thirds).", metavar="RANGES"),
    ] = None,
    temperatures: Annotated[
        str, typer.Option(help="decoding: temperatures, comma-separated.", metavar="LIST")
    ] = "0.6,0.65,0.7",
    top_ps: Annotated[
        str, typer.Option("--top-ps", help="decoding: top-p values, comma-separated.", metavar="LIST")
    ] = "0.8,0.85,0.9,0.95",
    backbone: Annotated[
        list[str] | None,
        typer.Option(help="backbone: a checkpoint in place of Instruct. Repeatable.", metavar="NAME=MODEL"),
    ] = None,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    *,
    options: PlanOptions,
) -> None:
    """Sample with λ in only a part of the model, under other decoding, or from another backbone.

    Every setting answers the same questions with the same seeds. Weights are computed in memory; only the run is
    written. The same command continues a stopped run.

    Examples:

    `mull ablate layers --instruct A --thinking B --lambda 0.8 --benchmark tiny --run layers`

    `mull ablate modules --instruct A --thinking B --run modules`

    `mull ablate decoding --instruct A --thinking B --temperatures 0.6,0.7 --top-ps 0.8,0.95 --run decoding`

    `mull ablate backbone --instruct A --thinking B --backbone base=C --backbone hybrid=D --run backbones`
    """
    others = read_backbones(backbone or [])
    given = given_options(context)
    for name, needed in _STUDY_OF_OPTION.items():
        if name in given and what != needed:
            raise MullError(f"{given[name]} belongs to mull ablate {needed}", "leave it out")
    for name in ("temperature", "top_p"):
        if name in given and what == Ablation.decoding:
            raise MullError(f"mull ablate decoding varies {given[name]}", "give --temperatures and --top-ps")
    if what == Ablation.backbone and not others:
        raise MullError("no other backbone is named", "pass --backbone NAME=MODEL")
    check_lambda(lam)

    def settings(pair: Pair, sampling: Sampling) -> list[Setting]:
        names = [tensor.name for tensor in pair.tensors]
        if what == Ablation.layers:
            return studies.layer_settings(lam, names, read_ranges(ranges) if ranges else None)
        if what == Ablation.modules:
            return studies.module_settings(lam, names)
        if what == Ablation.decoding:
            return studies.decoding_settings(lam, sampling, read_numbers(temperatures), read_numbers(top_ps))
        return studies.backbone_settings(lam, others)

    plan, loader = options.local(settings, study=StudyKind(what.value), others=others)
    with kept(config, run, dry_run=dry_run):
        sample_and_show(plan, loader, run, dry_run=dry_run, json=json, reference=plan.settings[0].label)


_STUDY_OF_OPTION = {
    "ranges": Ablation.layers,
    "backbone": Ablation.backbone,
    "temperatures": Ablation.decoding,
    "top_ps": Ablation.decoding,
}


def read_backbones(texts: list[str]) -> dict[str, str]:
    """Role → model, from NAME=MODEL options."""
    found = {}
    for text in texts:
        name, sign, model = text.partition("=")
        if not sign or not name or not model:
            raise MullError(f"cannot read the backbone {text!r}", "write NAME=MODEL, as in base=path/to/model")
        if name in found:
            raise MullError(f"two backbones are called {name!r}", "give each its own name")
        found[name] = model
    return found


def read_ranges(text: str) -> list[tuple[int, int]]:
    """The ranges of "0-11,12-23" as pairs (first, last), both included."""
    found = [re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part) for part in text.split(",")]
    if not all(found):
        raise MullError(f"cannot read the ranges {text!r}", "write them as in 0-11,12-23 (both ends included, from 0)")
    return [(int(match[1]), int(match[2] or match[1])) for match in found if match]


def read_numbers(text: str) -> list[float]:
    """The numbers of a comma-separated list."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise MullError(f"cannot read the numbers {text!r}", "write them as in 0.6,0.7") from None
