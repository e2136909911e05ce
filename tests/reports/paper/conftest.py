"""Run folders in which every published number holds, and small ones made by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from mull.analysis.records import Sample
from mull.analysis.tables import published
from mull.benchmarks.base import Question
from mull.engines.base import Sampling
from mull.merging.coefficients import Coefficients
from mull.runs.paper import studies
from mull.runs.settings import Setting
from mull.runs.store import COLUMNS, RunStore

SIZES = {"aime25": (30, 64), "ifeval": (541, 8), "gpqa": (198, 8)}
BASELINES = {"TA": "ta", "TA-Base": "ta-base", "TIES": "ties", "TIES-Base": "ties-base"}
NAMES = [
    f"model.layers.{layer}.{part}.weight"
    for layer in range(36)
    for part in ("self_attn.q_proj", "mlp.up_proj", "input_layernorm")
]


def study_of(settings):
    """What the verb that plans such settings would call its study."""
    records = [setting.to_json() for setting in settings]
    if all(setting.lam is not None for setting in settings):
        return "sweep"
    if all("sampling" in record for record in records):
        return "decoding"
    if any(not setting.recipe.is_interpolation and setting.recipe.method.name != "mi" for setting in settings):
        return "compare"
    if any("models" in record for record in records):
        return "backbone"
    rules = [rule for setting in settings for rule in setting.recipe.coefficients.rules]
    varied = {name for rule in rules for name in ("layers", "modules") if getattr(rule, name) is not None}
    return varied.pop() if len(varied) == 1 else "other"


def write_run(
    folder, settings, samples, *, benchmark="sums", questions=3, k=2, sampling_record=None, questions_hash=None, **more
):
    """A run folder with a plan of `settings` and the given samples, put in at once; `more` are entries of the plan."""
    record = {
        "study": study_of(settings),
        "instruct": "a" * 16,
        "thinking": "b" * 16,
        "donor": "thinking",
        "settings": {setting.label: setting.to_json() for setting in settings},
        "benchmark": {"name": benchmark, "questions": questions},
        "questions": questions_hash or "c" * 16,
        "k": k,
        "sampling": sampling_record or Sampling(max_tokens=512).record(),
        "seed": 0,
        "engine": "local/float32",
    } | more
    asked = [Question(id=f"q{i:03d}", text=f"{i}?", gold=str(i)) for i in range(questions)]
    plan = SimpleNamespace(record=record, benchmark=SimpleNamespace(questions=lambda: asked))
    provenance = {"mull": "0.1.0", "instruct": "org/instruct", "thinking": "org/thinking", "started": "2026-01-01"}
    with RunStore.record(folder, plan, provenance) as store:  # type: ignore[arg-type]
        rows = [[getattr(s, name) if name != "scores" else "" for name in COLUMNS] for s in samples]
        names = ", ".join(f'"{name}"' for name in COLUMNS)
        with store._database.writing() as connection:
            connection.executemany(f"INSERT INTO samples ({names}) VALUES ({', '.join('?' * len(COLUMNS))})", rows)
    return folder


def responses(setting, lam, right, k, *, benchmark="sums", tokens=100, think=0.0, seconds=0.5, finish="stop"):
    """k samples per question, the first `right[i]` of question i right, a share `think` of all closed thoughts."""
    total, made = len(right) * k, []
    for i, count in enumerate(right):
        for index in range(k):
            closed = len(made) < round(think * total)
            made.append(
                Sample(
                    benchmark=benchmark,
                    question=f"q{i:03d}",
                    setting=setting,
                    lam=lam,
                    index=index,
                    seed=0,
                    text="",
                    tokens=tokens,
                    finish=finish,
                    thinking="closed" if closed else "none",
                    answer="A" if index < count else "B",
                    correct=index < count,
                    seconds=seconds,
                )
            )
    return made


def spread_right(total, solved, questions, k):
    """`total` right answers over `questions`, most in the first `solved` ones, which are solved by a majority."""
    each = [total // solved + (i < total % solved) for i in range(solved)]
    over = sum(max(0, count - k) for count in each)
    each = [min(k, count) for count in each] + [0] * (questions - solved)
    for i in range(solved, questions):
        each[i] = min(3, over)
        over -= each[i]
    return each


def published_runs(folder, benchmark):
    """A sweep and a comparison whose samples have the published metrics of one benchmark."""
    questions, k = SIZES[benchmark]
    rows = [row for row in published() if row.benchmark.startswith(benchmark)]
    made = {}
    for row in rows:
        solved = row.vote_at_k if math.isnan(row.pass_at_k) else row.pass_at_k
        right = spread_right(round(row.mean_at_k * questions * k), round(solved * questions), questions, k)
        label = BASELINES.get(row.method) or f"{row.lam:g}"
        made[label] = responses(
            label, row.lam, right, k, benchmark=benchmark, tokens=int(row.tokens), think=row.think_ratio
        )
    grid = [Setting.of(Coefficients.scalar(row.lam)) for row in rows if row.lam is not None]
    methods = studies.comparison_settings([0, 0.8, 1], base=True, hybrid=True)
    methods = [setting for setting in methods if setting.label in made]
    common = {"benchmark": benchmark, "questions": questions, "k": k}
    return [
        write_run(folder / name, settings, [s for x in settings for s in made[x.label]], **common)
        for name, settings in ((benchmark, grid), (f"{benchmark}-compare", methods))
    ]


@pytest.fixture(scope="session")
def like_the_paper(tmp_path_factory):
    """Folders of a sweep and a comparison on each of the paper's benchmarks."""
    folder = tmp_path_factory.mktemp("published")
    return [run for benchmark in SIZES for run in published_runs(folder, benchmark)]


@pytest.fixture
def run():
    return write_run


@pytest.fixture
def answers():
    return responses
