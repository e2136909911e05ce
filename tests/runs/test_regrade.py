"""Grading stored text again: originals stay, both are on record, old runs are readable."""

import json

import pytest

from mull.benchmarks import Question, load_benchmark
from mull.checkpoints.pair import Pair
from mull.engines.base import Completion, Sampling
from mull.errors import MullError
from mull.merging.coefficients import Coefficients
from mull.runs.frames import lazy_frame
from mull.runs.grading import grade_response
from mull.runs.plan import SweepPlan
from mull.runs.regrade import regrade
from mull.runs.run import grade, provenance
from mull.runs.settings import Setting
from mull.runs.store import RunStore
from mull.tiny import checkpoint_folder

TEXTS = {
    ("a", 0): "<think>\nhm\n</think>\n\n\\boxed{7}",
    ("a", 1): "I say 7, no box",
    ("b", 0): "\\boxed{seven}",
    ("b", 1): "<think>\nmaybe \\boxed{7}, I should check",
}


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps({"id": i, "question": f"{i}?", "answer": "7"}) + "\n" for i in "ab"))
    return path


@pytest.fixture
def run(tmp_path, data):
    """A run of two λ graded by `exact`, with responses written by hand."""
    pair = Pair.open(str(checkpoint_folder("instruct")), str(checkpoint_folder("thinking")))
    benchmark = load_benchmark(str(data), grader="exact")
    settings = [Setting.of(Coefficients.scalar(lam)) for lam in (0.0, 1.0)]
    plan = SweepPlan(pair, settings, benchmark, 2, Sampling(max_tokens=64))
    with RunStore.record(tmp_path / "run", plan, provenance(plan)) as store:
        for setting in settings:
            for question in benchmark.questions():
                for index in range(2):
                    text = TEXTS[question.id, index]
                    finish = "length" if text.endswith("check") else "stop"
                    done = Completion(id="", token_ids=(1, 2), logprobs=(), text=text, finish=finish, seconds=0.1)
                    store.add(grade(benchmark, question, done, setting, index, 0))
    return tmp_path / "run"


def rights(run, grading=None):
    with RunStore.open(run, grading=grading) as store:
        return [(s.setting, s.question, s.index) for s in store.samples() if s.correct]


def test_unclosed_thought_counts_as_wrong_and_is_scored_as_it_stands(run):
    with RunStore.open(run) as store:
        by_key = {(s.question, s.index): s for s in store.samples() if s.setting == "0"}
    assert by_key["b", 1].thinking == "unclosed" and not by_key["b", 1].correct
    assert by_key["b", 1].scores == {"as_it_stands": 1.0}
    assert by_key["a", 0].scores == {} and by_key["a", 0].correct


def test_a_second_grading_stands_beside_the_first(run):
    before = rights(run)
    with RunStore.amend(run) as store:
        name = regrade(store, "integer")
    assert name.startswith("integer-")
    assert rights(run) == before == [("0", "a", 0), ("1", "a", 0)]
    assert rights(run, "integer") == rights(run, name) == [(s, "a", i) for s in "01" for i in (0, 1)]
    with RunStore.open(run, grading=name) as store:
        assert store.later_grades.gradings[name]["grader"] == {"name": "integer", "version": "1"}
        assert store.plan["benchmark"]["grader"]["name"] == "integer"
        assert lazy_frame(store).collect()["answer"].to_list()[:2] == ["7", "7"]
    with RunStore.open(run) as store:
        assert store.plan["benchmark"]["grader"]["name"] == "exact"


def test_the_sweep_goes_on_after_a_regrade(run, tmp_path, data):
    with RunStore.amend(run) as store:
        regrade(store, "integer")
    pair = Pair.open(str(checkpoint_folder("instruct")), str(checkpoint_folder("thinking")))
    settings = [Setting.of(Coefficients.scalar(lam)) for lam in (0.0, 1.0)]
    plan = SweepPlan(pair, settings, load_benchmark(str(data), grader="exact"), 2, Sampling(max_tokens=64))
    with RunStore.record(run, plan, {}) as store:
        assert store.count() == 8


def test_other_gold_answers(run, tmp_path, data):
    data.write_text(data.read_text().replace('"b?", "answer": "7"', '"b?", "answer": "seven"'))
    with RunStore.amend(run) as store:
        name = regrade(store, data=data)
        assert store.later_grades.find("exact") == name
    assert rights(run, name) == [(s, q, 0) for s in "01" for q in "ab"]
    data.write_text(data.read_text().replace("a?", "another"))
    with RunStore.amend(run) as store, pytest.raises(MullError, match="lacks 1 of the run's 2 questions, 'a' for one"):
        regrade(store, data=data)


def test_an_unfinished_grading_is_named_and_goes_on(run):
    with RunStore.amend(run) as store:
        name = regrade(store, "integer")
        with store._database.writing() as connection:
            connection.execute("DELETE FROM grades WHERE setting = '1'")
    with pytest.raises(MullError, match=rf"4 of 8 responses have no grade of {name}.*--grader integer"):
        rights(run, name)
    counted = []
    with RunStore.amend(run) as store:
        assert regrade(store, "integer", on_grade=counted.append) == name
    assert len(counted) == 8 and len(rights(run, name)) == 4


def test_no_such_grading_and_several(run, data):
    with pytest.raises(MullError, match=r"has no grading 'math'.*mull regrade"), RunStore.open(run, grading="math"):
        pass
    with RunStore.amend(run) as store:
        regrade(store, "exact")
        data.write_text(data.read_text().replace('"7"', '"8"'))
        regrade(store, data=data)
    with pytest.raises(MullError, match=r"several gradings 'exact'. Give one of exact-"):
        rights(run, "exact")
    with pytest.raises(MullError, match=r"no grading 'letter'. Give one of exact-"):
        rights(run, "letter")


def test_a_run_of_the_built_in_benchmark_grades_itself_again(tmp_path):
    pair = Pair.open(str(checkpoint_folder("instruct")), str(checkpoint_folder("thinking")))
    benchmark = load_benchmark("tiny", questions=7)
    setting = Setting.of(Coefficients.scalar(0.0))
    plan = SweepPlan(pair, [setting], benchmark, 1, Sampling(max_tokens=64))
    with RunStore.record(tmp_path / "run", plan, {}) as store:
        for question in benchmark.questions():
            done = Completion(
                id="", token_ids=(1,), logprobs=(), text=f"\\boxed{{{question.gold}}}", finish="stop", seconds=0.1
            )
            store.add(grade(benchmark, question, done, setting, 0, 0))
    with RunStore.amend(tmp_path / "run") as store:
        name = regrade(store)
    assert name.startswith("tiny-") and len(rights(tmp_path / "run", name)) == 7


def test_thinking_kinds_decide_what_is_graded():
    grader = load_benchmark("tiny", questions=7)
    seven = Question(id="q", text="", gold="7")

    def kind(text, finished=True):
        graded = grade_response(grader, seven, text, finished=finished)
        return graded.kind, graded.grade.correct, dict(graded.grade.scores)

    assert kind("<think>\\boxed{8}</think>\\boxed{7}") == ("closed", True, {})
    assert kind("\\boxed{8}</think>\\boxed{7}") == ("closed", True, {})
    assert kind("thought\n<tool_call>\n\\boxed{7}") == ("pseudo-closed", True, {})
    assert kind("\\boxed{7}") == ("none", True, {})
    assert kind("\\boxed{7} and", finished=False) == ("unclosed", False, {"as_it_stands": 1.0})
    assert kind("<think>\\boxed{8}") == ("unclosed", False, {"as_it_stands": 0.0})
