"""Graders without libraries: integers, strings, letters."""

import pytest

from mull.benchmarks import Question, make_grader
from mull.errors import MullError


def question(gold):
    return Question(id="q", text="?", gold=gold)


@pytest.mark.parametrize(
    ("gold", "answer", "extracted", "correct"),
    [
        ("7", "\\boxed{07}", "7", True),
        ("7", "I say 5, no, 7", "7", True),
        ("1,000", "$1000", "1000", True),
        ("-3", "it is −3", "-3", True),
        ("7", "7.5", "7.5", False),
        ("7", "I say 7, no more", "7", True),
        ("7", "5-7", "-7", False),
        ("7", "none", "", False),
        ("7", "", "", False),
    ],
)
def test_integer(gold, answer, extracted, correct):
    assert make_grader("integer").grade(question(gold), answer)[:2] == (extracted, correct)


@pytest.mark.parametrize(
    ("gold", "answer", "correct"),
    [
        ("Paris", "Well,\n\n**paris.**\n", True),
        ("New  York", "\\boxed{new york}", True),
        ("Paris", "Paris, I think", False),
        ("Paris", "", False),
    ],
)
def test_exact(gold, answer, correct):
    assert make_grader("exact").grade(question(gold), answer).correct == correct


# Answer, letter in the strict form ("" where extraction fails), letter in the robust form; the gold letter is B.
LETTERS = [
    ("So it is this.\nANSWER: B", "B", "B"),
    ("Answer: b", "B", "B"),
    ("ANSWER:B", "B", "B"),
    ("**ANSWER: B**", "B", "B"),
    ("ANSWER: A\nNo, wait.\nANSWER: B", "A", "B"),
    ("ANSWER: $B", "", "B"),
    ("**Answer:** B", "", "B"),
    ("ANSWER: **B**", "", "B"),
    ("ANSWER: (B)", "", "B"),
    ("ANSWER: $\\boxed{B}$", "", "B"),
    ("ANSWER: \\text{B}", "", "B"),
    ("The correct answer is (B).", "", "B"),
    ("The correct option is B, as shown.", "", "B"),
    ("Thus $\\boxed{\\text{B}}$", "", "B"),
    ("We get\n\nB", "", "B"),
    ("ANSWER: Both", "", ""),  # no letter out of a word
    ("Answer:\n\nAnswer: B", "B", "B"),
    ("ANSWER: B-trees", "", ""),
    ("ANSWER：Ｂ", "", "B"),
    ("ANSWER: `B`", "", "B"),
    ("Answer: [B]", "", "B"),
    ("Answer: \\textcolor{red}{B}", "", "B"),
    ("Answer: option (B)", "", "B"),
    ("Answer: a bit more", "A", ""),  # an article is a letter by itself, as in the paper
    ("Answer: A bit more", "A", ""),
    ("Answer: A or B", "A", ""),
    ("**Option B** is correct.", "", "B"),
    ("Option B is incorrect.", "", ""),
    ("The answer is not B.", "", ""),
    ("The best choice is **option B**.", "", "B"),
    ("I choose (B).", "", "B"),
    ("\\boxed{\\textbf{(B)}\\ 42}", "", "B"),
    ("$\\boxed{\\mathrm{B}}$", "", "B"),
    ("\\boxed{B = 5}", "", ""),
    ("<answer>B</answer>", "", "B"),
    ("### Final Answer\n\n**B) Lima**", "", "B"),
    ("A) no\nB) yes\nC) no", "", ""),
    ("答案是 B", "", "B"),
    ("The answer is about 4 m", "", ""),
    ("A good question. Because of it, no.", "", ""),
    ("ANSWER: E", "", ""),
    ("", "", ""),
]


@pytest.mark.parametrize(("answer", "strict", "robust"), LETTERS)
def test_letters(answer, strict, robust):
    grade = make_grader("letter").grade(question("B"), answer)
    loose = make_grader("letter-robust").grade(question("B"), answer)
    assert (grade.answer, grade.correct) == (strict, strict == "B")
    assert (loose.answer, loose.correct) == (robust, robust == "B")
    assert grade.scores == loose.scores
    assert grade.scores == {
        "strict": strict == "B",
        "robust": robust == "B",
        "extracted": bool(strict),
        "extracted_robust": bool(robust),
    }


def test_a_question_has_as_many_letters_as_options():
    six = Question(id="q", text="Which?\n\n" + "\n".join(f"{letter}) x" for letter in "ABCDEF"), gold="F")
    for name, answer in (("letter", "ANSWER: F"), ("letter-robust", "It is **F**.\n\n**Answer: F**")):
        assert make_grader(name).grade(six, answer)[:2] == ("F", True)
    assert make_grader("letter").grade(question("F"), "ANSWER: F").correct, "the gold tells that there are so many"
    assert make_grader("letter").grade(question("B"), "ANSWER: F").answer == ""


@pytest.mark.parametrize(
    ("grader", "gold", "answer", "unparsed"),
    [("integer", "7", "\\boxed{x+1}", 1), ("integer", "7", "\\boxed{8}", 0), ("exact", "no", "\\boxed{yes}", 0)],
)
def test_an_answer_that_cannot_be_read_is_told_from_a_wrong_one(grader, gold, answer, unparsed):
    grade = make_grader(grader).grade(question(gold), answer)
    assert not grade.correct and grade.answer and grade.scores.get("unparsed", 0) == unparsed


@pytest.mark.parametrize(
    "text", [" ", "\n", "(", "#", "answer: ", "answer\n", "<answer>", "option is ", "\\boxed{", "B "]
)
@pytest.mark.timeout(20)
def test_long_repetitions_take_no_quadratic_time(text):
    for name in ("letter-robust", "integer", "exact"):
        make_grader(name).grade(question("7"), text * (200_000 // len(text)))


def test_full_width_text_is_the_same_text():
    assert make_grader("exact").grade(question("Route 66"), "\\boxed{Ｒｏｕｔｅ ６６}").correct


def test_unknown_grader_names_the_near_miss():
    with pytest.raises(MullError, match=r"unknown grader 'mth'.*'math'"):
        make_grader("mth")
