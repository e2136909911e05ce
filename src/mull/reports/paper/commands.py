"""Commands that make the studies a set of runs lacks, with the options of the runs that are there (docs/reproduce.md).

Only what a run's plan and provenance record can be repeated; capitals (BASE, FILE) stand for what they do not say.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from mull.benchmarks import BENCHMARKS as KNOWN
from mull.benchmarks.arithmetic import Arithmetic
from mull.benchmarks.catalog import MATH_LIMIT, SPECS
from mull.engines.base import Sampling
from mull.engines.local.arithmetic import is_unrounded
from mull.merging.coefficients.rules import shortest
from mull.reports.paper.runs import OWN_INSTRUCT, Run
from mull.reports.slugs import slugs
from mull.runs.paper.kinds import lambda_of
from mull.runs.plan import StudyKind

GRID = "0,0.2,0.4,0.45,0.5,0.55,0.6,0.8,1"
_SAMPLES = {"aime25": 64}
_VERBS = {
    StudyKind.sweep: "sweep",
    StudyKind.compare: "compare",
    StudyKind.layers: "ablate layers",
    StudyKind.modules: "ablate modules",
    StudyKind.decoding: "ablate decoding",
    StudyKind.backbone: "ablate backbone",
}
_FOLDERS = {StudyKind.backbone: "backbones"}
_SEVERAL = (StudyKind.sweep, StudyKind.compare)
"""Studies over several λ; `_SINGLE` are at one, the same in the paper."""
_SINGLE = (StudyKind.layers, StudyKind.modules, StudyKind.backbone)
_DEVICES = ("cpu", "cuda", "mps")


def command(runs: Sequence[Run], kind: StudyKind, benchmark: str, taken: set[str]) -> str:
    """The command of a study on `benchmark`; its folder is none of `taken`, to which it is added."""
    like = min(runs, key=lambda run: (run.benchmark != benchmark, OWN_INSTRUCT in run.plan["settings"]))
    words = ["mull", *_VERBS[kind].split(), *_models(runs, kind), *_lambda(runs, kind)]
    words += [*_questions(like, benchmark), *_lambdas(like, kind, benchmark), *_sampling(like, kind, benchmark)]
    words += ["--run", _folder(kind, benchmark, taken)]
    return shlex.join(words)


def _models(runs: Sequence[Run], kind: StudyKind) -> Iterator[str]:
    """Every checkpoint by the name that some run has on record for it; a placeholder where none has."""
    name = {
        role: next((str(run.provenance[role]) for run in runs if run.provenance.get(role)), role.upper())
        for role in ("instruct", "thinking", "base", "hybrid")
    }
    yield from ("--instruct", name["instruct"], "--thinking", name["thinking"])
    if kind == StudyKind.compare:
        yield from ("--base", name["base"], "--hybrid", name["hybrid"])
    elif kind == StudyKind.backbone:
        yield from ("--backbone", f"base={name['base']}", "--backbone", f"hybrid={name['hybrid']}")
    donor = runs[0].plan.get("donor", "thinking")
    if donor != "thinking":
        yield from ("--donor", donor)


def _lambda(runs: Sequence[Run], kind: StudyKind) -> list[str]:
    """Of a study of one λ: that of the other such studies; decoding has one of its own in the paper."""
    if kind in _SEVERAL:
        return []
    alike = _SINGLE if kind in _SINGLE else (kind,)
    own = next((lam for run in runs if run.kind in alike if (lam := lambda_of(run.plan))), None)
    lam = own if own is not None else 0.8 if kind in _SINGLE else 0.4
    return ["--lambda", shortest(lam)]


def _lambdas(like: Run, kind: StudyKind, benchmark: str) -> list[str]:
    """Of a study of several λ: those that are there; the paper's grid for a sweep without an example."""
    if kind not in _SEVERAL:
        return []
    settings = like.plan["settings"] if like.kind in _SEVERAL else {}
    found = {float(label): label for label in settings if label.replace(".", "").removeprefix("-").isdecimal()}
    outside = any(not 0 <= lam <= 1 for lam in found)
    if kind == StudyKind.compare:
        shown = [label for lam, label in found.items() if 0 <= lam <= 1] if like.benchmark == benchmark else []
        return ["--lambdas", ",".join(shown)] if len(shown) > 1 else []
    if len(found) < 2:
        return ["--lambdas", GRID]
    return ["--lambdas", ",".join(found.values()), *(["--extrapolate"] if outside else [])]


def _questions(like: Run, benchmark: str) -> Iterator[str]:
    """The benchmark with its file, grader, number and seed of questions."""
    same = like.benchmark == benchmark
    record: dict[str, Any] = like.plan["benchmark"] if same else {}
    data = like.provenance.get("data") if same else None
    grader = (record.get("grader") or {}).get("name")
    count, seed = record.get("questions"), record.get("seed", 0)
    if benchmark not in KNOWN:
        yield from ("--benchmark", data or "FILE", "--grader", grader or "GRADER")
    else:
        yield from ("--benchmark", benchmark)
        data = data or ("gpqa_diamond.csv" if benchmark == "gpqa" else None)
        if data:
            yield from ("--data", data)
        if grader and benchmark in SPECS and grader != SPECS[benchmark].grader:
            yield from ("--grader", grader)
    usual = SPECS[benchmark].questions if benchmark in SPECS else Arithmetic().count if benchmark == "tiny" else None
    if count and count != usual:
        yield from ("--questions", str(count))
    if seed:
        yield from ("--question-seed", str(seed))


def _sampling(like: Run, kind: StudyKind, benchmark: str) -> Iterator[str]:
    """k, the seed, what differs from the usual sampling, the device and its dtype."""
    usual, own = Sampling(), like.plan["sampling"]
    varied = ("temperature", "top_p") if kind == StudyKind.decoding else ()
    for name in ("temperature", "top_p", "top_k"):
        if name not in varied and own[name] != getattr(usual, name):
            yield from (f"--{name.replace('_', '-')}", f"{own[name]:g}")
    if own.get("thinking_budget") is not None:
        yield from ("--thinking-budget", str(own["thinking_budget"]))
    if own.get("budget_message") is not None:
        yield from ("--budget-message", own["budget_message"].replace("\n", "\\n"))
    if own["max_tokens"] != _limit(like.benchmark):
        yield from ("--max-tokens", str(own["max_tokens"]))
    if like.plan["seed"]:
        yield from ("--seed", str(like.plan["seed"]))
    place, _, device = str(like.plan["engine"]).rpartition("/")
    if place.startswith("local/") and device in _DEVICES:
        yield from ("--device", device)
        dtype = place.removeprefix("local/").removeprefix("unrounded/")
        if dtype != ("float32" if device == "cpu" else "bfloat16"):
            yield from ("--dtype", dtype)
    if is_unrounded(str(like.plan["engine"])) and kind in (StudyKind.sweep, StudyKind.decoding):
        yield from ("--arithmetic", "unrounded")
    k = like.plan["k"] if like.benchmark == benchmark else _SAMPLES.get(benchmark, 8)
    yield from ("-k", str(k))


def _limit(benchmark: str) -> int:
    if benchmark in SPECS:
        return SPECS[benchmark].max_tokens
    return Arithmetic.max_tokens if benchmark == "tiny" else MATH_LIMIT


def _folder(kind: StudyKind, benchmark: str, taken: set[str]) -> str:
    name = slugs([benchmark])[0] if kind == StudyKind.sweep else _FOLDERS.get(kind, kind.value)
    names = [name, *(f"{name}-{i}" for i in range(2, len(taken) + 2))]
    free = next(each for each in names if each not in taken)
    taken.add(free)
    return free
