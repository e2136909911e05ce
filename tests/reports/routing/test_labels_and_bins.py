"""Names of policies stay readable where points crowd, and a λ of the grid is counted in the bar above it."""

import itertools

import pytest

from mull.reports.routing.figures import histogram, label_places


def boxes(labels, size):
    for (text, x, y), place in zip(labels, label_places(labels, [(x, y) for _, x, y in labels], size), strict=True):
        width = 6.9 * len(text)
        left = x + place["dx"] - (width if place["align"] == "right" else 0)
        yield left, y + place["dy"] - 7, left + width, y + place["dy"] + 7


def test_labels_of_points_that_crowd_do_not_cover_each_other():
    size = (300, 200)
    labels = [("conf", 100, 60), ("conf-entropy", 102, 64), ("pref", 95, 55), ("router", 290, 60), ("length", 5, 195)]
    found = list(boxes(labels, size))
    for a, b in itertools.combinations(found, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (a, b)
    assert all(left >= 0 and right <= size[0] for left, _, right, _ in found)


@pytest.mark.parametrize("lam", [0.0, 0.3, 0.6, 0.7, 1.0])
def test_a_λ_of_the_grid_is_the_middle_of_its_bar(lam):
    drawn = histogram({"": [lam]}).to_dict()
    bar = next(row for row in drawn["data"]["values"] if row["share"] == 100)
    assert (bar["low"] + bar["high"]) / 2 == pytest.approx(lam)
