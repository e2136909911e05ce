"""Commands that make the studies a set of runs lacks, with the options of the runs that are there (docs/reproduce.md).

Only what a run's plan and provenance record can be repeated; capitals (BASE, FILE) stand for what they do not say.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mull.benchmarks import BENCHMARKS as KNOWN
from mull.benchmarks.arithmetic import Arithmetic
from mull.benchmarks.catalog import MATH_LIMIT, PROMPTS, SPECS
from mull.benchmarks.graders.own_grader import as_named, is_own
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
_KINDS = (None, "estimator", "budget", "early exit", "brief")
"""Of policies; None: a static λ."""
_DEVICES = ("cpu", "cuda", "mps")
ROUTED = ("gsm8k", "math500", "amc23", "aime24", "aime25")
"""The benchmarks on which papers on λ per query report."""


def command(runs: Sequence[Run], kind: StudyKind, benchmark: str, taken: set[str], *, whole: bool = True) -> str:
    """The command of a study on `benchmark`; its folder is none of `taken`, to which it is added. `whole`: with all
    bases of the paper's comparison, also those that no run has."""
    like = min(runs, key=lambda r: (r.benchmark != benchmark, OWN_INSTRUCT in r.plan["settings"], bool(r.records)))
    words = ["mull", *_VERBS[kind].split(), *_models(runs, kind, whole=whole), *_lambda(runs, kind)]
    words += _methods(like, kind)
    words += [*_questions(like, benchmark), *_lambdas(like, kind, benchmark), *_sampling(like, kind, benchmark)]
    words += ["--run", _folder(kind, benchmark, taken)]
    return shlex.join(words)


def route_command(runs: Sequence[Run], benchmarks: Sequence[str], taken: set[str]) -> str:
    """The command of an evaluation of λ per query, with the policies of the one that is there, if there is one."""
    like = min(runs, key=lambda run: (not run.records, run.benchmark not in benchmarks))
    words = ["mull", "route", "eval", *_models(runs, StudyKind.other)]
    if any("head" in record for record in like.policies.values()):
        words += ["--head", "FILE"]
    words += ["--benchmark", ",".join(benchmarks)]
    alike = like.benchmark in benchmarks and (like.records is not None or len(benchmarks) == 1)
    if alike:
        data = like.provenance.get("data")
        words += ["--data", data] if data and len(benchmarks) == 1 else []
        words += _number(like.plan["benchmark"], like.benchmark)
    words += _compared(like) if like.records else []
    words += _sampling(like, StudyKind.other, like.benchmark if alike else benchmarks[0])
    return shlex.join([*words, "--out", like.folder.resolve().parent.name if like.records else _free("route", taken)])


def _compared(run: Run) -> Iterator[str]:
    """The policies of an evaluation."""
    policies = run.policies
    labels = {kind: [label for label, own in policies.items() if own.get("kind") == kind] for kind in _KINDS}
    if labels["estimator"] != ["conf"]:
        yield from ("--estimators", ",".join(labels["estimator"]))
    yield from ("--lambdas", ",".join(labels[None]))
    budgets = [str(run.plan["settings"][label]["sampling"]["thinking_budget"]) for label in labels["budget"]]
    if budgets:
        yield from ("--budgets", ",".join(budgets))
    for label in labels["early exit"]:
        own = policies[label]
        yield from ("--exit-every", str(own["every"]), "--exit-at", f"{own['confidence']:g}")
    if labels["brief"]:
        yield "--brief"


def _models(runs: Sequence[Run], kind: StudyKind, *, whole: bool = True) -> Iterator[str]:
    """Every checkpoint by the name that some run has on record for it; a placeholder where none has."""
    name = {
        role: next((str(run.provenance[role]) for run in runs if run.provenance.get(role)), role.upper())
        for role in ("instruct", "thinking", "base", "hybrid")
    }
    yield from ("--instruct", name["instruct"], "--thinking", name["thinking"])
    if kind == StudyKind.compare:
        for role in ("base", "hybrid"):
            yield from (f"--{role}", name[role]) if whole or name[role] != role.upper() else ()
    elif kind == StudyKind.backbone:
        yield from ("--backbone", f"base={name['base']}", "--backbone", f"hybrid={name['hybrid']}")
    donor = runs[0].plan.get("donor", "thinking")
    if donor != "thinking":
        yield from ("--donor", donor)


def _methods(like: Run, kind: StudyKind) -> Iterator[str]:
    """The methods of a comparison that --method named; their labels are what the option takes. Else the paper's
    baselines are there, SLERP at 0.5 among them."""
    if kind == like.kind == StudyKind.compare and "slerp 0.5" not in like.plan["settings"]:
        for label, record in like.plan["settings"].items():
            yield from ("--method", label) if "method" in record or ":" in label else ()


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
    grader = as_named(record["grader"]) if record.get("grader") else None
    if benchmark not in KNOWN:
        yield from ("--benchmark", data or "FILE", "--grader", grader or "GRADER")
    else:
        yield from ("--benchmark", benchmark)
        data = data or ("gpqa_diamond.csv" if benchmark == "gpqa" else None)
        if data:
            yield from ("--data", data)
        usual = SPECS[benchmark].grader if benchmark in SPECS else grader
        if grader and (is_own(grader) or grader != usual):
            yield from ("--grader", grader)
    if same:
        prompt, system = own_words(record)
        yield from ("--prompt", "FILE") if prompt else ()
        yield from ("--system", record["system"] or "") if system else ()
    yield from _number(record, benchmark)


def own_words(record: Mapping[str, Any]) -> tuple[bool, bool]:
    """Whether the user message and the system message are others than the benchmark's own."""
    spec = SPECS.get(record["name"])
    prompt = spec.prompt if spec else PROMPTS.get((record.get("grader") or {}).get("name", ""))
    system = spec.system if spec else None
    return record.get("prompt", prompt) != prompt, record.get("system", system) != system


def _number(record: Mapping[str, Any], benchmark: str) -> Iterator[str]:
    """The number and the seed of a benchmark's questions, where they are not the usual ones."""
    count, seed = record.get("questions"), record.get("seed", 0)
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
    routed = kind == StudyKind.other  # `mull route eval` has budgets of its own, and one dtype
    if own.get("thinking_budget") is not None and not routed:
        yield from ("--thinking-budget", str(own["thinking_budget"]))
    if own.get("budget_message") is not None and not routed:
        yield from ("--budget-message", own["budget_message"].replace("\n", "\\n"))
    if own["max_tokens"] != _limit(like.benchmark):
        yield from ("--max-tokens", str(own["max_tokens"]))
    if like.plan["seed"]:
        yield from ("--seed", str(like.plan["seed"]))
    place, _, device = str(like.plan["engine"]).rpartition("/")
    engine = place.partition("/")[0]
    if engine in ("vllm", "vllm-server"):
        yield from ("--engine", engine)
    if place.startswith("local/") and device in _DEVICES:
        yield from ("--device", device)
        dtype = place.removeprefix("local/").removeprefix("unrounded/")
        if not routed and dtype != ("float32" if device == "cpu" else "bfloat16"):
            yield from ("--dtype", dtype)
    if (
        engine != "vllm-server"
        and not like.records
        and is_unrounded(str(like.plan["engine"]))
        and kind in (StudyKind.sweep, StudyKind.decoding)
    ):
        yield from ("--arithmetic", "unrounded")
    k = like.plan["k"] if like.benchmark == benchmark else _SAMPLES.get(benchmark, 8)
    yield from ("-k", str(k))


def _limit(benchmark: str) -> int:
    if benchmark in SPECS:
        return SPECS[benchmark].max_tokens
    return Arithmetic.max_tokens if benchmark == "tiny" else MATH_LIMIT


def _folder(kind: StudyKind, benchmark: str, taken: set[str]) -> str:
    return _free(slugs([benchmark])[0] if kind == StudyKind.sweep else _FOLDERS.get(kind, kind.value), taken)


def _free(name: str, taken: set[str]) -> str:
    names = [name, *(f"{name}-{i}" for i in range(2, len(taken) + 2))]
    free = next(each for each in names if each not in taken)
    taken.add(free)
    return free
