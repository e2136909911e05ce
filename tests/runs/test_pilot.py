"""The session of the pilot study: on its own responses and on those of a run."""

from __future__ import annotations

import pytest

from mull.benchmarks import load_benchmark
from mull.checkpoints.pair import Pair
from mull.engines.base import Sampling
from mull.engines.local.prompts import Prompts
from mull.errors import MullError
from mull.geometry.texts import encoded, generated, rendered
from mull.merging.coefficients import Coefficients
from mull.runs.plan import SweepPlan
from mull.runs.sessions import pilot as module
from mull.runs.sessions import session
from mull.runs.sessions.loading import LocalLoader
from mull.runs.sessions.observer import Observer
from mull.runs.sessions.pilot import Computing, pilot
from mull.runs.settings import Setting
from mull.runs.store import RunStore
from mull.tiny import checkpoint_folder

LAMS = (0.0, 0.5, 1.0)


@pytest.fixture(scope="module")
def pair():
    found = Pair.open(str(checkpoint_folder("instruct")), str(checkpoint_folder("thinking")))
    found.check()
    return found


@pytest.fixture(scope="module")
def run(pair, tmp_path_factory):
    """Greedy responses of the built-in pair, so that generating them again gives the same."""
    settings = [Setting.of(Coefficients.scalar(lam)) for lam in LAMS]
    sampling = Sampling(temperature=0.0, max_tokens=400)
    folder = tmp_path_factory.mktemp("pilot") / "run"
    plan = SweepPlan(pair, settings, load_benchmark("tiny", questions=4), 1, sampling)
    session.sweep(plan, folder, LocalLoader(), Observer())
    return folder


def test_recorded_responses_are_the_generated_ones(pair, run):
    prompts, benchmark = Prompts(pair.donor.folder), load_benchmark("tiny", questions=4)
    asked = rendered(prompts, {q.id: benchmark.prompt(q) for q in benchmark.questions()})
    wanted = generated(pair, prompts, asked, max_tokens=400)
    with RunStore.open(run) as store:
        found = module._recorded(store, prompts, 4, 400)
        assert found == wanted
        assert all(len(text.response) <= 7 for text in module._recorded(store, prompts, 4, 7))
        assert {text.question for text in module._recorded(store, prompts, 2, 7)} == set(list(asked)[:2])


def test_a_response_is_cut_to_the_context(pair):
    prompts = Prompts(pair.donor.folder)
    prompts.context = 12
    found = encoded(prompts, "q", "thinking", (1,) * 9, "1 + 2 = 3 and on and on", finished=False, max_tokens=100)
    assert len(found.response) == 3


def test_both_ways_find_the_same_and_a_run_adds_its_frontier(pair, run):
    benchmark = load_benchmark("tiny", questions=4)
    asked = {q.id: benchmark.prompt(q) for q in benchmark.questions()}
    computing = Computing(max_tokens=400)
    own = pilot(pair, LAMS, asked, computing=computing)
    with RunStore.open(run) as store:
        of_run = pilot(pair, LAMS, run=store, computing=computing)
    assert own.study.pair.lowest_cka == of_run.study.pair.lowest_cka
    assert own.study.control.barriers["both"].height == of_run.study.control.barriers["both"].height
    assert own.frontier is None and own.metrics == []
    assert of_run.frontier and [point.lam for point in of_run.frontier.points] == [0, 0.5, 1]
    assert of_run.study.questions == 4 and own.weights.overall > 0
    assert "tokenised again" in of_run.setup["responses"] and "generated greedily" in own.setup["responses"]


def test_a_run_of_the_ends_alone_has_no_frontier(pair, run, monkeypatch):
    said = []
    monkeypatch.setattr(Observer, "say", lambda _, text: said.append(text))
    with RunStore.open(run) as store:
        ends = [sample for sample in store.samples() if sample.lam != 0.5]
        monkeypatch.setattr(store, "samples", lambda **_: ends)
        found = pilot(pair, LAMS, run=store, questions=2, computing=Computing(max_tokens=20))
    assert found.frontier is None and found.study.questions == 2
    assert len(said) == 1 and "a curve needs three" in said[0]


def test_another_pair_than_the_run_s_is_refused(run):
    swapped = Pair.open(str(checkpoint_folder("thinking")), str(checkpoint_folder("thinking")))
    with RunStore.open(run) as store, pytest.raises(MullError, match="another Instruct checkpoint"):
        pilot(swapped, LAMS, run=store)


def test_the_run_s_own_prompt_is_asked(run):
    with RunStore.open(run) as store:
        question = next(iter(store.questions))
        assert module._conversation(store, question)[0]["content"] == store.questions[question]["text"]
        record = {"name": "x", "prompt": "{question} Put it in a box.", "system": "Be brief."}
        found = module._conversation(_With(store, record), question)  # type: ignore[arg-type]
    assert found == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": f"{store_text(run, question)} Put it in a box."},
    ]


class _With:
    """A run with another benchmark on record."""

    def __init__(self, store, benchmark):
        self.plan, self.questions = {"benchmark": benchmark}, store.questions


def store_text(run, question):
    with RunStore.open(run) as store:
        return store.questions[question]["text"]
