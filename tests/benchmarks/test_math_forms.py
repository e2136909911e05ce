"""The `math` grader on typography, on forms that math-verify does not read, and on numbers that are nearly equal."""

import pytest

from mull.benchmarks import Question
from mull.benchmarks.graders.math_grader import MathGrader
from mull.benchmarks.graders.typography import as_latex

pytest.importorskip("math_verify", reason="needs the extra bench")


@pytest.fixture(scope="module")
def grader():
    return MathGrader()


# Typeset and as LaTeX; either may be the gold answer.
TYPOGRAPHY = [
    ("35°", "35^\\circ"), ("y³", "y^3"), ("2¹²", "4096"), ("3⁻²", "\\frac19"), ("aⁿ⁻¹", "a^{n-1}"), ("√7", "\\sqrt7"),
    ("4√11", "4\\sqrt{11}"), ("√(y−1)", "\\sqrt{y-1}"), ("√5/3", "\\frac{\\sqrt5}{3}"), ("∛9", "\\sqrt[3]{9}"),
    ("³√9", "\\sqrt[3]{9}"), ("√√3", "\\sqrt{\\sqrt{3}}"), ("¼", "0.25"), ("3⅖", "3.4"), ("⁵⁄₁₂", "\\frac{5}{12}"),
    ("5⁄12", "\\frac{5}{12}"), ("(−∞, 4)", "(-\\infty,4)"), ("(0,1) ∪ [2,∞)", "(0,1)\\cup[2,\\infty)"),
    ("y ⩾ 3", "y\\ge 3"), ("y ≠ 3", "y\\neq 3"), ("3π/4", "\\frac{3\\pi}{4}"), ("2θ", "2\\theta"), ("4·7", "28"),
    ("4×7", "28"), ("28÷4", "7"), ("–12", "-12"), ("－12", "-12"), ("４８", "48"), ("ｙ＋２", "y+2"),
    ("３／４", "0.75"), ("（3，4）", "(3,4)"), ("12 500", "12500"), ("7±√2", "7\\pm\\sqrt2"), ("y₂", "y_2"),
    ("log₃ 7", "\\log_3 7"),
    ("𝑦²", "y^2"), ("g′(y)", "g'(y)"), ("30％", "30\\%"), ("⟨3,4⟩", "(3,4)"), ("0.2̅", "\\frac29"),
    ("½y", "\\frac{y}{2}"),
]  # fmt: skip


@pytest.mark.parametrize(("typed", "latex"), TYPOGRAPHY)
def test_typography_means_what_its_latex_means(grader, typed, latex):
    for gold, given in ((typed, latex), (latex, typed)):
        for answer in (f"\\boxed{{{given}}}", f"Thus $\\boxed{{{given}}}$."):
            assert grader.grade(Question(id="q", text="?", gold=gold), answer).correct, (gold, answer)


def test_writing_that_is_no_mathematics_stays():
    for text in ("déjà vu, naïve", "λόγος", "答え", "\\frac{1}{2}", "2^{3}"):
        assert as_latex(text) == text


FORMS = [
    ("7", "7^{\\text{th}}", True), ("21", "21st", True), ("2", "2^\\text{nd}", True), ("7^{\\text{th}}", "7", True),
    ("7", "8^{\\text{th}}", False), ("\\frac{2}{9}", "0.\\overline{2}", True), ("\\frac{2}{9}", "0.(2)", True),
    ("\\frac{2}{9}", "0.222\\ldots", True), ("\\frac{2}{9}", "0.222…", True), ("\\frac{2}{9}", "0.22", False),
    ("\\frac{5}{6}", "0.8\\overline{3}", True), ("\\frac{5}{6}", "0.8\\dot3", True),
    ("\\frac{7}{11}", "0.6363...", True),
    ("0.\\overline{45}", "\\frac{5}{11}", True), ("0.\\overline{45}", "0.\\overline{4}", False),
    ("e", "2.718281828\\ldots", True), ("312_5", "312_6", False), ("312_5", "312_{\\text{five}}", True),
    ("312_5", "312", True), ("312_5", "313_5", False), ("312_5", "312\\text{ (base 5)}", True),
    ("312_5", "312\\text{ in base }6", False), ("\\text{3F}_{16}", "3F_{16}", True), ("3F_{16}", "3E_{16}", False),
    ("312_5", "(312)_5", True), ("80", "80 km/h", True), ("80\\text{ km/h}", "80", True), ("12", "12 cm²", True),
    ("12", "12y", False), ("12 m^2", "12 m^3", False), ("\\frac{7}{4}", "1 3/4", True), ("\\frac23", "1-1/3", True),
    ("2500000.5", "2\\,500\\,000.5", True), ("2500000", "2 500 000", True), ("2500000", "2.5\\text{ million}", True),
    ("2500000", "2.5\\text{ billion}", False), ("9", "€9", True), ("9", "9£", True), ("9", "\\text{Answer: }9", True),
    ("16\\frac23\\%", "16.\\overline{6}\\%", True), ("5\\cdot10^{-12}", "5e-12", True), ("y^{11}", "y^11", True),
    ("\\text{True}", "true", True), ("\\text{light green}", "Light green.", True), ("\\text{green}", "red", False),
    ("\\ln 5", "ln(5)", True), ("\\text{(D)}", "D.", True), ("\\text{(D)}", "C", False),
]  # fmt: skip


@pytest.mark.parametrize(("gold", "box", "right"), FORMS)
def test_forms(grader, gold, box, right):
    assert grader.grade(Question(id="q", text="?", gold=gold), f"\\boxed{{{box}}}").correct == right


NEARLY = [
    ("10^{-30}", "7\\cdot10^{-30}", False), ("10^{-30}", "\\frac{1}{10^{30}}", True), ("3^{-80}", "3^{-81}", False),
    ("0.0000002", "0.0000003", False), ("0.0000002", "2\\cdot10^{-7}", True), ("0", "10^{-25}", False),
    ("4.1\\times10^{-15}", "4.2\\times10^{-15}", False), ("4.1\\times10^{-15}", "4.10\\times10^{-15}", True),
    ("(10^{-18},5)", "(4\\cdot10^{-18},5)", False), ("\\{10^{-18},5\\}", "\\{4\\cdot10^{-18},5\\}", False),
    ("[10^{-18},5]", "[4\\cdot10^{-18},5]", False), ("y=10^{-18}", "y=4\\cdot10^{-18}", False),
    ("y>10^{-18}", "y>4\\cdot10^{-18}", False), ("y+10^{-18}", "y+4\\cdot10^{-18}", False),
    ("\\begin{pmatrix}10^{-18}\\\\5\\end{pmatrix}", "\\begin{pmatrix}4\\cdot10^{-18}\\\\5\\end{pmatrix}", False),
    ("e^{-60}", "e^{-61}", False), ("1+10^{-25}", "1", False), ("\\sqrt{10^{40}+1}", "10^{20}", False),
    ("\\frac{2}{3}", "0.666667", True), ("\\frac{2}{3}", "0.667", False), ("\\pi", "3.141593", True),
    ("0.3y", "\\frac{3y}{10}", True), ("\\sqrt{8}", "2.828427", True),
]  # fmt: skip


@pytest.mark.parametrize(("gold", "box", "right"), NEARLY)
def test_numbers_are_equal_in_proportion(grader, gold, box, right):
    given = grader.grade(Question(id="q", text="?", gold=gold), f"\\boxed{{{box}}}")
    own = grader.grade(Question(id="q", text="?", gold=gold), f"\\boxed{{{gold}}}")
    assert (given.correct, own.correct) == (right, True)
    assert right or given.answer != own.answer, "a wrong answer does not vote for the gold"


def test_typed_mathematics_in_running_text_is_found(grader):
    for gold, answer in (
        ("\\sqrt{7}", "The answer is √7."),
        ("y^2", "**y²**"),
        ("4\\sqrt{11}", "So it is 4√11, at last"),
    ):
        assert grader.grade(Question(id="q", text="?", gold=gold), answer).correct, answer
    assert not grader.grade(Question(id="q", text="?", gold="4"), "The answer is 4√11.").correct


def test_an_answer_that_cannot_be_read_is_told_from_a_wrong_one(grader):
    question = Question(id="q", text="?", gold="\\frac12")
    assert grader.grade(question, "\\boxed{\\frac13}").scores.get("unparsed", 0) == 0
    assert grader.grade(question, "\\boxed{+*/}").scores == {"unparsed": 1.0}
    assert grader.grade(question, "I do not know").answer == ""
