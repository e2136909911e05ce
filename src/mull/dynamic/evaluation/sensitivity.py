"""How much the constants of `conf` matter: the same estimator with other constants, on the same questions.

No response is sampled: each question's accuracy and tokens at another λ come from the static λ on record (see `grid`),
and the signals from the forced answers of both ends, which are measured once. So all rows, that of the constants as
they are included, compare with each other, not with what was sampled at λ(q).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mull.dynamic.base import Signals
from mull.dynamic.estimators.conf import FORMS, Confidence, Form
from mull.dynamic.evaluation import signals
from mull.dynamic.evaluation.comparison import Means, Table, pooled, table
from mull.dynamic.evaluation.grid import Grid
from mull.dynamic.evaluation.policies import Policy, PolicyKind
from mull.dynamic.evaluation.session import Evaluation
from mull.errors import MullError
from mull.runs.run import planned
from mull.runs.settings import Route
from mull.runs.store import RunStore

FACTORS = (0.5, 0.8, 1.25, 2.0)
QUANTILES = ((0.0, 1.0), (0.1, 0.9), (0.25, 0.75), (0.4, 0.6))
LOWS = (0.2, 0.4)
"""In place of a least λ of 0, which no factor changes."""
ALPHAS = (0.5, 1.0)
"""In place of α = 0: shares of γ."""
NAMES = {"lam0": "λ₀", "alpha": "α", "gamma": "γ", "offset": "b", "low": "least λ", "high": "largest λ"}
AS_IT_IS = "as it is"
FITTED = "fitted anew, without labels"
ZERO_SHOT = "zero-shot"
ZERO_SHOTS = (
    Confidence(),
    Confidence(form="entropy", lam0=0.0, gamma=0.5),
    Confidence(form="ratio"),
)
"""One of each form, with constants that saw no query."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """The static λ of one benchmark on record, and both ends' forced answers to its questions."""

    benchmark: str
    grid: Grid
    signals: Mapping[str, Signals]


def on_record(evaluation: Evaluation, folder: Path) -> list[Measured]:
    """What the runs of a finished evaluation hold for the study."""
    found = []
    for benchmark in evaluation.benchmarks:
        with RunStore.open(folder / benchmark.name) as store:
            samples = planned(evaluation.plan(benchmark), store.samples(texts=False))
            found.append(Measured(benchmark=benchmark.name, grid=Grid.of(samples), signals=signals.kept(store)))
    return found


def study(
    measured: Sequence[Measured], estimators: Sequence[Confidence], *, prefill_weight: float = 0.0
) -> Table | None:
    """The variants of `estimators` on all benchmarks together, which weigh the same; labels are "group: variant".

    None without estimators or signals.
    """
    measured = [replace(each, grid=each.grid.kept(_known(each))) for each in measured]
    if not estimators or any(len(each.grid.questions) < 2 for each in measured):
        return None
    found: list[dict[str, Means]] = []
    lams: dict[str, list[float]] = {}
    for each in measured:
        own = each.grid.static()
        for label, chosen in _chosen(each, estimators):
            own[label] = each.grid.routed(chosen)
            lams.setdefault(label, []).append(sum(route.lam for route in chosen.values()) / len(chosen))
        found.append(own)
    means = pooled(found)
    kinds: dict[str, PolicyKind] = {label: "estimator" if label in lams else "static" for label in means}
    mean_lams = {label: sum(own) / len(own) for label, own in lams.items()}
    name = measured[0].benchmark if len(measured) == 1 else "average"
    whole = table(name, means, kinds, lams=mean_lams, prefill_weight=prefill_weight)
    return replace(whole, rows=[row for row in whole.rows if row.kind == "estimator"])


def confidences(policies: Sequence[Policy]) -> list[Confidence]:
    """Those among the estimators of `policies`."""
    return [policy.estimator for policy in policies if isinstance(policy.estimator, Confidence)]


def variants(estimator: Confidence) -> Iterator[tuple[str, Confidence]]:
    """The estimator as it is and with one constant changed; changes without effect are left out."""
    yield AS_IT_IS, estimator
    tried = {estimator}
    for constant, value, how in _changes(estimator):
        low, high = (min(1.0, value) if constant == end else getattr(estimator, end) for end in ("low", "high"))
        if low > high:
            continue
        changed = replace(estimator, **{constant: value, "low": low, "high": high})
        if changed not in tried:
            tried.add(changed)
            yield f"{NAMES[constant]} {how} = {getattr(changed, constant):.3g}".replace("  ", " "), changed


def _changes(estimator: Confidence) -> Iterator[tuple[str, float, str]]:
    """Constant, its other value, and how that came."""
    constants = ("offset",) if estimator.form == "ratio" else ("lam0", "alpha", "gamma")
    for constant in (*constants, "low", "high"):
        value = getattr(estimator, constant)
        if value:
            yield from ((constant, factor * value, f"× {factor:g}") for factor in FACTORS)
        elif constant == "low":
            yield from ((constant, low, "") for low in LOWS)
        elif constant == "alpha":
            yield from ((constant, share * estimator.gamma, "") for share in ALPHAS)


def _chosen(measured: Measured, estimators: Sequence[Confidence]) -> Iterator[tuple[str, dict[str, Route]]]:
    """Every variant's label and the λ that it chooses for each question."""
    queries = [measured.signals[question] for question in measured.grid.questions]
    for estimator in estimators:
        for label, variant in variants(estimator):
            yield f"{estimator.name}: {label}", _routes(variant, queries)
    high = estimators[0].high
    for form in FORMS:
        for quantiles in QUANTILES if form != "ratio" else QUANTILES[:1]:
            said = "" if form == "ratio" else f", quantiles {quantiles[0]:g} and {quantiles[1]:g}"
            try:
                yield f"{FITTED}: {form}{said}", _cross_fitted(form, queries, high, quantiles)
            except MullError:  # too few questions, or all of the same signal
                continue
    for estimator in ZERO_SHOTS:
        yield f"{ZERO_SHOT}: {estimator.form}", _routes(estimator, queries)


def _cross_fitted(
    form: Form, queries: Sequence[Signals], high: float, quantiles: tuple[float, float]
) -> dict[str, Route]:
    """Each half of the questions by constants that were fitted to the other half."""
    start = Confidence(form=form, lam0=0.0, alpha=0.0, gamma=1.0)
    chosen: dict[str, Route] = {}
    for half in (0, 1):
        own = start.fitted(queries[1 - half :: 2], high=high, quantiles=quantiles)
        chosen |= _routes(own, queries[half::2])
    return chosen


def _routes(estimator: Confidence, queries: Sequence[Signals]) -> dict[str, Route]:
    choices = {each.query: estimator.choose(each) for each in queries}
    return {query: Route(choice.lam, choice.why, *choice.cost) for query, choice in choices.items()}


def _known(measured: Measured) -> list[str]:
    return [question for question in measured.grid.questions if question in measured.signals]
