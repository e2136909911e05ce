"""Mathematical equality: known-hard ways to write an answer, one class for equal answers, and hangs."""

import time

import pytest

from mull.benchmarks import Question
from mull.benchmarks.graders.math_grader import MathGrader
from mull.errors import MullError

pytest.importorskip("math_verify", reason="needs the extra bench")


@pytest.fixture(scope="module")
def grader():
    return MathGrader()


def grade(grader, gold, answer):
    return grader.grade(Question(id="q", text="?", gold=gold), answer)


# Gold, what stands in the box, and the verdict of math-verify 0.9 in its default configuration.
FORMS = [
    ("70", "070", True), ("70", "70.0", True), ("70", "70^\\circ", True), ("70", "71", False), ("70", "-70", False),
    ("1000", "1,000", True), ("1000", "1{,}000", True), ("1000", "1\\,000", True), ("32348", "\\$32,\\!348", True),
    ("\\frac43", "\\dfrac43", True), ("\\frac{4}{3}", "4/3", True), ("\\frac{4}{3}", "1\\frac{1}{3}", True),
    ("\\frac{4}{3}", "\\tfrac{8}{6}", True), ("\\frac{4}{3}", "1.33", False), ("\\frac34", "0.75", True),
    ("-\\frac{2}{3}", "\\frac{-2}{3}", True), ("50\\%", "0.5", True), ("50", "50\\%", True), ("50\\%", "5", False),
    ("5", "5\\text{ cm}", True), ("864", "864 \\mbox{ inches}^2", True), ("18.9", "\\$18.90", True),
    ("2\\sqrt2", "\\sqrt{8}", True), ("\\frac{1}{\\sqrt2}", "\\frac{\\sqrt2}{2}", True), ("10^{3}", "1000", True),
    ("\\{1,2\\}", "\\{2,1\\}", True), ("1,2", "2,1", True), ("1,2", "1 \\text{ and } 2", True), ("1,2", "1", False),
    ("3\\pm2\\sqrt2", "3+2\\sqrt2, 3-2\\sqrt2", True), ("(1,2)", "(2,1)", False), ("(1,2)", "[1,2]", False),
    ("(0,9) \\cup (9,36)", "(9,36) \\cup (0,9)", True), ("(3,4]", "\\left(3,4\\right]", True),
    ("x=5", "5", True), ("5", "x=5", True), ("p-q", "-q+p", True), ("-2+7i", "7i-2", True),
    ("(x+1)^2", "x^2+2x+1", True), ("x^2+1", "x^2-1", False),
    ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{bmatrix}1\\\\2\\end{bmatrix}", True),
    ("\\text{Evelyn}", "Evelyn", True), ("\\text{(C)}", "C", True), ("\\text{east}", "\\text{west}", False),
    ("\\pi/2", "\\frac{\\pi}{2}", True), ("\\pi/2", "1.5708", False), ("11:00", "11:00", True),
]  # fmt: skip


@pytest.mark.parametrize(("gold", "box", "right"), FORMS)
def test_known_hard_forms(grader, gold, box, right):
    assert grade(grader, gold, f"So the answer is $\\boxed{{{box}}}$.").correct == right


@pytest.mark.parametrize(("gold", "box", "right"), FORMS)
def test_equal_answers_are_one_string_and_others_another(grader, gold, box, right):
    given = grade(grader, gold, f"$\\boxed{{{box}}}$").answer
    own = grade(grader, gold, f"$\\boxed{{{gold}}}$").answer
    assert given and (given == own) == right


WRONG = [
    ["\\frac{1}{2}", "0.5", "\\dfrac12", "\\frac{2}{4}", "1/2", "x=\\frac12", "0.50"],
    ["2\\sqrt{3}", "\\sqrt{12}", "\\frac{6}{\\sqrt3}"],
    ["\\{3,4\\}", "\\{4,3\\}", "3, 4", "4 \\text{ and } 3"],
    ["(a+1)(a-1)", "a^2-1", "-1+a^2"],
    ["1200", "1,200", "1200.0", "1{,}200", "1200\\text{ m}"],
]


@pytest.mark.parametrize("forms", WRONG)
def test_wrong_answers_that_are_equal_vote_together(grader, forms):
    graded = [grade(grader, "77", f"$\\boxed{{{form}}}$") for form in forms]
    assert not any(each.correct for each in graded)
    assert len({each.answer for each in graded}) == 1


@pytest.mark.parametrize(
    ("answer", "found", "right"),
    [
        ("first \\boxed{12}.\n\nNo. Then \\boxed{7}", "7", True),
        ("either \\boxed{7} or \\boxed{8}", "{7, 8}", False),
        ("The answer is 7", "7", True),
        ("I do not know", "", False),
        ("", "", False),
        ("\\boxed{}", "", False),
    ],
)
def test_where_the_answer_stands(grader, answer, found, right):
    assert grade(grader, "7", answer)[:2] == (found, right)


def test_an_integer_needs_no_process():
    grader = MathGrader()
    assert grade(grader, "7", "\\boxed{007}")[:2] == ("7", True)
    assert grader._worker._process is None


def test_a_huge_power_is_wrong_and_does_not_stop_the_run(grader):
    assert not grade(grader, "7", "$\\boxed{9^{9^{9^{9}}} + 10^{10^{10}} \\cdot 100000!}$").correct
    assert grade(grader, "\\frac12", "$\\boxed{0.5}$").correct


def test_a_parser_that_hangs_does_not_stop_the_run(tmp_path, monkeypatch):
    (tmp_path / "hanging_math.py").write_text(
        "import math_verify\n"
        "from mull.benchmarks.graders import math_worker\n"
        "whole = math_verify.parse\n"
        "def parse(text):\n"
        "    return len(str(7 ** 7 ** 11)) if 'hang' in text else whole(text)\n"
        "math_verify.parse = parse\n"
        "math_worker.serve(math_worker.begin)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    grader = MathGrader(seconds=3.0)
    grader._worker.module = "hanging_math"
    assert grade(grader, "\\frac12", "$\\boxed{0.5}$").correct
    began = time.monotonic()
    hung = grade(grader, "\\frac12", "hang $\\boxed{0.5}$")
    assert time.monotonic() - began >= 3
    assert hung == ("0.5", False, {"ungraded": 1.0})
    assert grade(grader, "\\frac12", "hang $\\boxed{\\frac12}$").correct  # equal as text
    assert grade(grader, "\\frac12", "$\\boxed{0.5}$").correct
    grader._worker.close()


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setattr("mull.benchmarks.packages.find_spec", lambda name: None)
    with pytest.raises(
        MullError, match=r"grading mathematics needs math_verify. Install the extra: pip install 'mull\[bench\]'"
    ):
        MathGrader()
