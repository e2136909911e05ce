"""Which of the paper's studies the given runs lack, each with the command that makes it (docs/reproduce.md)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from mull.benchmarks import BENCHMARKS as KNOWN
from mull.reports.paper.commands import ROUTED, command, route_command
from mull.reports.paper.runs import BENCHMARKS, Studies
from mull.runs.paper.published import benchmark_title
from mull.runs.plan import StudyKind
from mull.words import listed

_ABLATIONS = (StudyKind.compare, StudyKind.layers, StudyKind.modules, StudyKind.decoding, StudyKind.backbone)
_ON = {StudyKind.decoding: "ifeval"}
"""The paper's benchmark of a study where it is not AIME'25."""


class Missing(NamedTuple):
    """A study that was not given."""

    what: str
    command: str


def missing(studies: Studies) -> list[Missing]:
    """The paper's studies without a run, in the order of docs/reproduce.md; of runs on none of its benchmarks, on their
    own one."""
    return list(_missing(studies))


def _missing(studies: Studies) -> Iterator[Missing]:
    given = dict.fromkeys(run.benchmark for run in studies.runs)
    own = None if set(given) & set(BENCHMARKS) else next(iter(given))
    swept = {arena.benchmark for arena in studies.arenas if arena.sweep}
    taken = {run.folder.resolve().name for run in studies.runs}
    for benchmark in BENCHMARKS if own is None else (own,):
        if benchmark not in swept:
            made_by = command(studies.runs, StudyKind.sweep, benchmark, taken)
            yield Missing(f"dynamics over λ on {benchmark_title(benchmark)}", made_by)
    for kind in _ABLATIONS:
        if not studies.of(kind):
            benchmark = own or _ON.get(kind, "aime25")
            what = "other ways to merge" if kind == StudyKind.compare else kind.value.replace("backbone", "backbones")
            made_by = command(studies.runs, kind, benchmark, taken)
            yield Missing(f"{what} on {benchmark_title(benchmark)}", made_by)
    routed = [run.benchmark for run in studies.routed] or ([own] if own else list(ROUTED))
    if not studies.routing and set(routed) <= set(KNOWN):  # λ per query needs a benchmark whose answers can be forced
        part = "the rest of λ per query" if studies.routed else "λ per query"
        yield Missing(
            f"{part} on {listed([benchmark_title(each) for each in routed])}",
            route_command(studies.runs, routed, taken),
        )
    for run in studies.of(StudyKind.compare):
        planned = run.plan["settings"]
        absent = [role for role, setting in (("base", "ta-base"), ("hybrid", "ta")) if setting not in planned]
        if absent:
            methods = " and ".join("TA, TIES and DARE from the " + _WORDS[role] for role in absent)
            yield Missing(
                f"{methods} on {benchmark_title(run.benchmark)} (the run {run.name} was made without)",
                command([run, *studies.runs], StudyKind.compare, run.benchmark, taken),
            )


_WORDS = {"base": "pretrained model", "hybrid": "hybrid model"}
