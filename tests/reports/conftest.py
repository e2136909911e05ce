"""A synthetic run in a real store: accuracy rises with λ, thinking sets in between 0.4 and 0.6, tokens grow."""

from __future__ import annotations

import math
import random
from types import SimpleNamespace

import pytest

from mull.analysis.records import Sample
from mull.benchmarks.base import Question
from mull.engines.base import Sampling
from mull.runs.store import RunStore
from mull.thinking import split_thinking

LAMBDAS = (0, 0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8, 1)
STRATA = {"easy": 0.25, "medium": 0.0, "hard": -0.25}
HOSTILE = (
    "</script><script>alert('x')</script><img src=http://evil.example/x.png onerror=alert(1)>&amp; \u2028 \\u003c <!--"
)


def respond(question: int, gold: int, lam: float, rng: random.Random, ease: float) -> tuple[str, int, str]:
    """(text, tokens, finish) of a response as a model at λ might give it."""
    thinks = rng.random() < 1 / (1 + math.exp(-(lam - 0.5) / 0.022))
    right = rng.random() < min(0.98, max(0.02, 0.35 + ease + 0.4 * lam**1.5))
    answer = gold if right else gold + rng.choice((-10, -1, 1, 10))
    said = f"The answer is \\boxed{{{answer}}}."
    if not thinks:
        tokens = int(28 + 40 * lam + rng.gauss(0, 6) - 20 * ease)
        return said, max(5, tokens), "stop"
    lines = [f"{question + i}+{i}={question + 2 * i}" for i in range(3 + round(8 * (lam - 0.3)))]
    thought = "\n".join(["<think>", *lines, "Wait, let me check.", *lines[: round(6 * lam)]])
    tokens = int(120 + 260 * (lam - 0.4) + rng.gauss(0, 25) - 90 * ease)
    if rng.random() < 0.03:
        return thought, 512, "length"
    return f"{thought}\n</think>\n\n{said}", tokens, "stop"


def make_run(folder, lambdas=LAMBDAS, questions=60, k=4, *, others=(), hostile=False, stop=None) -> RunStore:
    """Fill a store through the classes that a sweep uses; `stop` ends it after so many responses."""
    rng = random.Random(0)
    strata = list(STRATA)
    asked = [
        Question(id=f"q{i:03d}", text=f"What is {i} + {i}?", gold=str(2 * i), stratum=strata[i % 3])
        for i in range(questions)
    ]
    if hostile:
        asked[0] = Question(id='q"<b>', text=HOSTILE, gold="<i>0</i>", stratum="easy")
    labels = [f"{lam:g}" for lam in lambdas] + list(others)
    record = {
        "study": "sweep",
        "instruct": "a" * 16,
        "thinking": "b" * 16,
        "donor": "thinking",
        "settings": {label: {} for label in labels},
        "benchmark": {"name": "sums", "questions": questions},
        "questions": "c" * 16,
        "k": k,
        "sampling": Sampling(max_tokens=512).record(),
        "seed": 0,
        "engine": "local/float32",
    }
    plan = SimpleNamespace(record=record, benchmark=SimpleNamespace(questions=lambda: asked))
    provenance = {
        "mull": "0.1.0",
        "instruct": "toy-instruct",
        "thinking": "toy-thinking",
        "started": "2026-01-01T00:00:00+00:00",
        "packages": {"torch": "2.13.0"},
    }
    count = 0
    with RunStore.record(folder, plan, provenance) as store:  # type: ignore[arg-type]
        for label in labels:
            lam = float(label) if label not in others else None
            for number, question in enumerate(asked):
                for index in range(k):
                    if stop is not None and count >= stop:
                        break
                    count += 1
                    rng = random.Random(f"{label}/{number}/{index}")
                    text, tokens, finish = respond(
                        number, 2 * number, 0.5 if lam is None else lam, rng, STRATA[question.stratum]
                    )
                    if hostile and number == 0:
                        text = HOSTILE + text
                    split = split_thinking(text, finished=finish == "stop")
                    answer = split.answer.rsplit("{", 1)[-1].split("}")[0] if split.answer else ""
                    store.add(
                        Sample(
                            benchmark="sums",
                            question=question.id,
                            stratum=question.stratum,
                            setting=label,
                            lam=lam,
                            index=index,
                            seed=number * k + index,
                            text=text,
                            tokens=tokens,
                            finish=finish,
                            thinking=split.kind,
                            answer=answer,
                            correct=answer == str(2 * number),
                            seconds=0.1,
                        )
                    )
    return RunStore.open(folder)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """A complete run: 11 λ and one other method × 60 questions × 4 samples."""
    folder = tmp_path_factory.mktemp("run") / "run"
    make_run(folder, others=["ta <0.7>"]).__exit__()
    return folder


@pytest.fixture(scope="session")
def found(run_folder):
    """Its findings."""
    from mull.reports.results import results

    with RunStore.open(run_folder) as store:
        return results(store)


@pytest.fixture
def make():
    return make_run


@pytest.fixture
def hostile():
    return HOSTILE
