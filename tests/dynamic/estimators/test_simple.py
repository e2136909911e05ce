"""The estimators without forced answers: fixed, random, oracle, and the three that read hidden states."""

from __future__ import annotations

import math
import pickle
from collections import Counter

import numpy as np
import pytest

from mull.dynamic.base import Cost, Need, clipped
from mull.dynamic.estimators.fixed import Fixed
from mull.dynamic.estimators.length import Length
from mull.dynamic.estimators.linear import Features
from mull.dynamic.estimators.oracle import Oracle
from mull.dynamic.estimators.pref import Preference
from mull.dynamic.estimators.random import Random
from mull.dynamic.estimators.router import Router
from mull.errors import MullError

from ..conftest import signals_of

MEAN, SCALE = np.array([1.0, -2.0, 0.5]), np.array([2.0, 0.5, 1.0])


def features(need, layer=1):
    return Features(need=need, layer=layer, mean=MEAN, scale=SCALE)


def states(seed=0):
    return np.random.default_rng(seed).normal(size=(2, 3)).astype(np.float32)


def standard(layers):
    return [(float(x) - m) / s for x, m, s in zip(layers[1], MEAN, SCALE, strict=True)]


def preference(seed=1):
    rng = np.random.default_rng(seed)
    lams, need = np.array([0.0, 0.4, 1.0]), Need.hidden_instruct
    return Preference(features=features(need), lams=lams, weights=rng.normal(size=(3, 3)), biases=rng.normal(size=3))


def test_fixed():
    choice = Fixed(0.4).choose(signals_of())
    assert choice.lam == 0.4 and choice.cost == Cost()


def test_random_is_another_order_of_the_same_lambdas():
    lams = {str(i): i / 50 for i in range(50)}
    lot = Random(lams, "conf")
    drawn = [lot.choose(signals_of(query=query)).lam for query in lams]
    assert sorted(drawn) == sorted(lams.values()) and drawn != list(lams.values())
    assert abs(np.corrcoef(drawn, list(lams.values()))[0, 1]) < 0.4
    assert Random(lams, "conf").choose(signals_of(query="7")) == lot.choose(signals_of(query="7"))
    others = {Random(lams, "conf", seed).choose(signals_of(query="7")).lam for seed in range(20)}
    assert len(others) > 5
    unknown = Counter(lot.choose(signals_of(query=f"x{i}")).lam for i in range(2000))
    assert set(unknown) <= set(lams.values()) and len(unknown) > 40
    with pytest.raises(MullError, match="some λ to draw from"):
        Random({})


def test_the_oracle_looks_up_and_refuses_what_it_has_no_record_of():
    oracle = Oracle({"a": 0.3})
    assert oracle.choose(signals_of(query="a")).lam == 0.3
    with pytest.raises(MullError, match="no record of 'b'"):
        oracle.choose(signals_of(query="b"))


def test_preference_takes_the_highest_score():
    own = preference()
    chosen = set()
    for seed in range(30):
        layers = states(seed)
        x = standard(layers)
        scores = [
            sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(own.weights, own.biases, strict=True)
        ]
        choice = own.choose(signals_of(hidden=layers))
        assert choice.lam == own.lams[int(np.argmax(scores))] and choice.cost == Cost(0, 12)
        ahead = max(scores) - sorted(scores)[-2]
        assert f"by {ahead:.2f} in log odds" in choice.why
        chosen.add(choice.lam)
    assert chosen == {0.0, 0.4, 1.0}


def test_the_router_compares_a_logistic_with_its_threshold():
    weights = np.array([0.5, -1.0, 2.0])
    seen = set()
    for seed in range(30):
        layers = states(seed)
        own = Router(features=features(Need.hidden_instruct), weights=weights, bias=5.0, threshold=0.6)
        p = 1 / (1 + math.exp(-(sum(w * v for w, v in zip(weights, standard(layers), strict=True)) + 5.0)))
        query = signals_of(hidden=layers)
        assert own.probability(query) == pytest.approx(p, rel=1e-12)
        assert own.choose(query).lam == (1.0 if p > 0.6 else 0.0)
        seen.add(own.choose(query).lam)
    assert seen == {0.0, 1.0}


def test_length_is_linear_in_the_log_of_the_tokens():
    weights = np.array([0.3, 0.1, -0.2])
    own = Length(
        features=features(Need.hidden_thinking), weights=weights, bias=4.0, shortest=4.0, longest=5.0, low=0.2, high=0.8
    )
    found = []
    for seed in range(30):
        layers = states(seed)
        logs = sum(w * v for w, v in zip(weights, standard(layers), strict=True)) + 4.0
        expected = 0.2 + 0.6 * min(1, max(0, logs - 4))
        choice = own.choose(signals_of(begun=layers))
        assert choice.lam == pytest.approx(expected, abs=5.1e-5)
        assert f"about {math.exp(logs):,.0f} tokens" in choice.why
        found.append(choice.lam)
    assert len(set(found)) > 5


def test_all_can_be_pickled():
    layers = states()
    query = signals_of(hidden=layers, begun=layers, query="q")
    length = Length(
        features=features(Need.hidden_thinking), weights=MEAN, bias=1.0, shortest=0.0, longest=5.0, low=0.0, high=1.0
    )
    router = Router(features=features(Need.hidden_instruct), weights=MEAN, bias=0.1)
    for own in (Fixed(0.3), Random({"q": 0.1, "r": 0.2}), Oracle({"q": 0.4}), preference(), length, router):
        assert pickle.loads(pickle.dumps(own)).choose(query) == own.choose(query)


@pytest.mark.parametrize("shape", [(1, 3), (2, 4)])
def test_hidden_states_of_another_model_are_refused(shape):
    with pytest.raises(MullError, match="do not fit the features"):
        preference().choose(signals_of(hidden=np.zeros(shape)))


def test_lambda_stays_within_0_and_1():
    assert [clipped(each) for each in (-0.2, 0.12345678, 3.0)] == [0.0, 0.1235, 1.0]
