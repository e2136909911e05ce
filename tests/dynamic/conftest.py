"""Made-up measurements and records, and a small run of the built-in pair with the head that is trained on it."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mull.benchmarks import BOXED_ANSWER
from mull.dynamic.base import Cost, ForcedAnswer, Hidden, Need, Signals
from mull.dynamic.probing.local import Query, measure_all
from mull.dynamic.training.records import GridRecords, read_runs
from mull.dynamic.training.train import NEEDS, train_head
from mull.tiny import checkpoint_folder


def forced_answer(probabilities=(0.5,), entropy=0.7, cost=(1, 10), text="7"):
    return ForcedAnswer(text=text, logprobs=tuple(map(math.log, probabilities)), entropy=entropy, cost=Cost(*cost))


def signals_of(instruct=None, thinking=None, hidden=None, begun=None, query="q"):
    """Measurements of one query: forced answers, or hidden states `[layers, hidden]`."""
    measured = {Need.forced_instruct: instruct, Need.forced_thinking: thinking}
    for need, states in ((Need.hidden_instruct, hidden), (Need.hidden_thinking, begun)):
        if states is not None:
            measured[need] = Hidden(layers=np.asarray(states, np.float32), cost=Cost(0, 12))
    return Signals(query=query, measured={need: each for need, each in measured.items() if each is not None})


def made_up(questions=200, seed=0, samples=8, features=6):
    """Records at λ = 0, 0.5 and 1 of easy and hard questions, and measurements that reveal which is which.

    Instruct solves the easy ones, Thinking all of them, at three times the tokens.
    """
    rng = np.random.default_rng(seed)
    hard = rng.random(questions) < 0.5
    right = np.where(hard[:, None], [0.1, 0.5, 0.9], [0.95, 0.95, 0.95])
    accuracy = rng.binomial(samples, right) / samples
    tokens = np.array([20.0, 40.0, 60.0]) * rng.uniform(0.9, 1.1, (questions, 3))
    records = GridRecords(
        names=[f"made/{i}" for i in range(questions)],
        texts=[f"question {i} of {seed}" for i in range(questions)],
        strata=["hard" if each else "easy" for each in hard],
        messages=[[{"role": "user", "content": f"question {i}"}] for i in range(questions)],
        lams=np.array([0.0, 0.5, 1.0]),
        accuracy=accuracy,
        tokens=tokens,
        thought_tokens=tokens * np.array([0.0, 0.5, 0.8]),
        samples=samples,
        pair={"instruct": "a" * 16, "thinking": "b" * 16},
        forms=[BOXED_ANSWER] * questions,
        benchmarks={"made": {"name": "made"}},
    )
    measured = []
    for i in range(questions):
        states = rng.normal(size=(4, features))
        states[2, 0] += 4 * hard[i]
        begun = rng.normal(size=(4, features))
        begun[2, 1] = 3 * math.log(tokens[i, 2])
        sure = np.clip(0.9 - 0.6 * hard[i] + 0.05 * rng.normal(), 0.05, 0.99)
        answers = [forced_answer((sure,), 1 - sure), forced_answer((0.8,), 0.3 + 0.01 * rng.normal())]
        measured.append(signals_of(*answers, states, begun, query=records.names[i]))
    return records, measured


def small_run_of(engine, folder):
    """50 questions × 3 λ × 2 samples of the built-in pair, unrounded."""
    from mull.benchmarks import load_benchmark
    from mull.checkpoints.pair import Pair
    from mull.engines.base import Sampling
    from mull.engines.local.arithmetic import arithmetic
    from mull.merging.coefficients import Coefficients
    from mull.runs.plan import SweepPlan
    from mull.runs.run import provenance, run_sweep
    from mull.runs.settings import Setting
    from mull.runs.store import RunStore

    pair = Pair.open(*(str(checkpoint_folder(side)) for side in ("instruct", "thinking")))
    settings = [Setting.of(Coefficients.scalar(lam)) for lam in (0, 0.5, 1)]
    benchmark = load_benchmark("tiny", questions=50, seed=5)
    name = arithmetic(pair.donor.folder, "cpu", unrounded=True)
    plan = SweepPlan(pair, settings, benchmark, 2, Sampling(max_tokens=48), engine=name)
    with RunStore.record(folder, plan, provenance(plan)) as store:
        run_sweep(plan, engine, store)
    return folder


MADE = []
"""What `made_once` has made: a fixture that other folders import is another one there, and these take seconds."""


def made_once(factory):
    """Engine, run, records, measurements and head file."""
    from mull.engines.local.engine import LocalEngine

    if MADE:
        return MADE[0]
    torch.set_num_threads(1)
    folders = (checkpoint_folder("instruct"), checkpoint_folder("thinking"))
    engine = LocalEngine(*folders, device="cpu", processes=1, by_row=True)
    folder = factory.mktemp("small")
    run = small_run_of(engine, folder / "run")
    records = read_runs([run])
    queries = [Query(*each) for each in zip(records.names, records.messages, records.forms, strict=True)]
    signals = measure_all(engine, queries, NEEDS)
    train_head(records, signals, records.form).save(folder / "head.safetensors")
    MADE.append(
        SimpleNamespace(engine=engine, run=run, records=records, signals=signals, head_file=folder / "head.safetensors")
    )
    return MADE[0]


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """What `made_once` makes."""
    return made_once(tmp_path_factory)


@pytest.fixture(scope="session")
def small_run(small):
    """50 questions × 3 λ × 2 samples of the built-in pair."""
    return small.run


@pytest.fixture(scope="session")
def row_engine(small):
    """The built-in pair, one λ per row."""
    return small.engine


@pytest.fixture(scope="session")
def measured(small):
    """The records of the small run, and what was measured of its questions."""
    return small.records, small.signals


@pytest.fixture(scope="session")
def head_file(small):
    """The head of the small run."""
    return small.head_file


@pytest.fixture
def one_process(monkeypatch):
    """Engines decode in this process: starting others takes seconds."""
    monkeypatch.setattr("mull.engines.local.engine.AVAILABLE", False)
