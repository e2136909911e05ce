from __future__ import annotations

import math
import time

import numpy as np
import pytest

from mull.analysis.stages import grid_rule, stages_of_samples, stages_of_table
from mull.analysis.tables import PublishedRow, published
from mull.errors import MullError

GRID = [0, 0.2, 0.4, 0.45, 0.5, 0.55, 0.6, 0.8, 1]
GPQA = [0, 0, 0.04, 0.266, 0.664, 0.938, 0.997, 0.999, 0.999]


def table(ratios, lams=GRID, **more):
    return [PublishedRow(lam=lam, think_ratio=ratio, **more) for lam, ratio in zip(lams, ratios, strict=True)]


@pytest.mark.parametrize("benchmark", ["aime25", "ifeval", "gpqa_diamond"])
def test_published_stage_2(benchmark):
    stages = stages_of_table([row for row in published() if row.benchmark == benchmark])
    assert stages.found
    assert stages.grid == (0.4, 0.6)
    assert stages.boundaries is not None
    assert 0.4 < stages.boundaries[0] < stages.boundaries[1] < 0.6
    assert stages.intervals == {}


@pytest.mark.parametrize(
    ("lams", "ratios", "expected"),
    [
        ([0, 0.5, 1], [0.05, 0.5, 0.99], (0, 1)),
        ([0, 0.5, 1], [0.0501, 0.5, 0.99], None),
        ([0, 0.5, 1], [0.05, 0.5, 0.9899], None),
        ([1, 0, 0.5], [1, 0, 0.02], (0.5, 1)),
        ([0, 0.4, 0.6, 0.8, 1], [0, 0.01, 1, 0.97, 0.999], (0.4, 0.6)),
        ([0, 0.2, 0.4, 0.6], [0.01, 0.1, 0.04, 1], (0.4, 0.6)),
        ([0, 0.2, 0.4, 0.6], [0.01, math.nan, 0.04, 1], (0.4, 0.6)),
        ([0, 0.4, 0.6, 0.8], [0, 1, 0.02, 1], None),
        ([0, 0.4, 0.6, 0.8], [0.9, 0.02, 0.5, 1], None),
        ([0, 1], [1, 1], None),
        ([0], [0], None),
        ([0, 1], [math.nan, 1], None),
    ],
)
def test_grid_rule(lams, ratios, expected):
    assert grid_rule(lams, ratios) == expected


@pytest.mark.parametrize(
    ("ratios", "words"),
    [
        ([0] * 9, "never reaches 99 % (highest 0 %"),
        ([1] * 9, "already 100 % at the lowest λ, 0"),
        ([0.3, 0.3, 0.3, 0.4, 0.6, 0.8, 1, 1, 1], "nowhere ≤ 5 %"),
        ([1 / (1 + math.exp((0.78 - lam) / 0.1)) for lam in GRID], "above the highest λ"),
        ([0, 0, 0, 1, 1, 0, 0, 1, 1], "does not stay up"),
        ([0, 0, 0, 0.1, 0.3, 0.5, 0.6, 0.6, 0.6], "rises to"),
        ([0, 0.45, 0, 0.45, 0, 0.45, 0, 0.45, 0], "stays between 0 % and 45 %"),
    ],
)
def test_no_transition_is_said_so_with_the_reason(ratios, words):
    stages = stages_of_table(table(ratios))
    assert not stages.found
    assert stages.grid is None
    assert stages.fit is None
    assert stages.boundaries is None
    assert words in stages.reason


def test_found_by_one_of_the_two_only():
    high = stages_of_table(table([0, 0, 0.02, 0.15, 0.5, 0.8, 0.95, 0.96, 0.96]))
    assert high.found
    assert high.grid is None
    assert high.fit is not None
    assert "never reaches 99 %" in high.reason
    few = stages_of_table(table([0, 0.01, 1], lams=[0, 0.5, 1]))
    assert few.found
    assert few.grid == (0.5, 1)
    assert few.fit is None
    assert "at least 4 λ" in few.reason
    sharp = stages_of_table(table([0, 0, 0, 0, 0, 0, 0, 1, 1]))
    assert sharp.boundaries == sharp.grid == (0.6, 0.8)
    assert "width of the rise is not identified" in sharp.reason


def test_other_methods_and_ablations_do_not_blur_the_rise():
    rows = [*table(GPQA, method="MI"), PublishedRow(method="TA", lam=0.7, think_ratio=0.01)]
    rows.append(PublishedRow(method="MI-0.8 [0,11]", lam=0.8, think_ratio=0.0))
    rows.append(PublishedRow(method="TIES", lam=None, think_ratio=0.5))
    rows.append(PublishedRow(method="MI-0.9", lam=0.9))
    stages = stages_of_table(rows[::-1])
    assert stages.grid == (0.4, 0.6)
    assert stages.fit == stages_of_table(table(GPQA)).fit


def test_a_row_of_another_method_with_a_coefficient_is_no_point_of_the_rise():
    rows = table(GPQA, method="MI")
    assert stages_of_table([*rows, PublishedRow(method="TA", lam=0.7, think_ratio=0.01)]) == stages_of_table(rows)


def test_table_refusals():
    with pytest.raises(MullError, match="one benchmark, stratum and model"):
        stages_of_table([*table(GPQA, benchmark="a"), *table(GPQA, benchmark="b")])
    with pytest.raises(MullError, match="easy of a, hard of a"):
        stages_of_table([*table(GPQA, benchmark="a", stratum="easy"), *table(GPQA, benchmark="a", stratum="hard")])
    with pytest.raises(MullError, match=r"λ = 0\.8 stands twice"):
        stages_of_table([*table(GPQA), PublishedRow(lam=0.8, think_ratio=0.3)])
    assert stages_of_table([PublishedRow(lam=0.5)]).reason == "no row has both a λ and a Think #R"


@pytest.fixture
def swept(sample):
    """100 questions × 11 λ × 8 samples whose Think #R is a logistic with midpoint 0.5, scale 0.03, by questions."""
    rng = np.random.default_rng(1)
    shift = rng.normal(0, 0.02, 100)
    return [
        sample(f"q{q}", lam, index=i, thinking="closed" if rng.random() < chance else "none")
        for lam in (0, 0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8, 1)
        for q in range(100)
        for chance in [1 / (1 + math.exp(-(lam - 0.5 - shift[q]) / 0.03))]
        for i in range(8)
    ]


def test_samples_give_intervals_round_the_truth(swept):
    began = time.process_time()
    stages = stages_of_samples(swept)
    assert time.process_time() - began < 3
    assert stages.found
    assert stages.fit is not None
    assert stages.fit.midpoint == pytest.approx(0.5, abs=0.01)
    for name in ("midpoint", "crossing_5", "crossing_95", "crossing_99"):
        low, high = stages.intervals[name]
        assert low < getattr(stages.fit, name) < high
        assert high - low < 0.05
    low, high = stages.intervals["midpoint"]
    # Counted as if the 800 responses per λ were independent, the error is near 0.0009.
    assert 0.002 < high - low < 0.02
    assert stages_of_samples(swept).intervals == stages.intervals, "the same seed draws the same questions"


def test_incomplete_samples_and_refusals(swept, sample):
    part = [s for s in swept if s.question not in {"q1", "q2"} or s.lam != 0.5]
    assert stages_of_samples([*part, sample("q1", None)]).found
    with pytest.raises(MullError, match="no sample has a λ"):
        stages_of_samples([sample("q1", None)])
    flat = stages_of_samples([sample(f"q{q}", lam) for q in range(3) for lam in (0, 0.3, 0.6, 1)])
    assert not flat.found
    assert flat.intervals == {}
