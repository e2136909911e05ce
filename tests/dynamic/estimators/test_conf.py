"""Confidence against the same formulas written down again, and the rule by which its constants are fitted."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

from mull.dynamic.base import Cost, Need
from mull.dynamic.estimators.conf import Confidence
from mull.errors import MullError

from ..conftest import forced_answer, signals_of


def drawn(count, seed=0):
    """Queries with forced answers of both ends, and their (C_I, C_T, H_I, H_T) computed apart."""
    rng = np.random.default_rng(seed)
    queries, values = [], []
    for i in range(count):
        probabilities = [rng.uniform(0.05, 1, size=int(rng.integers(1, 6))) for _ in range(2)]
        entropies = rng.uniform(0, 3, size=2)
        answers = [forced_answer(p, float(h), (len(p), 30)) for p, h in zip(probabilities, entropies, strict=True)]
        queries.append(signals_of(*answers, query=str(i)))
        values.append([*(float(np.prod(p)) ** (1 / len(p)) for p in probabilities), *entropies])
    return queries, np.array(values)


def test_confidence_is_the_geometric_mean_of_the_probabilities():
    assert forced_answer((0.5, 0.5, 0.25)).confidence == pytest.approx(0.0625 ** (1 / 3), rel=1e-12)
    assert forced_answer(()).confidence == 0


def test_the_gap():
    queries, values = drawn(60)
    own = Confidence(form="gap", lam0=0.9, alpha=0.7, gamma=0.6)
    found = [own.choose(query).lam for query in queries]
    expected = [min(1, max(0, 0.9 + 0.7 * (c_t - c_i) - 0.6 * c_i)) for c_i, c_t, _, _ in values]
    np.testing.assert_allclose(found, expected, atol=5.1e-5)
    assert len(set(found)) > 30


def test_the_entropy():
    queries, values = drawn(60, 1)
    own = Confidence(form="entropy", lam0=0.1, alpha=0.2, gamma=0.3, low=0.05, high=0.9)
    expected = [min(0.9, max(0.05, 0.1 + 0.2 * (h_i - h_t) + 0.3 * h_i)) for _, _, h_i, h_t in values]
    np.testing.assert_allclose([own.choose(query).lam for query in queries], expected, atol=5.1e-5)


@pytest.mark.parametrize("offset", [0.0, 0.8, -3.0])
def test_the_ratio(offset):
    queries, values = drawn(60, 2)
    own = Confidence(form="ratio", offset=offset)
    expected = [math.exp(-h_t + offset) / (math.exp(-h_i) + math.exp(-h_t + offset)) for _, _, h_i, h_t in values]
    np.testing.assert_allclose([own.choose(query).lam for query in queries], expected, atol=5.1e-5)


def test_defaults_ask_instruct_alone_and_charge_it_alone():
    query = signals_of(forced_answer((0.25,), cost=(3, 40)), forced_answer((0.5,), cost=(2, 50)))
    choice = Confidence().choose(query)
    assert choice.lam == 0.75 and choice.cost == Cost(3, 40)
    assert "0.25 sure" in choice.why and "Thinking" not in choice.why
    assert Confidence(alpha=0.5).choose(query).cost == Cost(5, 90)
    assert Confidence(form="ratio").needs == {Need.forced_instruct, Need.forced_thinking}


@pytest.mark.parametrize("form", ["gap", "entropy"])
def test_fitted_constants_send_the_quartiles_to_the_ends(form):
    queries, values = drawn(41, 3)
    start = Confidence(form=form, lam0=0.3, alpha=0.4, gamma=0.5)
    own = start.fitted(queries, low=0.1, high=0.8)
    if form == "gap":
        raw = 0.4 * (values[:, 1] - values[:, 0]) - 0.5 * values[:, 0]
    else:
        raw = 0.4 * (values[:, 2] - values[:, 3]) + 0.5 * values[:, 2]
    ranked = np.sort(raw)
    least, most = ranked[10], ranked[30]  # the quartiles of 41 values are values
    expected = np.interp(raw, [least, most], [0.1, 0.8])
    found = np.array([own.choose(query).lam for query in queries])
    np.testing.assert_allclose(found, expected, atol=5.1e-5)
    assert (found == 0.1).sum() == 11 and (found == 0.8).sum() == 11


def test_the_fitted_offset_makes_the_mean_the_middle():
    queries, _ = drawn(40, 4)
    own = Confidence(form="ratio").fitted(queries, low=0.0, high=0.8)
    raw = [own._raw(query) for query in queries]
    assert np.mean(raw) == pytest.approx(0.4, abs=1e-9)


def test_what_cannot_be_fitted_or_made_is_refused():
    queries, _ = drawn(8)
    Confidence().fitted(queries)
    with pytest.raises(MullError, match="needs 8 queries, got 7"):
        Confidence().fitted(queries[:7])
    with pytest.raises(MullError, match="equally sure"):
        Confidence().fitted([queries[0]] * 9)
    with pytest.raises(MullError, match="cannot be reached"):
        Confidence(form="ratio").fitted(queries, low=0.0, high=0.0)
    for wrong in ({"form": "gasp"}, {"alpha": math.nan}, {"low": 0.9, "high": 0.1}, {"high": 1.5}):
        with pytest.raises(MullError):
            Confidence(**wrong)
    with pytest.raises(MullError, match="forced answer of Thinking was not measured"):
        Confidence(alpha=1.0).choose(signals_of(forced_answer()))


def test_it_can_be_pickled_and_its_record_makes_it_again():
    queries, _ = drawn(20, 5)
    own = Confidence(form="gap", alpha=0.3).fitted(queries)
    again = pickle.loads(pickle.dumps(own))
    assert again == own and again.choose(queries[3]) == own.choose(queries[3])
    assert Confidence(**{key: value for key, value in own.record().items() if key != "estimator"}) == own
