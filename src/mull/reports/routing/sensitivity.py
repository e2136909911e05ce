"""How much the constants of `conf` matter, as a table and in words."""

from __future__ import annotations

from mull.dynamic.evaluation import comparison
from mull.dynamic.evaluation.sensitivity import AS_IT_IS, FITTED, ZERO_SHOT
from mull.reports.format import signed
from mull.reports.table import Cell, Column, Row, Table
from mull.words import counted

TITLE = "How much the constants of conf matter"


def sensitivity_table(found: comparison.Table) -> Table:
    """One row per variant of the constants, under the estimator that it is a variant of."""
    named = [(row, *row.label.split(": ", 1)) for row in found.rows]
    return Table(
        name="sensitivity",
        title=TITLE,
        caption=(
            f"{found.questions:,} questions; ± one standard error, clustered by question. One constant is changed at a "
            "time. No response was sampled for this table: accuracy and tokens at λ(q) are interpolated between the "
            "static λ, in the first row of an estimator, too. Above static: as in the table of policies, the probe "
            "charged. Fitted anew: each half of these questions by constants that were fitted, without answers, to the "
            "other half"
        ),
        head="constants",
        columns=[
            Column(key="accuracy", head="right", unit="%", scale=100, by_error=True),
            Column(key="tokens", head="Token #N", by_error=True),
            Column(key="gain", head="above static, points", scale=100, signed=True),
            Column(key="lam", head="mean λ", decimals=2),
            Column(key="prefilled", head="tokens read to choose", decimals=0),
        ],
        rows=[
            Row(
                variant,
                [
                    Cell(row.accuracy, row.accuracy_error),
                    Cell(row.tokens, row.tokens_error),
                    Cell.difference(row.gain),
                    Cell() if row.lam is None else Cell(row.lam),
                    Cell(row.prefilled),
                ],
                group,
                star=row.gain.low > 0,
            )
            for row, group, variant in named
        ],
    )


def sensitivity_words(found: comparison.Table) -> list[str]:
    """How far the gains of the variants lie apart: sentences."""
    lines = []
    for group in dict.fromkeys(row.label.split(": ", 1)[0] for row in found.rows):
        own = [row for row in found.rows if row.label.startswith(f"{group}: ")]
        others = [row for row in own if row.label != f"{group}: {AS_IT_IS}"]
        low, high = (signed(100 * each(row.gain.difference for row in others), 1) for each in (min, max))
        surely = sum(row.gain.low > 0 for row in others)
        worse = sum(row.gain.high < 0 for row in others)
        what = counted(len(others), "variant")
        if group not in (FITTED, ZERO_SHOT):
            base = own[0].gain
            what = f"{signed(100 * base.difference, 1)} points above static λ as it is; {what} with another constant"
        lines.append(
            f"{group}: {what}, from {low} to {high} points; {surely} surely above static λ, {worse} surely below "
            "(each by its own interval)."
        )
    return lines
