"""The comparison of policies as a table and in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mull.analysis.paired import PairedDifference, holm
from mull.dynamic.evaluation import comparison
from mull.dynamic.evaluation.comparison import break_even
from mull.dynamic.evaluation.policies import PolicyKind
from mull.dynamic.evaluation.result import Result
from mull.reports.format import signed
from mull.reports.table import Cell, Column, Row, Table

SECTIONS: dict[PolicyKind, str] = {
    "static": "static λ",
    "estimator": "λ per query",
    "random": "the same λ by lot",
    "oracle": "upper bound",
    "budget": "thinking budgets",
    "brief": "other controls",
    "early exit": "other controls",
}


def routes_table(found: comparison.Table) -> Table:
    """One row per policy: accuracy, tokens, and how far it lies above the static frontier."""
    shown = Table(
        name=f"routes-{found.benchmark}",
        title=f"λ per query on {found.benchmark}" if found.benchmark != "average" else "λ per query, all benchmarks",
        caption=(
            f"{found.questions:,} questions; ± one standard error, clustered by question. Above static: accuracy less "
            "that of static λ, mixtures of two included, at the same tokens, with the 95 % interval, paired by "
            "question. Tokens to choose λ are charged"
            + (f". {found.source[:1].upper()}{found.source[1:]}" if found.source else "")
        ),
        head="policy",
        columns=[
            Column(key="accuracy", head="right", unit="%", scale=100, by_error=True),
            Column(key="tokens", head="Token #N", by_error=True),
            Column(key="gain", head="above static, points", scale=100, signed=True),
            Column(key="over_budgets", head="above budgets, points", scale=100, signed=True),
            Column(key="over_thinking", head="over Thinking, points", scale=100, signed=True),
            Column(key="lam", head="mean λ", decimals=2),
            Column(key="prefilled", head="tokens read to choose", decimals=0),
            Column(key="seconds", head="seconds", decimals=3),
            Column(key="speed_up", head="speed-up at its accuracy", decimals=2),
        ],
        rows=[
            Row(
                row.label,
                [
                    Cell(row.accuracy, row.accuracy_error),
                    Cell(row.tokens, row.tokens_error),
                    _gain(row),
                    Cell() if row.gain_over_budgets is None else Cell.difference(row.gain_over_budgets),
                    Cell() if row.label == "1" else Cell.difference(row.over_thinking),
                    *map(_cell, (row.lam, row.prefilled, row.seconds, row.speed_up)),
                ],
                SECTIONS[row.kind],
                star=row.kind == "estimator" and row.gain.low > 0,
            )
            for row in found.rows
        ],
    )
    empty = {key for key in _MAY_LACK if all(_lacks(row, key) for row in found.rows)}
    return shown.select(*(column.key for column in shown.columns if column.key not in empty))


_MAY_LACK = {"over_budgets": "gain_over_budgets", "lam": "lam", "seconds": "seconds", "speed_up": "speed_up"}
"""Columns that are left out where no policy has a value, and where their values come from."""


def _lacks(row: comparison.Row, column: str) -> bool:
    return getattr(row, _MAY_LACK[column]) is None


def conclusions(result: Result) -> list[str]:
    """Which estimators surely gain, what that costs, and whether λ per query is worth it: sentences."""
    found = result.tables[0]
    means = result.means[found.benchmark]
    static = [means[row.label] for row in found.rows if row.kind == "static"]
    own = [row for row in found.rows if row.kind == "estimator"]
    lines = [f"{found.source[:1].upper()}{found.source[1:]}."] if found.source else []
    if not any(row.accuracy for row in found.rows):
        return [*lines, "No policy gave a right answer: this says nothing about λ per query."]
    adjusted = holm([row.gain.p_value for row in own])
    for row, p_value in zip(own, adjusted, strict=True):
        line = f"{row.label}: {_points(row.gain)} above static λ at the same {row.tokens:,.1f} tokens: "
        line += f"{_verdict(row.gain, p_value)}."
        weight = break_even(means[row.label], static)
        if weight is not None and math.isfinite(weight):
            line += f" That holds while a prompt token read to choose λ costs less than {weight:.2f} generated ones."
        chance = next((r for r in found.rows if r.kind == "random" and r.label == f"random as {row.label}"), None)
        if chance is not None:
            within = " within each benchmark" if len(result.tables) > 1 else ""
            line += f" The same λ by lot{within}: {_points(chance.gain)}."
        lines.append(line)
    better = [row for row in own if row.over_thinking.low > 0 and row.tokens_over_thinking.high < 0]
    if better:
        names = ", ".join(row.label for row in better)
        lines.append(f"More accurate than the Thinking end with fewer tokens, both surely: {names}.")
    winners = [row for row, p in zip(own, adjusted, strict=True) if row.gain.difference > 0 and p < 0.05]
    lines.append(guideline(winners, own))
    return lines


def guideline(winners: Sequence[comparison.Row], own: Sequence[comparison.Row]) -> str:
    """Whether λ per query is worth it."""
    if not own:
        return "No estimator was compared."
    if winners:
        best = max(winners, key=lambda row: row.gain.difference)
        return (
            f"λ per query is worth it here: {best.label} surely beats every static λ at its tokens. It pays where "
            "questions differ in how much thought they need, and choosing costs little beside a response."
        )
    return (
        "λ per query is not worth it here: no estimator surely beats a static λ at the same tokens. A static λ is "
        "simpler, and its prompts can be cached."
    )


def _gain(row: comparison.Row) -> Cell:
    """How far above the static frontier; the static λ of which it consists are on it."""
    on_it = row.kind == "static" and row.gain.alike and not row.gain.difference
    return Cell(row.gain.difference, note="on it") if on_it else Cell.difference(row.gain)


def _cell(value: float | None) -> Cell:
    return Cell(math.nan if value is None else value)


def _points(found: PairedDifference) -> str:
    if math.isnan(found.low):
        return f"{signed(100 * found.difference, 1)} points"
    low, high = (signed(100 * each, 1) for each in (found.low, found.high))
    return f"{signed(100 * found.difference, 1)} points [{low}, {high}]"


def _verdict(found: PairedDifference, p_value: float) -> str:
    if math.isnan(p_value) or p_value >= 0.05:
        return "no sure difference"
    return "a sure gain" if found.difference > 0 else "surely worse"


def strata_of(result: Result) -> dict[str, dict[str, list[float]]]:
    """Estimator → difficulty → λ(q) of its questions, the easiest first: where Instruct is right most often."""
    easiness: dict[str, list[bool]] = {}
    stratum_of: dict[tuple[str, str], str] = {}
    for benchmark, samples in result.samples.items():
        for sample in samples:
            name = _stratum(result, benchmark, sample.stratum)
            stratum_of[benchmark, sample.question] = name
            if sample.lam == 0:
                easiness.setdefault(name, []).append(sample.correct)
    order = sorted(easiness, key=lambda name: -sum(easiness[name]) / len(easiness[name]))
    found: dict[str, dict[str, list[float]]] = {}
    estimators = [row.label for row in result.tables[0].rows if row.kind == "estimator"]
    for label in estimators:
        lams: dict[str, list[float]] = {name: [] for name in order}
        for benchmark, routes in result.routes.items():
            for question, route in routes.get(label, {}).items():
                name = stratum_of.get((benchmark, question))
                if name in lams:
                    lams[name].append(route.lam)
        found[label] = {name: values for name, values in lams.items() if values}
    return found


def _stratum(result: Result, benchmark: str, stratum: str) -> str:
    """The name of a difficulty, with its benchmark where there are several."""
    if len(result.samples) == 1:
        return stratum
    return f"{benchmark} {stratum}".strip() if stratum and stratum not in benchmark else benchmark
