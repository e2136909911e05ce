"""A run's metrics as one data frame, the same in every file that holds them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars

from mull.analysis.metrics import KINDS, Estimate, SettingMetrics

METRICS = ("mean_at_k", "pass_at_k", "vote_at_k", "tokens", "tokens_p95", "think_ratio", "truncation", "unanswered")


def metrics_frame(benchmark: str, groups: Mapping[str, Sequence[SettingMetrics]]) -> polars.DataFrame:
    """One row per setting: shares are fractions 0–1, tokens are tokens, `*_error` is one standard error clustered by
    question; what is undefined is null. `mull stages` reads it as CSV.

    `groups` maps a stratum's name (empty: all questions) to its settings.
    """
    return polars.DataFrame([_row(benchmark, name, m) for name, found in groups.items() for m in found])


def _row(benchmark: str, stratum: str, m: SettingMetrics) -> dict[str, Any]:
    row: dict[str, Any] = {
        "benchmark": benchmark,
        "stratum": stratum,
        "setting": m.setting,
        "lambda": None if m.lam is None else float(m.lam),
        "questions": m.questions,
        "samples": m.samples,
        "k": m.k,
    }
    estimates: dict[str, Estimate] = {name: getattr(m, name) for name in METRICS}
    estimates |= {f"thinking_{kind.replace('-', '_')}": m.thinking[kind] for kind in KINDS}
    for name, estimate in estimates.items():
        row[name], row[f"{name}_error"] = number(estimate.value), number(estimate.error)
    return row


def number(value: float) -> float | None:
    """A value as a frame holds it: null for NaN."""
    return None if math.isnan(value) else float(value)
