"""Sessions: complete, resumed or refused without a terminal, and an observer is told how they go."""

from contextlib import contextmanager
from dataclasses import replace

import pytest

from mull.analysis.choosing.options import Goal
from mull.benchmarks import load_benchmark
from mull.checkpoints.pair import Pair
from mull.engines.base import Completion, Sampling
from mull.errors import MullError
from mull.merging.coefficients import Coefficients
from mull.runs.plan import SweepPlan
from mull.runs.run import Ready
from mull.runs.sessions import session
from mull.runs.sessions.loading import GivenLoader
from mull.runs.sessions.observer import Observer, RaceWatch
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


class Loading(GivenLoader):
    """Loads an engine that is there, and renders nothing."""

    def __init__(self, engine, called="parrot", kernels=""):
        super().__init__(engine, called)
        self.kernels = kernels

    def load(self, plan, observer):
        return Ready(self.engine, {question.id: (1, 2) for question in plan.benchmark.questions()}, self.kernels)


class Never(Loading):
    """Fails where anything is loaded, or torch would have to start."""

    def __init__(self):
        super().__init__(None)

    def name(self, plan, observer):
        raise AssertionError("the engine's name is on record")

    def load(self, plan, observer):
        raise AssertionError("nothing is missing, so nothing is loaded")


@pytest.fixture
def plan():
    pair = Pair.open(str(checkpoint_folder("instruct")), str(checkpoint_folder("thinking")))
    settings = [Setting.of(Coefficients.scalar(lam)) for lam in (0.0, 0.5, 1.0)]
    return SweepPlan(pair, settings, load_benchmark("tiny", questions=10), 2, Sampling(max_tokens=64))


def test_a_sweep_goes_on_and_is_not_sampled_twice(plan, tmp_path):
    run, told = tmp_path / "run", Told()
    with pytest.raises(MullError, match="tired"):
        session.sweep(plan, run, Loading(Parrot(fails_at=1.0)), told)
    engine = Parrot()
    samples = session.sweep(plan, run, Loading(engine), told)
    assert (len(samples), engine.asked, told.samples) == (60, 20, 60)
    assert told.lines == ["going on from 40 of 60 responses"]
    assert session.sweep(plan, run, Never(), told) == samples
    assert told.lines[-1].endswith("run is complete: 60 responses on record")


def test_a_run_knows_what_decided_the_last_bits_and_tells_a_session_that_differs(plan, tmp_path):
    run, told = tmp_path / "run", Told()
    with pytest.raises(MullError, match="tired"):
        session.sweep(plan, run, Loading(Parrot(fails_at=0.5), kernels="steps of 8"), told)
    with pytest.raises(MullError, match="tired"):
        session.sweep(plan, run, Loading(Parrot(fails_at=1.0), kernels="steps of 8"), told)
    assert told.lines == ["going on from 20 of 60 responses"]
    session.sweep(plan, run, Loading(Parrot(), kernels="steps of 32"), told)
    assert "computed with steps of 8; now with steps of 32" in told.lines[-1]
    with RunStore.open(run) as store:
        assert store.kernels == ["steps of 8", "steps of 32"]


def test_without_an_observer_it_is_silent(plan, tmp_path, capfd):
    session.sweep(plan, tmp_path / "run", Loading(Parrot()))
    assert capfd.readouterr() == ("", "")


def test_another_plan_is_refused_before_anything_is_loaded(plan, tmp_path):
    session.sweep(plan, tmp_path / "run", Loading(Parrot()))
    other = SweepPlan(plan.pair, plan.settings, plan.benchmark, 2, plan.sampling, seed=1)
    with pytest.raises(MullError, match="seed: 0 → 1"):
        session.sweep(other, tmp_path / "run", Never())


def test_a_run_grows_by_what_is_missing_alone(plan, tmp_path):
    run, told = tmp_path / "run", Told()
    first = session.sweep(plan, run, Loading(Parrot()))
    more = [*plan.settings, Setting.of(Coefficients.scalar(0.7))]
    engine = Parrot()
    grown = session.sweep(
        SweepPlan(plan.pair, more, load_benchmark("tiny", questions=20), 3, plan.sampling), run, Loading(engine), told
    )
    assert (len(grown), engine.asked) == (4 * 20 * 3, 4 * 20 * 3 - 60)
    assert told.lines == ["going on from 60 of 240 responses"]
    by_key = {(s.setting, s.question, s.index): s for s in grown}
    assert all(by_key[s.setting, s.question, s.index] == s for s in first)
    assert len(session.sweep(plan, run, Never())) == 240, "the smaller plan is complete, and nothing is forgotten"


def test_a_failure_before_the_first_response_leaves_no_folder(plan, tmp_path):
    with pytest.raises(MullError, match="tired"):
        session.sweep(plan, tmp_path / "run", Loading(Parrot(fails_at=0.0)))
    assert not (tmp_path / "run").exists()


def test_what_an_observer_raises_ends_the_session_and_keeps_what_is_there(plan, tmp_path):
    class Impatient(Told):
        @contextmanager
        def sweeping(self, plan, on_record):
            def stop(sample):
                raise KeyboardInterrupt

            yield stop

    with pytest.raises(KeyboardInterrupt):
        session.sweep(plan, tmp_path / "run", Loading(Parrot()), Impatient())
    with RunStore.open(tmp_path / "run") as store:
        assert store.count() == 1


def test_a_race_tells_its_steps_and_loads_only_for_what_is_missing(plan, tmp_path):
    plan = SweepPlan(plan.pair, plan.settings, load_benchmark("tiny", questions=40), 4, plan.sampling)
    told = Told()
    first = session.race(plan, tmp_path / "run", Goal(budget=50), Loading(Parrot()), told)
    assert told.samples == first.asked and len(told.lines) > 0
    again = session.race(plan, tmp_path / "run", Goal(budget=50), Never(), told)
    assert again.choice.pick == first.choice.pick
    assert any("responses are on record" in line for line in told.lines)


def test_another_engine_goes_on_with_no_run_but_shows_a_finished_one(plan, tmp_path):
    run = tmp_path / "run"
    first = session.sweep(plan, run, Loading(Parrot()))
    with pytest.raises(MullError, match="engine: parrot → finch"):
        session.sweep(plan, run, Loading(Parrot(), "finch"))

    class Undecided(Loading):
        def could_be(self, plan, engine):
            return True

    assert session.sweep(plan, run, Undecided(None, "finch")) == first
    more = replace(plan, k=3)
    with pytest.raises(MullError, match="engine: parrot → finch"):
        session.sweep(more, run, Undecided(Parrot(), "finch"))
    with RunStore.open(run) as store:
        assert (store.count(), store.plan["k"]) == (60, 2)


def test_what_cannot_be_loaded_neither_makes_nor_grows_a_run(plan, tmp_path):
    class Refusing(Loading):
        def load(self, plan, observer):
            raise MullError("the limit does not fit")

    run = tmp_path / "run"
    with pytest.raises(MullError, match="does not fit"):
        session.sweep(plan, run, Refusing(None))
    assert not run.exists()
    session.sweep(plan, run, Loading(Parrot()))
    with pytest.raises(MullError, match="does not fit"):
        session.sweep(replace(plan, k=5), run, Refusing(None))
    with RunStore.open(run) as store:
        assert store.plan["k"] == 2


def test_a_dry_run_writes_nothing_and_tells_from_what_is_on_record(plan, tmp_path):
    run = tmp_path / "run"
    fresh = session.expect(plan, run, Never())
    assert fresh == (60, 60, 60 * 64, None, None, {}) and not run.exists()
    session.sweep(plan, run, Loading(Parrot()))
    assert session.expect(plan, run, Never())[:4] == (60, 0, 0, 0.0)
    grown = replace(plan, settings=[*plan.settings, Setting.of(Coefficients.scalar(0.7))], k=3)
    more = session.expect(grown, run, Never())
    assert more[:4] == (120, 60, 60 * 64, 60 * 3.0), "a parrot says three tokens whatever its λ"
    with RunStore.open(run) as store:
        assert store.pace is not None and store.pace.tokens == 180
        assert more.seconds == pytest.approx(180 / (180 / store.pace.seconds))
        assert len(store.plan["settings"]) == 3


def test_every_session_adds_to_the_pace(plan, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(MullError):
        session.sweep(plan, run, Loading(Parrot(fails_at=1.0)))
    with RunStore.open(run) as store:
        first = store.pace
    session.sweep(plan, run, Loading(Parrot()))
    with RunStore.open(run) as store:
        assert first.tokens == 120 and store.pace.tokens == 180 and store.pace.seconds > first.seconds > 0


def test_a_race_is_not_mixed_with_another_engine(plan, tmp_path):
    plan = replace(plan, benchmark=load_benchmark("tiny", questions=40), k=4)
    session.race(plan, tmp_path / "run", Goal(budget=50), Loading(Parrot()))

    class Undecided(Loading):
        def could_be(self, plan, engine):
            return True

    with pytest.raises(MullError, match="engine: parrot → finch"):
        session.race(replace(plan, k=8), tmp_path / "run", Goal(budget=50), Undecided(Parrot(), "finch"))
