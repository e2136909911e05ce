"""Other constants of `conf` on made-up records where Instruct's confidence tells which questions need thought."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mull.dynamic.base import Cost, ForcedAnswer, Need, Signals
from mull.dynamic.estimators.conf import Confidence
from mull.dynamic.evaluation.grid import Grid
from mull.dynamic.evaluation.sensitivity import AS_IT_IS, FITTED, ZERO_SHOT, Measured, study, variants
from mull.reports.routing.sensitivity import sensitivity_table, sensitivity_words


def answer(sure, cost):
    return ForcedAnswer(text="7", logprobs=(math.log(sure),), entropy=1 - sure, cost=Cost(1, cost))


def made_up(benchmark="made", questions=60):
    """Every other question is hard: Instruct is unsure and wrong, Thinking right at ten times the tokens."""
    names = [f"q{i:02d}" for i in range(questions)]
    hard = np.arange(questions) % 4 > 1
    flip = np.arange(questions) % 10 == 0
    accuracy = np.stack([~hard ^ flip, np.ones(questions, bool)], 1).astype(float)
    tokens = np.stack([np.full(questions, 20.0), np.full(questions, 200.0)], 1)
    grid = Grid(questions=names, lams=np.array([0.0, 1.0]), accuracy=accuracy, tokens=tokens)
    signals = {
        name: Signals(
            query=name,
            measured={
                Need.forced_instruct: answer(0.2 + 0.001 * i if hard[i] else 0.9 - 0.001 * i, 30),
                Need.forced_thinking: answer(0.5, 33),
            },
        )
        for i, name in enumerate(names)
    }
    return Measured(benchmark=benchmark, grid=grid, signals=signals)


FITTED_CONF = Confidence(lam0=1.5, gamma=2.0, high=0.8)


def test_one_constant_is_changed_at_a_time_and_changes_without_effect_are_left_out():
    found = dict(variants(FITTED_CONF))
    assert found.pop(AS_IT_IS) == FITTED_CONF
    for each in found.values():
        own, before = each.record(), FITTED_CONF.record()
        assert sum(own[name] != before[name] for name in own) == 1
    assert len(set(found.values())) == len(found)
    assert sorted(each.high for each in found.values() if each.high != 0.8) == pytest.approx([0.4, 0.64, 1.0])
    assert found["λ₀ × 0.5 = 0.75"].lam0 == 0.75
    assert found["γ × 2 = 4"].gamma == 4
    assert {each.alpha for each in found.values()} == {0.0, 1.0, 2.0}, "shares of γ in place of α = 0"
    assert {each.low for each in found.values()} == {0.0, 0.2, 0.4}


def test_the_ratio_has_an_offset_alone():
    names = set(dict(variants(Confidence(form="ratio", offset=0.4))))
    assert "b × 0.5 = 0.2" in names
    assert not any("γ" in name or "α" in name or "λ₀" in name for name in names)


def test_rows_are_the_estimators_choices_on_the_grid():
    measured = made_up()
    found = study([measured], [FITTED_CONF])
    assert found is not None
    row = found.row(f"conf: {AS_IT_IS}")
    lams = [FITTED_CONF.choose(measured.signals[name]).lam for name in measured.grid.questions]
    assert row.lam == pytest.approx(np.mean(lams))
    assert row.tokens == pytest.approx(np.mean([20 + 180 * lam + 1 for lam in lams]))
    assert row.prefilled == 30
    assert found.row("conf: α = 2").prefilled == 63, "asking Thinking, too, is charged"
    assert row.gain.low > 0
    assert found.row("conf: γ × 0.5 = 1").gain.difference < row.gain.difference


def test_the_least_and_largest_lambda_take_the_knowledge_away():
    found = study([made_up()], [Confidence(lam0=1.5, gamma=2.0, low=1.0)])
    assert found is not None
    row = found.row(f"conf: {AS_IT_IS}")
    assert (row.lam, row.accuracy, row.gain.difference) == (1, 1, 0)


def test_forms_are_fitted_anew_on_the_other_half_and_zero_shot_constants_are_there():
    found = study([made_up()], [FITTED_CONF])
    assert found is not None
    labels = [row.label for row in found.rows]
    assert [label for label in labels if label.startswith(ZERO_SHOT)] == [
        f"{ZERO_SHOT}: {form}" for form in ("gap", "entropy", "ratio")
    ]
    assert f"{FITTED}: gap, quantiles 0.25 and 0.75" in labels
    assert f"{FITTED}: ratio" in labels
    assert max(row.lam for row in found.rows if row.label.startswith(FITTED) and row.lam is not None) <= 0.8


def test_benchmarks_weigh_the_same():
    small, large = made_up("small", 20), made_up("large", 60)
    both = study([small, large], [FITTED_CONF])
    label = f"conf: {AS_IT_IS}"
    single = [study([each], [FITTED_CONF]) for each in (small, large)]
    assert both is not None
    assert both.benchmark == "average"
    assert both.row(label).tokens == pytest.approx(np.mean([each.row(label).tokens for each in single if each]))


def test_nothing_to_study_without_conf_or_signals():
    measured = made_up()
    assert study([measured], []) is None
    assert study([Measured(benchmark="made", grid=measured.grid, signals={})], [FITTED_CONF]) is None


def test_table_and_words():
    found = study([made_up()], [FITTED_CONF])
    assert found is not None
    shown = sensitivity_table(found)
    assert [name for name, _ in shown.sections] == ["conf", FITTED, ZERO_SHOT]
    assert shown.rows[0].name == AS_IT_IS
    assert "No response was sampled" in shown.caption
    frame = shown.frame()
    assert frame["gain_low"].null_count() == 0
    words = sensitivity_words(found)
    assert words[0].startswith("conf: +")
    surely = sum(row.gain.low > 0 for row in found.rows if row.label.startswith("conf: ")) - 1
    assert f"{surely} surely above static λ" in words[0]
