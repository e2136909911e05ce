"""Problems: the arithmetic is right, the splits are disjoint whatever the seed, the strata are balanced."""

import itertools
import random
import re
from collections import Counter

from mull.tiny.problems import STEPS, draw, stream


def _evaluate(problem):
    """Second way to the answer: Python's own arithmetic on the problem's text, read left to right."""
    numbers = problem.text
    if problem.family == "sum":
        return sum(int(d) for d in re.findall(r"\d", numbers)) % 100
    start, *_ = re.findall(r"(?<![+*-])\b\d\d\b", numbers)
    value = int(start)
    for op, digit in re.findall(r"([+*-])(\d)", numbers):
        value = eval(f"({value} {op} {digit}) % 100")
    return value


def test_answers_follow_from_the_text():
    rng = random.Random(5)
    for _ in range(2000):
        problem = draw(rng, rng.choice(["train", "tune", "report"]))
        assert problem.answer == f"{_evaluate(problem):02d}", problem.text


def test_no_question_is_in_two_splits():
    keys = {}
    for split in ("train", "tune", "report"):
        for seed in (0, 1):
            for problem in itertools.islice(stream(split, seed), 700):
                assert keys.setdefault(problem.key, split) == split


def test_training_documents_never_hold_a_held_out_question():
    rng = random.Random(11)
    assert all(draw(rng, "train").split == "train" for _ in range(3000))


def test_stream_is_seeded_distinct_and_balanced():
    first = list(itertools.islice(stream("report", 3), 120))
    assert first == list(itertools.islice(stream("report", 3), 120))
    assert first != list(itertools.islice(stream("report", 4), 120))
    assert len({problem.key for problem in first}) == 120
    counts = {name: sum(problem.stratum == name for problem in first) for name in ("easy", "medium", "hard")}
    assert counts == {"easy": 60, "medium": 24, "hard": 36}
    lengths = Counter((problem.stratum, len(problem.ops)) for problem in first)
    assert all(lengths[name, steps] == counts[name] / len(STEPS) for name in counts for steps in STEPS)
