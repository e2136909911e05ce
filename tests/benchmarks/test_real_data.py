"""The published sets, where MULL_DATA names a folder that has them: every gold answer grades itself as right."""

import os
from pathlib import Path

import pytest

from mull.benchmarks import Question, load_benchmark
from mull.benchmarks.catalog import SPECS
from mull.benchmarks.graders.boxed import integer
from mull.benchmarks.graders.forms import as_answer
from mull.benchmarks.graders.typography import as_latex

DATA = Path(os.environ.get("MULL_DATA", "no such folder"))
FILES = {
    "aime24": "aime24.jsonl", "aime25": "aime25.jsonl", "amc23": "amc23.jsonl", "math500": "math500.jsonl",
    "gsm8k": "gsm8k_test.jsonl", "ifeval": "ifeval_input_data.jsonl", "gpqa": "gpqa_diamond.csv",
}  # fmt: skip
MATH = ("aime24", "aime25", "amc23", "math500", "gsm8k")


def load(name, monkeypatch):
    path = DATA / FILES[name]
    if not path.is_file():
        pytest.skip(f"MULL_DATA has no {path.name}")
    pytest.importorskip("lm_eval" if name == "ifeval" else "math_verify", reason="needs the extra bench")
    if not os.environ.get("NLTK_DATA"):
        monkeypatch.setenv("NLTK_DATA", str(DATA / "nltk_data"))
    return load_benchmark(name, data=path)


@pytest.mark.parametrize("name", FILES)
def test_whole_sets_with_distinct_ids(name, monkeypatch):
    asked = load(name, monkeypatch).questions()
    assert len({q.id for q in asked}) == len(asked) == SPECS[name].questions
    assert all(q.text.strip() and q.gold.strip() for q in asked)


@pytest.mark.parametrize("name", MATH)
def test_gold_answers_grade_as_right(name, monkeypatch):
    benchmark = load(name, monkeypatch)
    wrong = [q.id for q in benchmark.questions() if not benchmark.grade(q, f"So it is $\\boxed{{{q.gold}}}$.").correct]
    assert wrong == []


@pytest.mark.parametrize("name", MATH)
def test_gold_answers_grade_as_right_by_math_verify_alone(name, monkeypatch):
    benchmark = load(name, monkeypatch)
    worker = benchmark.grader._worker
    wrong = [
        q.id
        for q in benchmark.questions()
        if not worker.ask({"gold": q.gold, "answer": f"So it is $\\boxed{{{q.gold}}}$."})["correct"]
    ]
    assert wrong == []


@pytest.mark.parametrize("name", MATH)
def test_another_questions_gold_is_wrong_and_has_another_name(name, monkeypatch):
    """The integer path and math-verify agree, and wrong answers fall into classes of their own."""
    benchmark = load(name, monkeypatch)
    asked = benchmark.questions()[:120]
    for question, other in zip(asked, [*asked[1:], asked[0]], strict=True):
        answer = f"So it is $\\boxed{{{other.gold}}}$."
        grade = benchmark.grade(question, answer)
        alone = benchmark.grader._worker.ask({"gold": question.gold, "answer": answer})
        assert grade.correct == alone["correct"], question.id
        own = benchmark.grade(question, f"$\\boxed{{{question.gold}}}$").answer
        assert (grade.answer == own) == grade.correct, question.id


@pytest.mark.parametrize("name", MATH)
def test_no_two_gold_answers_become_equal_that_math_verify_keeps_apart(name, monkeypatch):
    """Only what is rewritten before math-verify sees it can become equal, so those are compared with all others."""
    benchmark = load(name, monkeypatch)
    grader = benchmark.grader
    math_verify = pytest.importorskip("math_verify")
    golds = sorted({q.gold for q in benchmark.questions()})
    changed = [gold for gold in golds if as_answer(as_latex(gold)) != gold]
    pairs = [(a, b) for a in changed for b in golds if a != b]
    for gold, given in [*pairs, *((b, a) for a, b in pairs)]:
        question = Question(id="q", text="?", gold=gold)
        if grader.grade(question, f"\\boxed{{{given}}}").correct:
            alone = [math_verify.parse(f"\\boxed{{{text}}}") for text in (gold, given)]
            assert math_verify.verify(*alone) or integer(gold) == integer(given) is not None, (gold, given)


def test_every_ifeval_prompt_can_be_checked(monkeypatch):
    benchmark = load("ifeval", monkeypatch)
    grades = [benchmark.grade(q, "A plain answer. It has two sentences.") for q in benchmark.questions()]
    assert not any("ungraded" in grade.scores for grade in grades)
    assert sum(grade.scores["instructions"] for grade in grades) == 834
    assert all(g.scores["followed"] <= g.scores["followed_loose"] <= g.scores["instructions"] for g in grades)
    assert all(g.correct == (g.scores["followed"] == g.scores["instructions"]) for g in grades)
