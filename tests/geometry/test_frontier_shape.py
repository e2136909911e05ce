"""Violations of the frontier's shape on curves made by hand."""

import numpy as np
import pytest

from mull.analysis.records import Sample
from mull.errors import MullError
from mull.geometry.frontier_shape import frontier_shape, violation_sizes


def sample(question, lam, correct, tokens, index=0, setting=None):
    return Sample(
        benchmark="toy",
        question=str(question),
        setting=setting or f"{lam:g}",
        lam=lam,
        index=index,
        seed=0,
        text="",
        tokens=tokens,
        finish="stop",
        thinking="none",
        answer="",
        correct=correct,
        seconds=0.0,
    )


def curve(*points, questions=100):
    """Samples whose accuracy and tokens at each λ are exactly (λ, accuracy in percent, tokens)."""
    return [
        sample(q, lam, q < accuracy * questions / 100, tokens)
        for lam, accuracy, tokens in points
        for q in range(questions)
    ]


def test_a_rising_concave_curve_has_no_violation():
    shape = frontier_shape(curve((0, 20, 10), (0.5, 60, 20), (1, 80, 40)))
    assert shape.violations == []
    assert [count.value for count in shape.counts.values()] == [0, 0, 0]
    assert [(p.lam, p.accuracy.value, p.tokens.value) for p in shape.points] == [
        (0, pytest.approx(0.2), 10),
        (0.5, pytest.approx(0.6), 20),
        (1, pytest.approx(0.8), 40),
    ]


def test_each_kind_is_found_where_it_is():
    falls = frontier_shape(curve((0, 20, 10), (0.4, 60, 30), (0.7, 50, 20), (1, 80, 40)))
    assert [(v.kind, v.lams) for v in falls.violations] == [("tokens fall", (0.4, 0.7)), ("accuracy falls", (0.4, 0.7))]
    assert [v.size.value for v in falls.violations] == [pytest.approx(10), pytest.approx(0.1)]
    bent = frontier_shape(curve((0, 20, 10), (0.5, 30, 20), (1, 80, 30)))
    assert [(v.kind, v.lams) for v in bent.violations] == [("not concave", (0, 0.5, 1))]
    assert bent.violations[0].size.value == pytest.approx(0.2)  # the line between the neighbours is at 50 %
    assert bent.violations[0].supported and bent.supported == bent.violations


def test_what_a_few_questions_decide_is_within_noise():
    shape = frontier_shape(curve((0, 20, 10), (0.5, 60, 20), (1, 58, 40), questions=50))
    (found,) = shape.violations
    assert found.kind == "accuracy falls" and found.size.value == pytest.approx(0.02)
    assert not found.supported and found.size.low <= 0 and shape.supported == []
    assert shape.counts["accuracy falls"].low == 0 and shape.counts["accuracy falls"].high >= 1


def test_sizes_against_the_definition():
    rng = np.random.default_rng(0)
    tokens, accuracy = np.sort(rng.random((3, 6))), rng.random((3, 6))
    below = violation_sizes(tokens, accuracy)["not concave"]
    for r in range(3):
        for i in range(4):
            t, a = tokens[r, i : i + 3], accuracy[r, i : i + 3]
            assert below[r, i] == pytest.approx(np.interp(t[1], t[[0, 2]], a[[0, 2]]) - a[1])


def test_only_shared_questions_count_and_other_settings_do_not():
    samples = curve((0, 20, 10), (0.5, 60, 20), (1, 80, 40), questions=10)
    samples += [sample(99, 0.5, False, 10**6), sample(0, None, False, 10**6, setting="ta")]
    shape = frontier_shape(samples)
    assert shape.questions == 10 and [p.tokens.value for p in shape.points] == [10, 20, 40]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (curve((0, 20, 10), (1, 60, 20)), "needs three"),
        ([sample(q, lam, True, 1) for lam, q in ((0, 0), (0.5, 1), (1, 2))], "fewer than two questions"),
    ],
)
def test_what_has_no_curve_is_refused(samples, message):
    with pytest.raises(MullError, match=message):
        frontier_shape(samples)
