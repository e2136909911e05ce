"""An evaluation of every kind of policy on the built-in pair: its records, interrupts, and refusals."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from mull.benchmarks import answer_form, load_benchmark
from mull.checkpoints.pair import Pair
from mull.dynamic.base import Signals
from mull.dynamic.estimators.conf import Confidence
from mull.dynamic.evaluation.policies import BRIEF, Policy
from mull.dynamic.evaluation.sampling import SHRUNK_BY, best_on_record
from mull.dynamic.evaluation.session import Evaluation, Unseen, compare, evaluate, unseen
from mull.dynamic.head import Head
from mull.dynamic.probing.local import measure
from mull.dynamic.training.records import text_hash
from mull.engines.base import Sampling
from mull.engines.local.arithmetic import arithmetic
from mull.errors import MullError
from mull.runs.sessions.observer import Observer
from mull.runs.store import RunStore
from mull.tiny import checkpoint_folder

from .test_comparison import sample

SAMPLING = Sampling(max_tokens=40)
EVERY = 12
LAMS = (0.0, 0.5, 1.0)
QUESTIONS, K = 10, 2


@pytest.fixture(scope="module")
def pair():
    return Pair.open(str(checkpoint_folder("instruct")), str(checkpoint_folder("thinking")))


def policies(head):
    conf, pref = Confidence(), head.preference
    return [
        *map(Policy.static, LAMS),
        Policy.estimated(conf),
        Policy.estimated(pref),
        Policy.random("conf"),
        Policy.oracle(),
        Policy.budgeted(6, SAMPLING),
        Policy.brief(),
        Policy.exiting(EVERY, 0.9),
    ]


@pytest.fixture(scope="module")
def evaluation(pair, head_file):
    head = Head.open(head_file)
    asked = unseen([load_benchmark("tiny", questions=QUESTIONS, seed=3)], head.seen, head.digest)
    return made(pair, asked, policies(head))


def made(pair, benchmarks, chosen, k=K):
    name = arithmetic(pair.donor.folder, "cpu", unrounded=True)
    return Evaluation(
        pair=pair, benchmarks=benchmarks, policies=chosen, k=k, sampling=lambda _: SAMPLING, arithmetic=name
    )


@pytest.fixture(scope="module")
def done(evaluation, row_engine, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation") / "out"
    return folder, evaluate(evaluation, folder, lambda: row_engine)


def records(folder, benchmark="tiny"):
    """All that a run holds, but for times."""
    with RunStore.open(folder / benchmark) as store:
        return {s.key: replace(s, seconds=0.0) for s in store.samples()}, store.routes


def test_every_policy_is_sampled_and_compared(evaluation, done):
    samples, _ = records(done[0])
    counts = Counter(key[0] for key in samples)
    labels = [policy.label for policy in evaluation.policies]
    assert counts == dict.fromkeys(labels, QUESTIONS * K)
    (found,) = done[1].tables
    assert [row.label for row in found.rows] == labels and found.questions == QUESTIONS
    for row in found.rows:
        own = [s for s in samples.values() if s.setting == row.label]
        assert row.accuracy == pytest.approx(np.mean([s.correct for s in own]))
        assert row.tokens == pytest.approx(np.mean([s.tokens for s in own]))
        assert row.seconds > 0
    assert found.row("0").gain.difference <= 0
    assert {s.lam for s in samples.values() if s.setting == "0.5"} == {0.5}
    assert {s.lam for s in samples.values() if s.setting not in ("0", "0.5", "1")} == {None}


def test_lambda_its_reason_and_its_cost_are_recorded(evaluation, done, row_engine):
    _, routes = records(done[0])
    benchmark = evaluation.benchmarks[0]
    prompts = {q.id: row_engine.render(benchmark.prompt(q)) for q in benchmark.questions()}
    form = answer_form(benchmark.describe())
    assert set(routes) == {"conf", "pref", "random as conf", "oracle"}
    for policy in evaluation.policies:
        if policy.kind != "estimator":
            continue
        for signals in measure(row_engine, prompts, policy.estimator.needs, form):
            choice = policy.estimator.choose(signals)
            route = routes[policy.label][signals.query]
            assert route.lam == pytest.approx(choice.lam, abs=2e-4) and route[2:] == tuple(choice.cost)
            assert route.why[:20] == choice.why[:20]
    row = done[1].tables[0].row("conf")
    assert row.prefilled == pytest.approx(np.mean([route.prefilled for route in routes["conf"].values()]))
    assert row.lam == pytest.approx(np.mean([route.lam for route in routes["conf"].values()]))
    assert row.prefilled > 0 and all(route.generated > 0 for route in routes["conf"].values())


def test_tokens_include_those_of_the_probe(done, row_engine):
    samples, routes = records(done[0])
    for (setting, question, _), own in samples.items():
        response = len(row_engine.prompts.encode(own.text)) + (own.finish == "stop")
        if setting in ("conf", "pref"):
            route = routes[setting][question]
            plain = samples["0", question, 0].prompt_tokens
            assert own.prompt_tokens == plain + route.prefilled
            assert own.tokens == pytest.approx(response + route.generated, abs=1)
            assert setting == "pref" or route.generated >= 2 or own.tokens >= response + route.generated


def test_a_response_at_a_chosen_lambda_is_that_of_the_static_one(evaluation, done):
    """The same question, number and λ give the same response; the probe's tokens are the only difference."""
    samples, routes = records(done[0])
    shared = 0
    for setting in ("conf", "pref", "random as conf"):
        for question, route in routes[setting].items():
            if route.lam in LAMS:
                for index in range(K):
                    own, static = samples[setting, question, index], samples[f"{route.lam:g}", question, index]
                    assert own.text == static.text and own.seed == static.seed
                    assert own.tokens == static.tokens + route.generated
                    shared += 1
    assert shared


def test_random_draws_the_lambdas_of_its_estimator(done):
    _, routes = records(done[0])
    drawn, own = ([route.lam for route in routes[label].values()] for label in ("random as conf", "conf"))
    assert sorted(drawn) == sorted(own) and drawn != own
    assert all(route[2:] == (0, 0) for route in routes["random as conf"].values())


def test_the_oracle_is_best_on_record_and_draws_anew(evaluation, done):
    samples, routes = records(done[0])
    static = [own for own in samples.values() if own.lam is not None]
    best = best_on_record(static)
    for question, route in routes["oracle"].items():
        assert route.lam == best.choose(Signals(query=question)).lam
    plan = evaluation.plan(evaluation.benchmarks[0])
    for (setting, question, index), own in samples.items():
        expected = plan.sample_seed(f"{question}/oracle" if setting == "oracle" else question, index)
        assert own.seed == expected


def test_budget_and_brief_differ_from_thinking_as_they_should(evaluation, done, row_engine):
    samples, _ = records(done[0])
    benchmark = evaluation.benchmarks[0]
    assert any(own.thinking == "forced" for key, own in samples.items() if key[0] == "Thinking, budget 6")
    for question in benchmark.questions():
        told = row_engine.render([{"role": "system", "content": BRIEF}, *benchmark.prompt(question)])
        assert samples["be brief", question.id, 0].prompt_tokens == len(told)


class Stopping(Observer):
    """Interrupts after so many choices or samples."""

    def __init__(self, choices=None, responses=None):
        self.left = {"choices": choices, "responses": responses}

    def count(self, what):
        if self.left[what] is not None:
            self.left[what] -= 1
            if self.left[what] < 0:
                raise KeyboardInterrupt

    @contextmanager
    def counting(self, what, total):
        yield lambda count: self.count("choices")

    @contextmanager
    def sweeping(self, plan, on_record):
        yield lambda sample: self.count("responses")


def test_an_interrupted_evaluation_goes_on_to_the_same_records(evaluation, done, row_engine, tmp_path):
    stops = [{"choices": 4}, {"choices": 13}, *({"responses": count} for count in (0, 31, 45, 30, 38))]
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            evaluate(evaluation, tmp_path / "out", lambda: row_engine, Stopping(**stop))
    result = evaluate(evaluation, tmp_path / "out", lambda: row_engine)
    (samples, routes), (expected, expected_routes) = records(tmp_path / "out"), records(done[0])
    assert samples.keys() == expected.keys()
    assert routes == expected_routes
    assert samples == expected
    for row, before in zip(result.tables[0].rows, done[1].tables[0].rows, strict=True):
        assert replace(row, seconds=None, speed_up=None) == replace(before, seconds=None, speed_up=None)


def test_a_complete_evaluation_needs_no_engine_and_can_grow(evaluation, done, row_engine, tmp_path):
    def never():
        raise AssertionError("loaded")

    assert evaluate(evaluation, done[0], never).tables[0].rows == done[1].tables[0].rows
    small = replace(evaluation, policies=[Policy.static(0.0), Policy.static(1.0), Policy.estimated(Confidence())], k=1)
    evaluate(small, tmp_path / "out", lambda: row_engine)
    evaluate(evaluation, tmp_path / "out", lambda: row_engine)
    samples, routes = records(tmp_path / "out")
    assert samples == records(done[0])[0] and routes == records(done[0])[1]


@pytest.mark.parametrize("kind", ["seed", "sampling", "estimator", "benchmark", "arithmetic"])
def test_another_plan_in_the_folder_is_refused(evaluation, done, kind):
    changed = {
        "seed": {"seed": 1},
        "sampling": {"sampling": lambda _: Sampling(max_tokens=41)},
        "estimator": {
            "policies": [
                Policy.estimated(Confidence(alpha=0.5)) if p.label == "conf" else p for p in evaluation.policies
            ]
        },
        "benchmark": {"benchmarks": [load_benchmark("tiny", questions=QUESTIONS, seed=4)]},
        "arithmetic": {"arithmetic": "local/float32/cpu"},
    }[kind]

    def never():
        raise AssertionError("loaded")

    with pytest.raises(MullError, match="another plan"):
        evaluate(replace(evaluation, **changed), done[0], never)


def test_a_folder_of_something_else_is_refused(evaluation, tmp_path):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "letter.txt").write_text("dear")
    with pytest.raises(MullError, match="something else"):
        evaluate(evaluation, tmp_path, lambda: pytest.fail("loaded"))


def test_several_benchmarks_are_averaged(pair, row_engine, tmp_path):
    asked = [load_benchmark(f"tiny-{kind}", questions=count, seed=2) for kind, count in (("easy", 6), ("hard", 3))]
    chosen = [Policy.static(0.0), Policy.static(1.0), Policy.estimated(Confidence())]
    result = evaluate(made(pair, asked, chosen, k=1), tmp_path, lambda: row_engine)
    average, easy, hard = result.tables
    assert [each.benchmark for each in result.tables] == ["average", "tiny-easy", "tiny-hard"]
    assert (average.questions, easy.questions, hard.questions) == (9, 6, 3)
    for label in ("0", "1", "conf"):
        assert average.row(label).accuracy == pytest.approx((easy.row(label).accuracy + hard.row(label).accuracy) / 2)
        assert average.row(label).tokens == pytest.approx((easy.row(label).tokens + hard.row(label).tokens) / 2)
    assert set(result.samples) == set(result.routes) == {"tiny-easy", "tiny-hard"}
    again = compare(made(pair, asked, chosen, k=1), tmp_path, prefill_weight=0.5)
    own = again.tables[1].row("conf")
    assert own.tokens == pytest.approx(easy.row("conf").tokens + 0.5 * own.prefilled)


def test_questions_that_trained_are_left_out():
    benchmark = load_benchmark("tiny", questions=14, seed=5)
    questions = benchmark.questions()
    seen = frozenset(text_hash(question.text) for question in questions[:4])
    (left,) = unseen([benchmark], seen, "abc")
    assert [q.id for q in left.questions()] == [q.id for q in questions[4:]]
    assert left.describe() == {**benchmark.describe(), "unseen_by": "abc"}
    assert left.prompt(questions[5]) == benchmark.prompt(questions[5])
    assert left.grade(questions[5], f"\\boxed{{{questions[5].gold}}}").correct
    assert Unseen(benchmark, frozenset(), "").describe() == benchmark.describe()
    more = seen | {text_hash(questions[4].text)}
    with pytest.raises(MullError, match=r"of 14 questions of tiny the head has not seen 9, and an evaluation needs 10"):
        unseen([benchmark], more, "abc")


def test_the_training_questions_of_a_head_are_refused(head_file):
    head = Head.open(head_file)
    with pytest.raises(MullError, match="has not seen 0"):
        unseen([load_benchmark("tiny", questions=50, seed=5)], head.seen, head.digest)


def test_a_single_question_is_refused_before_the_work(pair, tmp_path):
    asked = [load_benchmark("tiny", questions=1)]
    with pytest.raises(MullError, match="one question"):
        evaluate(made(pair, asked, [Policy.static(1.0)]), tmp_path, lambda: pytest.fail("loaded"))


def test_best_on_record_by_hand():
    def static(lam, question, rights, tokens):
        return [
            replace(sample(f"{lam:g}", question, i, right, tokens), lam=lam, stratum="s")
            for i, right in enumerate(rights)
        ]

    samples = [
        *static(0.0, "a", [True, True], 10), *static(1.0, "a", [True, True], 50),
        *static(0.0, "b", [False, False], 10), *static(1.0, "b", [True, False], 50),
    ]  # fmt: skip
    prior = {0.0: 0.5, 1.0: 0.75}
    worth = {lam: (2 + SHRUNK_BY * prior[lam]) / (2 + SHRUNK_BY) for lam in prior}
    assert worth[1.0] > worth[0.0]
    assert best_on_record(samples).lams == {"a": 1.0, "b": 1.0}
    same = [*static(0.0, "a", [True], 10), *static(0.5, "a", [True], 5), *static(1.0, "a", [True], 50)]
    assert best_on_record(same).lams == {"a": 0.5}
    assert best_on_record([sample("conf", "a", 0, True, 3)]).lams == {}
