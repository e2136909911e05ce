"""One paragraph on a sweep over λ, worded by its figures: where thinking begins, what it costs, what it gains.

Every sentence depends on the measured values and their errors: a tie is called a tie, a missing transition missing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Literal

from mull.analysis.metrics import SettingMetrics
from mull.analysis.paired import PairedDifference, holm, paired_difference, student
from mull.analysis.records import Sample
from mull.analysis.stages import Stages

SMALL_GAIN = 0.02
"""More tokens are over-thinking where the 95 % interval excludes a gain of accuracy as large as this."""
MOST_CUT_OFF = 0.02
"""With a larger share of responses cut off at the token limit, accuracy and tokens of a λ are not the model's own."""


def plain_words(metrics: Sequence[SettingMetrics], stages: Stages, samples: Sequence[Sample] | None = None) -> str:
    """Sum up one benchmark's sweep in a paragraph of plain sentences.

    Only settings with a λ count. Differences are paired by question where `samples` are given, else taken as
    independent. The intervals are those of one pair, as in every table; a verdict on a pair that was picked among
    several (the best, the largest fall) allows for the choice, and says so.
    """
    sweep = sorted((m for m in metrics if m.lam is not None), key=lambda m: m.lam or 0.0)
    if not sweep:
        return "No setting with a λ was measured."
    sentences = [_cut_off(sweep), _where(stages), _ends(sweep)]
    if len(sweep) > 1:
        sentences += [_best(sweep, samples), _stage_3(sweep, stages, samples), _token_course(sweep, samples)]
    return re.sub(r"(?<!\w)-(?=\d)", "−", " ".join(filter(None, sentences)))


def cut_off(m: SettingMetrics) -> bool:
    """Whether too many responses hit the token limit for accuracy and tokens to be those of the model."""
    return m.truncation.value > MOST_CUT_OFF


def _cut_off(sweep: Sequence[SettingMetrics]) -> str:
    cut = [m for m in sweep if cut_off(m)]
    if not cut:
        return ""
    shares = ", ".join(f"{100 * m.truncation.value:.3g} % at {_label(m)}" for m in cut)
    return (
        f"Responses were cut off at the token limit: {shares}; accuracy and tokens there are those of the limit, so "
        "judge them again with a larger --max-tokens."
    )


def _where(stages: Stages) -> str:
    if not stages.found:
        return f"No transition from direct answers to thinking was found: {stages.reason}."
    fit = stages.fit
    if fit is not None and fit.identified:
        interval = stages.intervals.get("midpoint")
        sure = f" (95 % interval {interval[0]:.3f}–{interval[1]:.3f})" if interval else ""
        return (
            f"Thinking emerges round λ = {fit.midpoint:.3f}{sure}: Think #R crosses 5 % of its rise at "
            f"{fit.crossing_5:.3f} and 95 % at {fit.crossing_95:.3f}."
        )
    if fit is not None:
        a, b = fit.bracket
        return f"Thinking emerges between λ = {a:g} and {b:g}; the grid is too coarse to tell where in between."
    assert stages.grid is not None
    return f"Thinking emerges between λ = {stages.grid[0]:g} and {stages.grid[1]:g} by the grid rule; {stages.reason}."


def _ends(sweep: Sequence[SettingMetrics]) -> str:
    said = [
        f"{_at(m)} accuracy is {_share(m, explained=True)} with {m.tokens.value:,.0f} tokens per response"
        for m in ((sweep[0], sweep[-1]) if len(sweep) > 1 else (sweep[0],))
    ]
    return _capital("; ".join(said)) + "."


def _best(sweep: Sequence[SettingMetrics], samples: Sequence[Sample] | None) -> str:
    last = sweep[-1]
    if not any(m.mean_at_k.value for m in sweep):
        return "No response is right at any λ, so none can be called the most accurate."
    # Among equals the one with the fewest tokens.
    best = max(sweep, key=lambda m: (m.mean_at_k.value, -m.tokens.value))
    if best is last:
        return f"No other λ is more accurate than {_label(last)}."
    to_last = {m.setting: _difference(m, last, "correct", samples) for m in sweep[:-1]}
    p_values = dict(zip(to_last, holm([each.p_value for each in to_last.values()]), strict=True))
    accuracy, tokens = to_last[best.setting], _difference(best, last, "tokens", samples)
    choice = f"The most accurate is {_label(best)} with {_share(best)}"
    if accuracy.difference <= 0:
        verdict = f"exactly as accurate as {_label(last)}"
    elif accuracy.tie:
        verdict = f"a tie with {_label(last)} ({_points(accuracy)})"
    elif p_values[best.setting] < 0.05:
        verdict = f"significantly more accurate than {_label(last)} ({_points(accuracy)})"
    else:
        verdict = (
            f"ahead of {_label(last)} ({_points(accuracy)}), but not significantly so once it is counted "
            f"that it is the best of {len(sweep)}"
        )
    return f"{choice}, {verdict}, {_token_change(tokens, last)}."


def _stage_3(sweep: Sequence[SettingMetrics], stages: Stages, samples: Sequence[Sample] | None) -> str:
    bounds = stages.grid or stages.boundaries
    if bounds is None:
        return ""
    beyond = [m for m in sweep if m.lam is not None and m.lam >= bounds[1] - 1e-9]
    saturated = [m for m in beyond if not cut_off(m)]
    if len(saturated) < 2 and len(saturated) < len(beyond):
        return "Over-thinking cannot be judged: too many responses beyond the transition were cut off."
    if len(saturated) < 2:
        return f"With {len(saturated)} λ beyond the transition, over-thinking cannot be judged."
    *earlier, last = saturated
    best = max(saturated, key=lambda m: (m.mean_at_k.value, -m.tokens.value))
    first = saturated[0] if best is last else best
    accuracy, tokens = _difference(last, first, "correct", samples), _difference(last, first, "tokens", samples)
    # Any of the earlier λ could have been the one to compare with, so a verdict answers for all of them.
    grown = tokens.corrected(len(earlier))
    allowed = f" The verdict allows for the choice among {len(earlier)} λ." if len(earlier) > 1 else ""
    span = f"from {_label(first)} to {_label(last)}"
    if grown.tie:
        return f"In stage 3 tokens do not clearly grow {span} ({_tokens(tokens)}): no over-thinking is seen.{allowed}"
    if tokens.difference < 0:
        return f"In stage 3 tokens fall {span} ({_tokens(tokens)}): no over-thinking.{allowed}"
    growth = f"In stage 3 tokens grow {span} ({_tokens(tokens)}, {100 * tokens.difference / first.tokens.value:+.0f} %)"
    return f"{growth} {_gain(accuracy, accuracy.corrected(len(earlier)), first, last)}.{allowed}"


def _gain(accuracy: PairedDifference, corrected: PairedDifference, first: SettingMetrics, last: SettingMetrics) -> str:
    """What the growing tokens from `first` to `last` buy, judged by the `corrected` difference."""
    ends = {first.mean_at_k.value, last.mean_at_k.value}
    if ends == {1.0}:
        return "while no error occurs at either, so there is no accuracy left to gain: over-thinking on these questions"
    if ends == {0.0}:
        return "while no response is right at either: over-thinking cannot be judged"
    if not corrected.tie and accuracy.difference > 0:
        return f"and still buy accuracy ({_points(accuracy)})"
    if not corrected.tie:
        return f"while accuracy falls ({_points(accuracy)}): over-thinking"
    if corrected.high < SMALL_GAIN:
        return f"while accuracy gains less than {100 * SMALL_GAIN:g} points ({_points(accuracy)}): over-thinking"
    return f"while no gain in accuracy is resolved ({_points(accuracy)}): whether this is over-thinking stays open"


def _token_course(sweep: Sequence[SettingMetrics], samples: Sequence[Sample] | None) -> str:
    falls = [
        (a.tokens.value - b.tokens.value, a, b)
        for i, a in enumerate(sweep)
        for b in sweep[i + 1 :]
        if a.tokens.value > b.tokens.value
    ]
    if not falls:
        return "Tokens never fall as λ grows."
    _, high, low = max(falls, key=lambda fall: fall[0])
    # The largest fall is picked from all pairs of λ.
    pairs = math.comb(len(sweep), 2)
    change = _difference(low, high, "tokens", samples)
    allowed = f"; the verdict allows for {pairs} pairs of λ" if pairs > 1 else ""
    if change.corrected(pairs).tie:
        return f"Tokens grow with λ within error (largest fall: {_tokens(change)}{allowed})."
    return (
        f"Tokens are not monotone in λ: they fall from {high.tokens.value:,.0f} at {_label(high)} "
        f"to {low.tokens.value:,.0f} at {_label(low)} ({_tokens(change)}{allowed})."
    )


def _difference(
    a: SettingMetrics, b: SettingMetrics, value: Literal["correct", "tokens"], samples: Sequence[Sample] | None
) -> PairedDifference:
    """`a` − `b`, paired by question where there are samples."""
    if samples is not None:
        return paired_difference(samples, a.setting, b.setting, value)
    x, y = (a.mean_at_k, b.mean_at_k) if value == "correct" else (a.tokens, b.tokens)
    error, questions = math.hypot(x.error, y.error), min(a.questions, b.questions)
    return student(x.value - y.value, error, questions, share=value == "correct")


def _token_change(change: PairedDifference, other: SettingMetrics) -> str:
    if change.tie:
        return f"for tokens that do not clearly differ ({_tokens(change)})"
    more = "more" if change.difference > 0 else "fewer"
    return f"for {100 * abs(change.difference) / other.tokens.value:.0f} % {more} tokens ({_tokens(change)})"


def _points(change: PairedDifference) -> str:
    return f"{100 * change.difference:+z.1f} points{_interval(100 * change.low, 100 * change.high, 'z.1f')}"


def _tokens(change: PairedDifference) -> str:
    return f"{change.difference:+z,.0f} tokens{_interval(change.low, change.high, 'z,.0f')}"


def _interval(low: float, high: float, form: str) -> str:
    return ", interval unknown" if math.isnan(low) else f", 95 % interval {low:{form}} to {high:{form}}"


def _share(m: SettingMetrics, *, explained: bool = False) -> str:
    if m.mean_at_k.value in (0.0, 1.0):
        # A standard error of 0.0 would read as certainty.
        what = "right answer" if m.mean_at_k.value == 0 else "error"
        return f"{100 * m.mean_at_k.value:g} % (no {what} in {m.samples:,} response{'s' if m.samples != 1 else ''})"
    error = "unknown" if math.isnan(m.mean_at_k.error) else f"{100 * m.mean_at_k.error:.1f}"
    return f"{100 * m.mean_at_k.value:.1f} ± {error} %" + (" (± one standard error)" if explained else "")


def _label(m: SettingMetrics) -> str:
    return f"λ = {m.lam:g}"


def _at(m: SettingMetrics) -> str:
    return f"at {_label(m)}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
