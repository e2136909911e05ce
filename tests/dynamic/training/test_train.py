"""Training finds difficulty where the features reveal it, and nothing where the labels are shuffled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mull.analysis.frontier import concave_hull
from mull.benchmarks import BOXED_ANSWER
from mull.dynamic.base import Need
from mull.dynamic.estimators.fixed import Fixed
from mull.dynamic.evaluation.comparison import Means, above
from mull.dynamic.training.train import train_head
from mull.errors import MullError

from ..conftest import made_up, signals_of


def trained(records, measured, **options):
    return train_head(records, measured, BOXED_ANSWER, **options)


def replayed(records, lams, prefilled=0.0):
    """Means by question of a policy that answers at these λ, read off the records."""
    place = np.searchsorted(records.lams, lams)
    rows = np.arange(len(place))
    count = len(place)
    return Means(
        records.accuracy[rows, place], records.tokens[rows, place], np.full(count, prefilled), np.zeros(count, int)
    )


def gain(records, measured, estimator):
    """Above the static frontier, on questions that did not train."""
    chosen = np.array([estimator.choose(each).lam for each in measured])
    static = [replayed(records, np.full(len(chosen), lam)) for lam in records.lams]
    return above(replayed(records, chosen), static)


def shuffled(records, seed):
    order = np.random.default_rng(seed).permutation(len(records.texts))
    return replace(
        records,
        accuracy=records.accuracy[order],
        tokens=records.tokens[order],
        thought_tokens=records.thought_tokens[order],
    )


@pytest.fixture(scope="module")
def unseen():
    return made_up(300, seed=1)


def test_true_labels_beat_the_static_frontier(unseen):
    head = trained(*made_up())
    found = gain(*unseen, head.preference)
    assert found.low > 0.02, found
    assert head.preference.features.layer == 2, "the layer that reveals the difficulty"
    lams = [row["lam"] for row in head.report["strata"]]
    assert [row["stratum"] for row in head.report["strata"]] == ["easy", "hard"] and lams[1] > lams[0] + 0.5
    assert head.report["pref"]["log_loss"] < 0.5 < head.report["pref"]["log_loss_of_chance"]
    assert gain(*unseen, head.confidences[0]).difference > 0.02
    assert head.report["length"]["spearman"] > 0.8


def test_shuffled_labels_gain_nothing(unseen):
    """Over several shuffles, the mean gain lies within what questions alone make of it."""
    gains = []
    for seed in range(4):
        records, measured = made_up(120)
        head = trained(shuffled(records, seed), measured)
        gains.append(gain(*unseen, head.preference))
    sure = [each for each in gains if each.low > 0]
    assert len(sure) <= 1, gains
    assert np.mean([each.difference for each in gains]) < 0.01, gains


def test_a_constant_estimator_gains_nothing(unseen):
    records, measured = unseen
    for lam in records.lams:
        found = gain(records, measured, Fixed(float(lam)))
        assert found.difference <= 1e-12
    static = [replayed(records, np.full(len(measured), lam)) for lam in records.lams]
    corners = concave_hull(np.array([s.tokens.mean() for s in static]), np.array([s.accuracy.mean() for s in static]))
    assert {0, 2} <= set(corners)
    # Hidden states that are the same for every query make the head a constant.
    same = [
        replace(each, measured={**each.measured, **signals_of(hidden=np.ones((4, 6)), begun=np.ones((4, 6))).measured})
        for each in made_up()[1]
    ]
    head = trained(made_up()[0], same)
    assert len({head.preference.choose(each).lam for each in same}) == 1


def test_training_is_deterministic_to_the_byte(tmp_path):
    files = []
    for name in ("a", "b"):
        trained(*made_up(60)).save(tmp_path / name)
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]


def test_held_out_questions_do_not_train():
    records, measured = made_up(120)
    out = records.held_out
    assert 10 < out.sum() < 40
    head = trained(records, measured)
    accuracy = records.accuracy.copy()
    accuracy[out] = 1 - accuracy[out]
    again = trained(replace(records, accuracy=accuracy), measured)
    np.testing.assert_array_equal(again.preference.weights, head.preference.weights)
    np.testing.assert_array_equal(again.router.weights, head.router.weights)
    assert again.confidences == head.confidences
    assert again.report["pref"]["log_loss"] > head.report["pref"]["log_loss"]
    assert len(head.seen) == 120, "a question that judged the head is no longer unseen"


def test_confidences_never_see_a_label():
    records, measured = made_up(60)
    head = trained(records, measured)
    assert [each.name for each in head.confidences] == ["conf", "conf-entropy", "conf-ratio"]
    assert trained(shuffled(records, 0), measured).confidences == head.confidences


def test_equal_ends_are_no_need_of_thinking_whatever_epsilon():
    records, measured = made_up(60)
    records.accuracy[:, 2] = records.accuracy[:, 0]
    records.accuracy[:, 2] += 1e-12
    assert trained(records, measured, epsilon=0.0).report["router"]["needed"] == 0


def test_few_preferences_leave_a_head_of_numbers(tmp_path):
    """Some folds of the cross-validation have no preference to be judged by."""
    records, measured = made_up(60)
    records.accuracy[:] = 0.5
    records.tokens[:] = 10.0
    first = int(np.flatnonzero(~records.held_out)[0])
    records.tokens[first] = [10.0, 20.0, 30.0]
    head = trained(records, measured).save(tmp_path / "head")
    assert np.isfinite(head.preference.weights).all() and head.preference.choose(measured[0]).lam == 0


def test_what_cannot_train_is_refused():
    records, measured = made_up(60)
    records.accuracy[:] = 0.5
    records.tokens[:] = 10.0
    with pytest.raises(MullError, match="prefers any λ"):
        trained(records, measured)
    records, measured = made_up(60)
    measured[3].measured[Need.hidden_instruct].layers[1, 2] = np.nan
    with pytest.raises(MullError, match="holds NaN"):
        trained(records, measured)
