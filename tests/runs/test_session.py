"""Sessions: complete, resumed or refused without a terminal, and an observer is told how they go."""

from contextlib import contextmanager

import pytest

from mull.analysis.choosing.options import Goal
from mull.benchmarks import load_benchmark
from mull.checkpoints.pair import Pair
from mull.engines.base import Completion, Sampling
from mull.errors import MullError
from mull.merging.coefficients import Coefficients
from mull.runs import session
from mull.runs.plan import SweepPlan
from mull.runs.run import Ready
from mull.runs.session import Observer, RaceWatch
from mull.runs.settings import Setting
from mull.runs.store import RunStore
from mull.tiny import checkpoint_folder


class Parrot:
    """An engine whose answer is its λ; fails at the λ it is told to."""

    def __init__(self, fails_at=None):
        self.lam, self.fails_at, self.asked = None, fails_at, 0

    def set_weights(self, recipe):
        self.lam = recipe.coefficients.default

    def generate(self, requests):
        for request in requests:
            if self.lam == self.fails_at:
                raise MullError("the parrot is tired")
            self.asked += 1
            text = f"\\boxed{{{int(100 * self.lam)}}}"
            yield Completion(
                id=request.id, token_ids=(1, 2, 3), logprobs=(0.0,) * 3, text=text, finish="stop", seconds=0.1
            )


class Told(Observer):
    """Keeps what it is told."""

    def __init__(self):
        self.lines, self.samples = [], 0

    def say(self, text):
        self.lines.append(text)

    @contextmanager
    def sweeping(self, plan, on_record):
        def count(sample):
            self.samples += 1

        yield count

    @contextmanager
    def racing(self):
        def count(sample):
            self.samples += 1

        yield RaceWatch(lambda step, missing: self.lines.append(step.why), count)


def loading(engine):
    def load(plan, observer):
        return Ready(engine, {question.id: (1, 2) for question in plan.benchmark.questions()})

    return load


def never(plan, observer):
    raise AssertionError("nothing is missing, so nothing is loaded")


@pytest.fixture
def plan():
    pair = Pair.open(str(checkpoint_folder("instruct")), str(checkpoint_folder("thinking")))
    settings = [Setting.of(Coefficients.scalar(lam)) for lam in (0.0, 0.5, 1.0)]
    return SweepPlan(pair, settings, load_benchmark("tiny", questions=10), 2, Sampling(max_tokens=64))


def test_a_sweep_goes_on_and_is_not_sampled_twice(plan, tmp_path):
    run, told = tmp_path / "run", Told()
    with pytest.raises(MullError, match="tired"):
        session.sweep(plan, run, loading(Parrot(fails_at=1.0)), told)
    engine = Parrot()
    samples = session.sweep(plan, run, loading(engine), told)
    assert (len(samples), engine.asked, told.samples) == (60, 20, 60)
    assert told.lines == ["going on from 40 of 60 responses"]
    assert session.sweep(plan, run, never, told) == samples
    assert told.lines[-1].endswith("run is complete: 60 responses on record")


def test_without_an_observer_it_is_silent(plan, tmp_path, capfd):
    session.sweep(plan, tmp_path / "run", loading(Parrot()))
    assert capfd.readouterr() == ("", "")


def test_another_plan_is_refused_before_anything_is_loaded(plan, tmp_path):
    session.sweep(plan, tmp_path / "run", loading(Parrot()))
    other = SweepPlan(plan.pair, plan.settings, plan.benchmark, 2, plan.sampling, seed=1)
    with pytest.raises(MullError, match="seed: 0 → 1"):
        session.sweep(other, tmp_path / "run", never)


def test_a_run_grows_by_what_is_missing_alone(plan, tmp_path):
    run, told = tmp_path / "run", Told()
    first = session.sweep(plan, run, loading(Parrot()))
    more = [*plan.settings, Setting.of(Coefficients.scalar(0.7))]
    engine = Parrot()
    grown = session.sweep(
        SweepPlan(plan.pair, more, load_benchmark("tiny", questions=20), 3, plan.sampling), run, loading(engine), told
    )
    assert (len(grown), engine.asked) == (4 * 20 * 3, 4 * 20 * 3 - 60)
    assert told.lines == ["going on from 60 of 240 responses"]
    by_key = {(s.setting, s.question, s.index): s for s in grown}
    assert all(by_key[s.setting, s.question, s.index] == s for s in first)
    assert len(session.sweep(plan, run, never)) == 240, "the smaller plan is complete, and nothing is forgotten"


def test_a_failure_before_the_first_response_leaves_no_folder(plan, tmp_path):
    with pytest.raises(MullError, match="tired"):
        session.sweep(plan, tmp_path / "run", loading(Parrot(fails_at=0.0)))
    assert not (tmp_path / "run").exists()


def test_what_an_observer_raises_ends_the_session_and_keeps_what_is_there(plan, tmp_path):
    class Impatient(Told):
        @contextmanager
        def sweeping(self, plan, on_record):
            def stop(sample):
                raise KeyboardInterrupt

            yield stop

    with pytest.raises(KeyboardInterrupt):
        session.sweep(plan, tmp_path / "run", loading(Parrot()), Impatient())
    with RunStore.open(tmp_path / "run") as store:
        assert store.count() == 1


def test_a_race_tells_its_steps_and_loads_only_for_what_is_missing(plan, tmp_path):
    plan = SweepPlan(plan.pair, plan.settings, load_benchmark("tiny", questions=40), 4, plan.sampling)
    told = Told()
    first = session.race(plan, tmp_path / "run", Goal(budget=50), loading(Parrot()), told)
    assert told.samples == first.asked and len(told.lines) > 0
    again = session.race(plan, tmp_path / "run", Goal(budget=50), never, told)
    assert again.choice.pick == first.choice.pick
    assert any("responses are on record" in line for line in told.lines)
