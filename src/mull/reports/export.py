"""A run's tables as data: CSV and Parquet for programs, LaTeX (booktabs) for papers.

In CSV and Parquet accuracies and shares are fractions 0–1, tokens tokens, seconds seconds; `*_error` is one standard
error clustered by question, undefined values are empty. LaTeX shows shares in percent.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import polars

from mull.analysis.metrics import Estimate, SettingMetrics, by_stratum, metrics
from mull.analysis.paired import PairedDifference, contrasts, paired_difference
from mull.analysis.records import Sample
from mull.analysis.scores import names_of_scores, scores_by_setting
from mull.analysis.stages import Stages, stages_of_samples
from mull.errors import MullError
from mull.reports.frames import metrics_frame, number

Format = Literal["csv", "parquet", "latex"]
SUFFIXES: dict[Format, str] = {"csv": ".csv", "parquet": ".parquet", "latex": ".tex"}
_NONE = Estimate(math.nan, math.nan)
_HEADS = {
    "mean_at_k": "Mean@$k$", "pass_at_k": "Pass@$k$", "vote_at_k": "Vote@$k$", "think_ratio": r"Think \#R",
    "truncation": "cut off", "unanswered": "no answer", "tokens": r"Token \#N", "tokens_p95": "Token p95",
}  # fmt: skip


def tables(samples: Sequence[Sample], reference: str | None = None) -> dict[str, polars.DataFrame]:
    """Every table of a run by name: `metrics`, `scores` where graders say more than right or wrong,
    `strata` where there are several, `cost`, `contrasts`, and along λ `neighbours` and `stages` where a rise is found.

    Contrasts are against `reference`: the highest λ unless given, or the first setting where none has a λ.
    Raises `MullError` for an unknown reference.
    """
    found = metrics(samples)
    benchmark = samples[0].benchmark
    result = {"metrics": metrics_frame(benchmark, {"": found})}
    scores = scores_by_setting(samples)
    if scores:
        names = names_of_scores(scores)
        result["scores"] = polars.DataFrame([_scores(setting, own, names) for setting, own in scores.items()])
    strata = by_stratum(samples)
    if len(strata) > 1:
        result["strata"] = metrics_frame(benchmark, strata)
    result["cost"] = polars.DataFrame([_cost(m, samples) for m in found])
    if len(found) > 1:
        with_lam = [m for m in found if m.lam is not None]
        chosen = reference or (with_lam[-1] if with_lam else found[0]).setting
        rows = [
            {"setting": each.setting, "less": chosen, "p_holm": number(each.p_value)}
            | _difference("accuracy", each.accuracy)
            | _difference("tokens", each.tokens)
            for each in contrasts(samples, chosen)
        ]
        result["contrasts"] = polars.DataFrame(rows)
        if len(with_lam) > 1:
            pairs = [(above.setting, below.setting) for below, above in pairwise(with_lam)]
            result["neighbours"] = polars.DataFrame([_neighbours(samples, *pair) for pair in pairs])
            rows = _stages(stages_of_samples(samples))
            if rows:
                result["stages"] = polars.DataFrame(rows)
    return result


def encode(table: polars.DataFrame, form: Format, name: str) -> bytes:
    """The table as a file's bytes."""
    if form == "latex":
        return latex(table, name).encode()
    buffer = io.BytesIO()
    if form == "csv":
        table.write_csv(buffer)
    elif form == "parquet":
        table.write_parquet(buffer)
    else:
        raise MullError(f"unknown format {form!r}", "it is one of " + ", ".join(SUFFIXES))
    return buffer.getvalue()


def latex(table: polars.DataFrame, name: str) -> str:
    """A booktabs table with values ± their errors, for `\\input`."""
    columns = [column for column in table.columns if not column.endswith(("_error", "_low", "_high"))]
    columns = [column for column in columns if column != "benchmark" and not column.startswith("thinking_")]
    columns = [column for column in columns if column != "stratum" or any(table[column])]
    heads = [_HEADS.get(column, escaped(column.replace("_", " "))) for column in columns]
    align = "".join("l" if table[column].dtype == polars.String else "r" for column in columns)
    lines = [f"% {name}: ± one standard error clustered by question; differences with 95 % intervals"]
    lines += [f"\\begin{{tabular}}{{{align}}}", "\\toprule", " & ".join(heads) + " \\\\", "\\midrule"]
    for row in table.iter_rows(named=True):
        lines.append(" & ".join(_cell(row, column) for column in columns) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def _scores(setting: str, scores: dict[str, Estimate], names: Sequence[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"setting": setting}
    for name in names:
        found, column = scores.get(name, _NONE), name.replace(",", "").replace(" ", "_")
        row[column], row[f"{column}_error"] = number(found.value), number(found.error)
    return row


def _cost(m: SettingMetrics, samples: Sequence[Sample]) -> dict[str, Any]:
    own = [sample for sample in samples if sample.setting == m.setting]
    right = sum(sample.correct for sample in own)
    tokens = sum(sample.tokens for sample in own)
    return {
        "setting": m.setting,
        "responses": len(own),
        "tokens": tokens,
        "tokens_per_response": tokens / len(own),
        "tokens_per_correct": tokens / right if right else None,
        "seconds_per_response": sum(sample.seconds for sample in own) / len(own),
    }


def _difference(name: str, difference: PairedDifference) -> dict[str, float | None]:
    return {
        name: number(difference.difference),
        f"{name}_low": number(difference.low),
        f"{name}_high": number(difference.high),
    }


def _neighbours(samples: Sequence[Sample], above: str, below: str) -> dict[str, Any]:
    accuracy = paired_difference(samples, above, below)
    tokens = paired_difference(samples, above, below, "tokens")
    return (
        {"setting": above, "less": below, "questions": accuracy.questions}
        | _difference("accuracy", accuracy)
        | _difference("tokens", tokens)
    )


def _stages(stages: Stages) -> list[dict[str, Any]]:
    """Positions on λ by the grid rule and by the fit, with their 95 % intervals."""
    rows: list[dict[str, Any]] = []

    def add(boundary: str, value: float, interval: tuple[float, float] | None = None) -> None:
        low, high = interval or (None, None)
        rows.append({"boundary": boundary, "lambda": value, "lambda_low": low, "lambda_high": high})

    if stages.grid:
        add("grid rule: first", stages.grid[0])
        add("grid rule: last", stages.grid[1])
    fit = stages.fit
    if fit and fit.identified:
        add("midpoint", fit.midpoint, stages.intervals.get("midpoint"))
        for share in (5, 95, 99):
            name = f"crossing_{share}"
            add(f"{share} % of the rise", getattr(fit, name), stages.intervals.get(name))
    return rows


def _cell(row: dict[str, Any], column: str) -> str:
    value = row[column]
    if value is None:
        return "--"
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, int):
        return str(value)
    if column.startswith(("lambda", "p_")):
        low, high = row.get(f"{column}_low"), row.get(f"{column}_high")
        return f"{value:.3g}" if low is None or high is None else f"${value:.3f}$ $[{low:.3f}, {high:.3f}]$"
    scale = 1 if column.startswith(("tokens", "seconds")) else 100
    error, low, high = (row.get(f"{column}{part}") for part in ("_error", "_low", "_high"))
    text = f"{scale * value:.1f}"
    if error is not None:
        return f"${text} \\pm {scale * error:.1f}$"
    if low is not None and high is not None:
        return f"${scale * value:+.1f}$ $[{scale * low:.1f}, {scale * high:.1f}]$"
    return text


def escaped(text: str) -> str:
    """LaTeX that shows `text` as it is: the signs that mull's own words use under any engine and encoding, other
    letters beyond ASCII as they stand, which needs an engine and a font that have them."""
    return "".join(_SPECIAL.get(letter, f"\\{letter}" if letter in "&%$#_{}" else letter) for letter in text)


_SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "λ": r"$\lambda$", "−": "$-$", "±": r"$\pm$", "×": r"$\times$",
    "→": r"$\rightarrow$", "≤": r"$\leq$", "≥": r"$\geq$", "–": "--", "·": r"$\cdot$", "’": "'",
    "†": r"$\dagger$", "‡": r"$\ddagger$", "\u00a0": "~",
}  # fmt: skip
