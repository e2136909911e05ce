"""The built-in benchmark: grading, difficulty, and a clear refusal of what is not there."""

import pytest

from mull.benchmarks import load_benchmark
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
    assert benchmark.grade(seven, answer) == (extracted, correct)


def test_unknown_benchmark_names_the_near_miss():
    with pytest.raises(MullError, match=r"unknown benchmark 'tinny'.*'tiny'"):
        load_benchmark("tinny")
