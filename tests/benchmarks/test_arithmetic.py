"""The built-in benchmark: grading, difficulty, and a clear refusal of what is not there."""

import pytest

from mull.benchmarks import load_benchmark
from mull.benchmarks.arithmetic import MOST, Arithmetic
from mull.errors import MullError


def test_gold_answers_grade_as_right():
    benchmark = load_benchmark("tiny", questions=70)
    for question in benchmark.questions():
        assert benchmark.grade(question, f"The answer is \\boxed{{{question.gold}}}.").correct


@pytest.mark.parametrize(
    ("answer", "extracted", "correct"),
    [
        ("\\boxed{07}", "7", True),
        ("\\boxed{7}", "7", True),
        ("\\boxed{ 07 }", "7", True),
        ("first \\boxed{12}, then \\boxed{07}", "7", True),
        ("\\boxed{70}", "70", False),
        ("\\boxed{seven}", "seven", False),
        ("\\boxed{}", "", False),
        ("\\boxed{00}", "0", False),
        ("\\boxed{" + "7" * 5000 + "}", "7" * 5000, False),
        ("7", "", False),
        ("", "", False),
    ],
)
def test_last_box_counts_as_a_number(answer, extracted, correct):
    benchmark = load_benchmark("tiny", questions=7)
    question = benchmark.questions()[0]
    seven = type(question)(id="x", text="", gold="07")
    assert benchmark.grade(seven, answer)[:2] == (extracted, correct)


def test_unknown_benchmark_names_the_near_miss():
    with pytest.raises(MullError, match=r"unknown benchmark 'tinny'.*'tiny'"):
        load_benchmark("tinny")


def test_more_questions_than_there_are_are_refused_at_once():
    with pytest.raises(MullError, match=r"has 20,000 different questions, not 10,000,000. Ask for 20000 or fewer"):
        load_benchmark("tiny", questions=10_000_000)


def test_all_questions_that_are_promised_can_be_drawn():
    """Near the end of the supply a further distinct problem is ever harder to find; beyond it, impossible."""
    questions = Arithmetic(MOST).questions()
    assert len({question.text for question in questions}) == len({question.id for question in questions}) == MOST


def test_each_difficulty_is_a_benchmark_of_its_own():
    for stratum in ("easy", "medium", "hard"):
        benchmark = load_benchmark(f"tiny-{stratum}", questions=30)
        whole = load_benchmark("tiny", questions=400).questions()
        asked = benchmark.questions()
        assert {question.stratum for question in asked} == {stratum}
        assert [q.text for q in asked] == [q.text for q in whole if q.stratum == stratum][:30]
        assert benchmark.describe()["name"] == f"tiny-{stratum}"
    with pytest.raises(MullError, match=r"has 2,000 different questions, not 2,001. Ask for 2000 or fewer"):
        load_benchmark("tiny-hard", questions=2001)
