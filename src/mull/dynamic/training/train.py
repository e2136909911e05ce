"""Trains all parts of a head, and judges them on questions that were held out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from mull.benchmarks import AnswerForm
from mull.dynamic.base import Need, Signals
from mull.dynamic.estimators.conf import FORMS, Confidence
from mull.dynamic.estimators.length import Length
from mull.dynamic.estimators.linear import Features
from mull.dynamic.estimators.pref import Preference
from mull.dynamic.estimators.router import Router
from mull.dynamic.head import Head
from mull.dynamic.training import preferences
from mull.dynamic.training.calibration import Reliability, reliability
from mull.dynamic.training.records import GridRecords, text_hash
from mull.dynamic.training.regression import fit_logistic, fit_ridge
from mull.dynamic.training.selection import candidates, select
from mull.errors import MullError

NEEDS = frozenset(Need)
"""What must be measured of the training questions."""
DELTA = 0.05
"""δ: a response counts as shorter from 5 % on."""
LEAST_GAIN = 0.005
"""Accuracy by which a larger λ must be better to count as the best static one."""
UNLABELLED_HIGH = 0.8
"""Largest λ of an estimator that has seen no label: the published guideline for static interpolation."""


def train_head(
    records: GridRecords,
    signals: Sequence[Signals],
    form: AnswerForm,
    *,
    epsilon: float | None = None,
    delta: float = DELTA,
    beta: float | None = None,
    on_part: Callable[[str], object] = lambda part: None,
) -> Head:
    """A head for the pair of `records`, whose questions were measured as `signals` (all of `NEEDS`, same order).

    `epsilon`: accuracies nearer than this count as equal; by default 1/samples, 0.5 at most. A fifth of the questions
    is held out to judge the head. `beta`: prefer by utility in place of both
    criteria. `on_part` is called with the name of each part before it is fitted.

    Raises:
        MullError: the hidden states have NaN, or no question of the run prefers any λ.
    """
    epsilon = min(1 / records.samples, 0.5) if epsilon is None else epsilon
    train_Q = ~records.held_out
    instruct, thinking = (_states(signals, need) for need in (Need.hidden_instruct, Need.hidden_thinking))
    on_part("preference")
    if beta is None:
        wins = preferences.preferred(records.accuracy, records.tokens, epsilon=epsilon, delta=delta)
    else:
        wins = preferences.preferred_by_utility(records.accuracy, records.tokens, beta=beta)
    if not wins[train_Q].any():
        raise MullError("no question of the run prefers any λ to another", "sweep with a larger -k or a wider grid")
    preference, preference_report = _preference(records, instruct, wins, train_Q)
    on_part("router")
    router, router_report = _router(records, instruct, epsilon, train_Q)
    on_part("length")
    length, length_report = _length(records, thinking, train_Q)
    on_part("confidence")
    fitting = [signal for signal, own in zip(signals, train_Q, strict=True) if own]
    report = {
        "questions": len(records.texts),
        "held_out": int((~train_Q).sum()),
        "samples": records.samples,
        "epsilon": epsilon,
        "delta": delta,
        **({} if beta is None else {"beta": beta}),
        "lams": records.lams.tolist(),
        "benchmarks": {name: dict(record) for name, record in records.benchmarks.items()},
        "pref": preference_report,
        "router": router_report,
        "length": length_report,
        "strata": _by_stratum(records, signals, preference, ~train_Q),
    }
    return Head(
        pair=records.pair,
        form=form,
        preference=preference,
        router=router,
        length=length,
        confidences=_confidences(fitting),
        seen=frozenset(map(text_hash, records.texts)),
        report=report,
    )


def _confidences(queries: Sequence[Signals]) -> list[Confidence]:
    """One of each form, fitted without labels; forms whose signal does not vary are left out."""
    found = []
    for form in FORMS:
        start = Confidence(form=form, lam0=0.0, alpha=0.0, gamma=1.0, name="conf" if form == "gap" else f"conf-{form}")
        try:
            found.append(start.fitted(queries, high=UNLABELLED_HIGH))
        except MullError:
            continue
    return found


def _states(signals: Sequence[Signals], need: Need) -> np.ndarray:
    """Hidden states float32 `[Q, layers, hidden]`. Raises `MullError` for NaN and infinity."""
    states = np.stack([signal.hidden(need).layers for signal in signals])
    if not np.isfinite(states).all():
        raise MullError(f"the {need} holds NaN or infinity", "look for them in the weights with `mull inspect`")
    return states


def _preference(
    records: GridRecords, states: np.ndarray, wins: np.ndarray, train_Q: np.ndarray
) -> tuple[Preference, dict[str, Any]]:
    def fitted(fit_Q: np.ndarray, layer: int, penalty: float) -> tuple[Features, preferences.Scores]:
        features = Features.fit(Need.hidden_instruct, layer, states[fit_Q, layer])
        return features, preferences.fit(features.standardised(states[fit_Q, layer]), wins[fit_Q], penalty=penalty)

    def loss(fit_Q: np.ndarray, judged_Q: np.ndarray, layer: int, penalty: float) -> float:
        features, scores = fitted(fit_Q, layer, penalty)
        return preferences.log_loss(scores.of(features.standardised(states[judged_Q, layer])), wins[judged_Q])

    chosen = select(candidates(states.shape[1]), train_Q, loss)
    features, scores = fitted(train_Q, chosen.layer, chosen.penalty)
    judged = scores.of(features.standardised(states[~train_Q, chosen.layer]))
    gap = judged[:, :, None] - judged[:, None, :]
    won = wins[~train_Q]
    asked = won | won.transpose(0, 2, 1)
    upper = np.triu(np.ones(gap.shape[1:], bool), 1) & asked
    report = {
        "layer": chosen.layer,
        "penalty": chosen.penalty,
        "log_loss": preferences.log_loss(judged, won) if won.any() else None,
        "log_loss_of_chance": float(np.log(2)),
        "reliability": _table(reliability(1 / (1 + np.exp(-gap[upper])), won[upper])),
    }
    preference = Preference(features=features, lams=records.lams, weights=scores.weights, biases=scores.biases)
    return preference, report


def _router(
    records: GridRecords, states: np.ndarray, epsilon: float, train_Q: np.ndarray
) -> tuple[Router, dict[str, Any]]:
    gap = records.accuracy[:, -1] - records.accuracy[:, 0]
    needed = gap > max(epsilon - 1e-9, 1e-9)  # accuracies are rounded; equal ones are no need, even with ε = 0

    def fitted(fit_Q: np.ndarray, layer: int, penalty: float) -> tuple[Features, np.ndarray, float]:
        features = Features.fit(Need.hidden_instruct, layer, states[fit_Q, layer])
        return features, *fit_logistic(features.standardised(states[fit_Q, layer]), needed[fit_Q], penalty=penalty)

    def loss(fit_Q: np.ndarray, judged_Q: np.ndarray, layer: int, penalty: float) -> float:
        features, weights, bias = fitted(fit_Q, layer, penalty)
        margin = features.standardised(states[judged_Q, layer]) @ weights + bias
        return float(np.logaddexp(0, np.where(needed[judged_Q], -margin, margin)).mean())

    chosen = select(candidates(states.shape[1]), train_Q, loss)
    features, weights, bias = fitted(train_Q, chosen.layer, chosen.penalty)
    margin = features.standardised(states[~train_Q, chosen.layer]) @ weights + bias
    report = {
        "layer": chosen.layer,
        "penalty": chosen.penalty,
        "needed": float(needed.mean()),
        "reliability": _table(reliability(1 / (1 + np.exp(-margin)), needed[~train_Q])),
    }
    return Router(features=features, weights=weights, bias=bias), report


def _length(records: GridRecords, states: np.ndarray, train_Q: np.ndarray) -> tuple[Length, dict[str, Any]]:
    counted = records.thought_tokens[:, -1]
    value = np.log(np.maximum(np.where(np.isnan(counted), records.tokens[:, -1], counted), 1.0))

    def fitted(fit_Q: np.ndarray, layer: int, penalty: float) -> tuple[Features, np.ndarray, float]:
        features = Features.fit(Need.hidden_thinking, layer, states[fit_Q, layer])
        return features, *fit_ridge(features.standardised(states[fit_Q, layer]), value[fit_Q], penalty=penalty)

    def loss(fit_Q: np.ndarray, judged_Q: np.ndarray, layer: int, penalty: float) -> float:
        features, weights, bias = fitted(fit_Q, layer, penalty)
        return float(np.mean((features.standardised(states[judged_Q, layer]) @ weights + bias - value[judged_Q]) ** 2))

    chosen = select(candidates(states.shape[1]), train_Q, loss)
    features, weights, bias = fitted(train_Q, chosen.layer, chosen.penalty)
    predicted = features.standardised(states[:, chosen.layer]) @ weights + bias
    shortest, longest = np.quantile(predicted[train_Q], (0.25, 0.75))
    held_out = spearman(predicted[~train_Q], value[~train_Q])
    length = Length(
        features=features,
        weights=weights,
        bias=bias,
        shortest=float(shortest),
        longest=float(longest),
        low=0.0,
        high=best_static(records, train_Q),
    )
    return length, {"layer": chosen.layer, "penalty": chosen.penalty, "spearman": _number(held_out)}


def spearman(a_N: np.ndarray, b_N: np.ndarray) -> float:
    """Rank correlation, ties by their mean rank; NaN for fewer than three values or equal ones."""
    if len(a_N) < 3 or np.ptp(a_N) == 0 or np.ptp(b_N) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(a_N), rankdata(b_N))[0, 1])


def best_static(records: GridRecords, rows_Q: np.ndarray) -> float:
    """The least λ whose accuracy is within `LEAST_GAIN` of the best static one."""
    accuracy = records.accuracy[rows_Q].mean(0)
    return float(records.lams[int(np.argmax(accuracy >= accuracy.max() - LEAST_GAIN))])


def _by_stratum(
    records: GridRecords, signals: Sequence[Signals], preference: Preference, judged_Q: np.ndarray
) -> list[dict[str, Any]]:
    """Mean λ(q) of the held-out questions by stratum, the easiest first: where Instruct is right most often."""
    lams = np.array([preference.choose(signal).lam for signal in signals])
    strata = np.array(records.strata)
    found = []
    for stratum in sorted(set(strata[judged_Q])):
        rows = judged_Q & (strata == stratum)
        found.append(
            {
                "stratum": str(stratum),
                "questions": int(rows.sum()),
                "instruct_accuracy": float(records.accuracy[rows, 0].mean()),
                "lam": float(lams[rows].mean()),
            }
        )
    return sorted(found, key=lambda row: -row["instruct_accuracy"])


def _table(found: Reliability) -> dict[str, Any]:
    return {"error": _number(found.error), "bins": [list(each) for each in found.bins]}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
