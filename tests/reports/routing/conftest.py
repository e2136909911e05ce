"""An evaluation without a model: every kind of policy on two benchmarks, whose questions differ in difficulty."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mull.analysis.records import Sample
from mull.dynamic.estimators.conf import Confidence
from mull.dynamic.evaluation.comparison import pooled, question_means, table
from mull.dynamic.evaluation.policies import Policy
from mull.dynamic.evaluation.session import Evaluation, Result
from mull.engines.base import Sampling
from mull.runs.settings import Route

LAMS = (0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)
SAMPLING = Sampling(max_tokens=100)
HOSTILE = "</script><img src=x onerror=alert(1)>{{7*7}}"
K = 4


def policies(name="conf"):
    return [
        *(Policy.static(lam) for lam in LAMS),
        Policy.estimated(Confidence(name=name)),
        Policy.estimated(Confidence(form="ratio", name="conf-ratio")),
        Policy.random(name),
        Policy.random("conf-ratio"),
        Policy.oracle(),
        *(Policy.budgeted(tokens, SAMPLING) for tokens in (20, 40, 80)),
        Policy.brief(),
        Policy.exiting(16, 0.95),
    ]


def chosen_lam(policy, hard, rng):
    """What the policy answers at; `conf` knows which questions are hard."""
    if policy.kind in ("static", "budget", "brief", "early exit"):
        return {"budget": 0.5, "brief": 0.55, "early exit": 0.75}.get(policy.kind, policy.lam)
    knows = policy.kind == "oracle" or (policy.kind == "estimator" and policy.label != "conf-ratio")
    return float(np.clip(0.9 * hard + 0.05 * rng.normal(), 0, 1)) if knows else float(rng.choice([0, 0.3, 0.9]))


def make_result(benchmarks=("sums", "words"), *, hostile=False, questions=60, useless=False, name="conf"):
    """The evaluation and what it found. `useless`: no estimator knows anything."""
    own = policies(name)
    asked = [HOSTILE + each if hostile else each for each in benchmarks]
    rng = np.random.default_rng(0)
    found, samples, routes, walls, lams = {}, {}, {}, {}, {}
    for benchmark in asked:
        rows, chosen, prefilled = [], {}, {}
        for policy in own:
            for number in range(questions):
                stratum = ("easy", "medium", "hard")[number % 3]
                lam = chosen_lam(policy, 0.5 if useless and policy.kind == "estimator" else (number % 3) / 2, rng)
                if policy.kind in ("estimator", "random", "oracle"):
                    asks = policy.kind == "estimator"
                    route = Route(lam, f"as {policy.label}", 3 * asks, 45 * asks)
                    chosen.setdefault(policy.label, {})[str(number)] = route
                    prefilled[policy.label, str(number)] = float(route.prefilled)
                for index in range(K):
                    right = rng.random() < (0.95 if stratum == "easy" else 0.3 + 0.6 * lam)
                    tokens = int((20 + 75 * lam) * rng.uniform(0.8, 1.2)) + 3 * (policy.kind == "estimator")
                    rows.append(
                        Sample(
                            benchmark=benchmark, question=str(number), stratum=HOSTILE if hostile else stratum,
                            setting=policy.label, lam=policy.setting().lam, index=index, seed=0, text="",
                            tokens=tokens, finish="stop", thinking="none", answer="", correct=right, seconds=0.1,
                        )
                    )  # fmt: skip
        samples[benchmark], routes[benchmark] = rows, chosen
        found[benchmark] = question_means(rows, prefilled)
        walls[benchmark] = {p.label: 0.5 + 0.1 * i for i, p in enumerate(own)}
        lams[benchmark] = {label: float(np.mean([r.lam for r in row.values()])) for label, row in chosen.items()}
    kinds = {policy.label: policy.kind for policy in own}
    tables = [table(each, found[each], kinds, seconds=walls[each], lams=lams[each]) for each in asked]
    if len(asked) > 1:
        found = {"average": pooled([found[each] for each in asked]), **found}
        tables = [table("average", found["average"], kinds, seconds=walls[asked[0]], lams=lams[asked[0]]), *tables]
    side = HOSTILE if hostile else "toy"
    evaluation = Evaluation(
        pair=SimpleNamespace(
            instruct=SimpleNamespace(published_name=f"{side}-instruct"), thinking=SimpleNamespace(published_name="toy")
        ),
        benchmarks=[SimpleNamespace(name=each) for each in asked],
        policies=own,
        k=K,
        sampling=lambda _: SAMPLING,
        arithmetic="local/unrounded/float32/cpu",
    )  # type: ignore[arg-type]
    return evaluation, Result(samples, tables, routes, found)


@pytest.fixture(scope="session")
def made():
    return make_result()
