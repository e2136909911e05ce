"""Which of the paper's studies the given runs lack, each with the command that makes it (docs/reproduce.md)."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mull.benchmarks import BENCHMARKS as KNOWN
from mull.reports.paper.runs import BENCHMARKS, Run, Studies
from mull.reports.slugs import slugs
from mull.runs.paper.published import benchmark_title
from mull.runs.plan import StudyKind

GRID = "0,0.2,0.4,0.45,0.5,0.55,0.6,0.8,1"
_ON = {StudyKind.decoding: "ifeval"}
"""The paper's benchmark of a study where it is not AIME'25."""
_SAMPLES = {"aime25": 64}
_COMMANDS = {
    StudyKind.compare: "compare",
    StudyKind.layers: "ablate layers",
    StudyKind.modules: "ablate modules",
    StudyKind.decoding: "ablate decoding",
    StudyKind.backbone: "ablate backbone",
}
_RUNS = {StudyKind.backbone: "backbones"}


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
    for benchmark in BENCHMARKS if own is None else (own,):
        if benchmark not in swept:
            yield Missing(f"dynamics over λ on {benchmark_title(benchmark)}", _command(studies, None, benchmark))
    for kind in _COMMANDS:
        if not studies.of(kind):
            benchmark = own or _ON.get(kind, "aime25")
            what = "other ways to merge" if kind == StudyKind.compare else kind.value.replace("backbone", "backbones")
            yield Missing(f"{what} on {benchmark_title(benchmark)}", _command(studies, kind, benchmark))
    for run in studies.of(StudyKind.compare):
        planned = run.plan["settings"]
        absent = [role for role, setting in (("base", "ta-base"), ("hybrid", "ta")) if setting not in planned]
        if absent:
            methods = " and ".join("TA, TIES and DARE from the " + _WORDS[role] for role in absent)
            yield Missing(
                f"{methods} on {benchmark_title(run.benchmark)} (the run {run.name} was made without)",
                _command(studies, StudyKind.compare, run.benchmark),
            )


_WORDS = {"base": "pretrained model", "hybrid": "hybrid model"}


def _command(studies: Studies, kind: StudyKind | None, benchmark: str) -> str:
    """As in docs/reproduce.md, with the names of the user's checkpoints; FILE and GRADER are theirs to fill in."""
    models = {role: _model(studies.runs, role) for role in ("instruct", "thinking", "base", "hybrid")}
    words = [f"mull {_COMMANDS[kind] if kind else 'sweep'} --instruct {models['instruct']}"]
    words.append(f"--thinking {models['thinking']}")
    if kind == StudyKind.compare:
        words.append(f"--base {models['base']} --hybrid {models['hybrid']}")
    elif kind == StudyKind.backbone:
        words.append(f"--backbone base={models['base']} --backbone hybrid={models['hybrid']} --lambda 0.8")
    elif kind:
        words.append(f"--lambda {0.4 if kind == StudyKind.decoding else 0.8}")
    words.append(_asked(studies.runs, benchmark))
    if benchmark == "gpqa":
        words.append("--data gpqa_diamond.csv")
    if kind is None:
        words.append(f"--lambdas {GRID}")
    folder = _RUNS.get(kind, kind) if kind else slugs([benchmark])[0]
    return " ".join([*words, f"-k {_SAMPLES.get(benchmark, 8)}", f"--run {folder}"])


def _asked(runs: Sequence[Run], benchmark: str) -> str:
    """Of the user's own questions a plan knows neither the file nor where it lies, but the grader."""
    if benchmark in KNOWN:
        return f"--benchmark {benchmark}"
    plans = (run.plan["benchmark"].get("grader") for run in runs if run.benchmark == benchmark)
    grader = next((plan["name"] for plan in plans if plan), None)
    return f"--benchmark FILE --grader {shlex.quote(str(grader)) if grader else 'GRADER'}"


def _model(runs: Sequence[Run], role: str) -> str:
    """The checkpoint that some run had in this role, by its name on record; a placeholder where none had."""
    known = next((str(run.provenance[role]) for run in runs if run.provenance.get(role)), None)
    return shlex.quote(known) if known else role.upper()
