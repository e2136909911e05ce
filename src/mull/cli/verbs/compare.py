"""`mull compare`: interpolation beside other ways to merge, on one benchmark."""

from __future__ import annotations

from typing import Annotated

import typer

from mull.checkpoints.pair import Pair
from mull.cli.config import ConfigOption, kept
from mull.cli.options.common import JsonOption
from mull.cli.options.groups import grouped
from mull.cli.options.merging import read_row
from mull.cli.options.plans import (
    DryRunOption,
    PlanOptions,
    RunOption,
)
from mull.cli.running import sample_and_show
from mull.engines.base import Sampling
from mull.merging.coefficients import Coefficients, parse_lambdas
from mull.runs.paper.studies import comparison_settings
from mull.runs.plan import StudyKind
from mull.runs.settings import Setting


@grouped
def compare(
    run: RunOption,
    base: Annotated[
        str | None, typer.Option(help="The pretrained model: adds ta-base, ties-base and dare-base.", metavar="MODEL")
    ] = None,
    hybrid: Annotated[
        str | None, typer.Option(help="The hybrid model of both: adds ta, ties and dare.", metavar="MODEL")
    ] = None,
    lambdas: Annotated[
        str, typer.Option(help="λ of the interpolation, as in `mull sweep`.", metavar="GRID")
    ] = "0,0.2,0.4,0.5,0.6,0.8,1",
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="Beside λ only these of `mull methods`, as in ties:density=0.2,alpha=0.5 or slerp:lambda=0.5; with "
            "base=hybrid for that base. Repeatable.",
            metavar="NAME:PARAMETER=VALUE,…",
        ),
    ] = None,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    *,
    options: PlanOptions,
) -> None:
    """Sample interpolation at several λ, both ends, SLERP, and Task Arithmetic, TIES and DARE from their bases.

    Or beside the λ the methods that --method names. Without it settings are those of the interpolation paper's
    baselines (`mull methods`). All answer the same questions with the same seeds; weights are made in memory. The
    report puts them on one frontier of tokens against accuracy.

    Examples:

    `mull compare --instruct A --thinking B --base C --benchmark tiny --run compare`

    `mull compare --instruct A --thinking B --base C --method ties:density=0.2 --method karcher --run compare`
    """
    lams = parse_lambdas(lambdas)
    bases = [role for role, name in (("base", base), ("hybrid", hybrid)) if name is not None]
    named = [read_row(text, bases) for text in method or ()]

    def settings(pair: Pair, sampling: Sampling) -> list[Setting]:
        if named:
            return [*(Setting.of(Coefficients.scalar(lam)) for lam in lams), *named]
        return comparison_settings(lams, base=base is not None, hybrid=hybrid is not None)

    others = {role: name for role, name in (("base", base), ("hybrid", hybrid)) if name is not None}
    plan, loader = options.local(settings, study=StudyKind.compare, others=others)
    reference = "1" if 1 in lams else plan.settings[0].label
    with kept(config, run, dry_run=dry_run):
        sample_and_show(plan, loader, run, dry_run=dry_run, json=json, reference=reference)
