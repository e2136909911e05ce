"""What graders find besides right and wrong: means and ratios by hand, errors against a second way."""

import math

import numpy as np
import pytest

from mull.analysis.metrics import Estimate
from mull.analysis.records import Sample
from mull.analysis.regrading import grading_changes
from mull.analysis.scores import as_it_stands, completed, further_scores, mean_score, ratio


def sample(question="q1", index=0, **changes):
    values = {
        "benchmark": "b", "question": question, "setting": "0.5", "lam": 0.5, "index": index, "seed": 1, "text": "",
        "tokens": 3, "finish": "stop", "thinking": "closed", "answer": "7", "correct": True, "seconds": 0.1,
    }  # fmt: skip
    return Sample(**{**values, **changes})


def test_completed_and_as_it_stands():
    cut = sample(index=1, finish="length", thinking="unclosed", correct=False, scores={"as_it_stands": 1.0})
    other = sample("q2", finish="length", thinking="unclosed", correct=False, scores={"as_it_stands": 0.0})
    rows = [sample(), cut, other, sample("q2", index=1, correct=False)]
    assert completed(rows) == [rows[0], rows[3]]
    assert [s.correct for s in as_it_stands(rows)] == [True, True, False, False]
    found = further_scores(rows)
    assert found["completed only"].value == 0.5 and found["unclosed as it stands"].value == 0.5
    assert set(found) == {"completed only", "unclosed as it stands"}


def test_instruction_level_is_a_ratio_of_sums():
    counts = {"q1": [(3, 2), (3, 3)], "q2": [(1, 0), (1, 1)], "q3": [(2, 2), (2, 0)]}
    rows = [
        sample(q, i, scores={"instructions": n, "followed": m, "followed_loose": n, "prompt_loose": 1.0})
        for q, pairs in counts.items()
        for i, (n, m) in enumerate(pairs)
    ]
    found = ratio(rows, "followed", "instructions")
    assert found.value == 8 / 12
    # The delete-one-question jackknife, whose error approaches the linearised one.
    left = [ratio([s for s in rows if s.question != q], "followed", "instructions").value for q in counts]
    jackknife = math.sqrt(2 / 3 * sum((value - np.mean(left)) ** 2 for value in left))
    assert found.error == pytest.approx(jackknife, rel=0.35)
    words = further_scores(rows)
    assert words["instruction, loose"] == (1.0, 0.0) and words["prompt, loose"].value == 1.0
    assert words["instruction, strict"] == found


def test_letters_give_the_share_without_one():
    rows = [
        sample(q, scores={"strict": s, "robust": r, "extracted": e, "extracted_robust": 1.0})
        for q, s, r, e in (("a", 1, 1, 1), ("b", 0, 1, 0), ("c", 0, 0, 1), ("d", 0, 1, 0))
    ]
    found = {name: estimate.value for name, estimate in further_scores(rows).items()}
    assert found == {
        "completed only": 1.0, "strict letter": 0.25, "robust letter": 0.75, "no strict letter": 0.5,
        "no letter at all": 0.0,
    }  # fmt: skip


def test_undefined_is_nan():
    assert all(map(math.isnan, mean_score([sample()], "none")))
    assert all(map(math.isnan, ratio([sample()], "a", "b")))
    assert isinstance(mean_score([sample()], "none", 0.0), Estimate)


def test_changes_of_a_second_grading():
    first = [sample("a"), sample("b", correct=False), sample("b", 1), sample("a", setting="1", lam=1.0)]
    second = [
        sample("a", correct=False, answer="8"), sample("b", answer="9"), sample("b", 1, answer="7.0"),
        sample("a", setting="1", lam=1.0),
    ]  # fmt: skip
    half, one = grading_changes(first, second)
    assert (half.setting, half.samples, half.became_right, half.became_wrong, half.answers) == ("0.5", 3, 1, 1, 1)
    assert half.changed == 2 and half.which == [(first[0], second[0]), (first[1], second[1])]
    assert half.before.value == half.after.value == pytest.approx(2 / 3) and half.difference.value == 0.0
    assert (one.changed, one.answers, one.which) == (0, 0, [])
