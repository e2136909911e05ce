"""`mull compare`: interpolation beside other ways to merge, on one benchmark."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mull.cli.options.common import (
    DataOption,
    DeviceOption,
    Donor,
    DonorOption,
    GraderOption,
    InstructOption,
    MaxTokensOption,
    QuestionsOption,
    SeedOption,
    ThinkingOption,
)
from mull.cli.options.studies import (
    BenchmarkOption,
    RunOption,
    SamplesOption,
)
from mull.cli.study import Study, run_study

if TYPE_CHECKING:
    from mull.checkpoints.pair import Pair
    from mull.engines.base import Sampling
    from mull.runs.settings import Setting


def compare(
    instruct: InstructOption,
    thinking: ThinkingOption,
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
    benchmark: BenchmarkOption = "tiny",
    data: DataOption = None,
    grader: GraderOption = None,
    k: SamplesOption = 8,
    questions: QuestionsOption = None,
    seed: SeedOption = 0,
    max_tokens: MaxTokensOption = None,
    donor: DonorOption = Donor.thinking,
    device: DeviceOption = "auto",
) -> None:
    """Sample interpolation at several λ, both ends, SLERP, and Task Arithmetic, TIES and DARE from their bases.

    Settings are those of the interpolation paper's baselines (`mull methods`). All answer the same questions with the
    same seeds; weights are made in memory. The report puts them on one frontier of tokens against accuracy.

    Examples:

    `mull compare --instruct A --thinking B --base C --benchmark tiny --run compare`
    """

    from mull.merging.coefficients import parse_lambdas

    lams = parse_lambdas(lambdas)

    def settings(pair: Pair, sampling: Sampling) -> list[Setting]:
        from mull.runs.paper.studies import comparison_settings

        return comparison_settings(lams, base=base is not None, hybrid=hybrid is not None)

    others = {role: name for role, name in (("base", base), ("hybrid", hybrid)) if name is not None}
    study = Study(instruct, thinking, run, benchmark, k, questions, seed, max_tokens, donor, device, data, grader)
    run_study(study, settings, others, reference="1" if 1 in lams else None)
