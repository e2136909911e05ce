"""A choice in sentences and as a table, with what more samples would gain."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mull.analysis.choosing.choose import Choice
from mull.analysis.choosing.options import Option
from mull.analysis.choosing.race import Outcome
from mull.analysis.choosing.worth import Open
from mull.analysis.metrics import interval
from mull.reports.format import NONE, count, percent
from mull.reports.table import Cell, Column, Row, Table, points, tokens
from mull.words import listed

HOPELESS_FACTOR = 100
"""If more than this many times the questions were needed, the number is not shown."""


def headline(choice: Choice, outcome: Outcome | None = None) -> list[str]:
    """The choice in a few sentences."""
    said = _headline(choice, outcome)
    if choice.shares:
        weights = listed([f"{name} ({100 * share:.3g} %)" for name, share in choice.shares.items()])
        said.append(f"  accuracy and tokens are means over {weights}")
    return said


def _headline(choice: Choice, outcome: Outcome | None) -> list[str]:
    goal, pick = choice.goal, choice.pick
    if pick is None and choice.nothing_right:
        return [
            "No response is right at any λ: none can be called the most accurate.",
            "  see some responses in `mull report`: the grader may not find the answers, or the questions are too hard",
        ]
    if pick is None:
        near = choice.nearest
        assert near is not None
        said = f"No λ that was measured gives {goal.words()}. Nearest is {name(near)}: {figures(near)}"
        chance = "" if math.isnan(near.chance) else f"; the chance that it does is {probability(near.chance)}"
        return [f"{said}{chance}."]
    aim = "the most accurate with" if goal.min_accuracy is None else "the fewest tokens with"
    lines = [f"{name(pick)}: {aim} {goal.words()}", f"  {figures(pick)}; 95 % intervals {intervals(pick)}"]
    if not math.isnan(pick.chance):
        lines.append(f"  it meets that with a probability of {probability(pick.chance)}")
    margin = "1 point" if goal.min_accuracy is None else "1 % of its tokens"
    share = probability(choice.confidence)
    lines.append(
        f"  in {share} of resamples of the questions it does, and no other λ that does is ahead by more than {margin}"
    )
    if outcome is not None:
        lines += [
            f"  on {each.questions} questions that took no part: {name(each)}: {figures(each)}"
            + ("" if each.feasible else ", which misses that")
            for each in outcome.fresh
        ]
    elif choice.fresh is not None:
        accuracy, mean = choice.fresh
        lines.append(
            f"  on questions not used to choose (each fifth by the choice of the others): {percent(accuracy)} % right, "
            f"{count(mean)} tokens"
        )
    along = {option.setting for option in choice.options if option.lam is not None}
    runs = [run for run in choice.feasible_runs if run[0] in along]
    if len(runs) > 1:
        shown = "; ".join(run[0] if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)
        lines.append(f"  the λ that meet it do not hang together: {shown}")
    return lines


def options_table(choice: Choice, outcome: Outcome | None = None) -> Table:
    """A row per setting: metrics, the probability that it meets the constraint, the difference from the choice."""

    rivals = {rival.setting: rival for rival in choice.rivals}
    quantile, best = choice.goal.quantile, choice.pick or choice.nearest
    caption = "± one standard error, clustered by question"
    if rivals:
        caption += "; 95 % intervals that hold for all rivals together"
    if outcome and outcome.dropped:
        caption += "; dropped on the way (share of resamples that would have chosen it)"
    columns = [
        Column(key="mean", head="Mean", unit="%", scale=100, by_error=True),
        Column(key="tokens", head="Token #N", by_error=True),
        *([Column(key="quantile", head=f"p{100 * quantile:g}", by_error=True)] if quantile else []),
        Column(key="meets", head="meets it", decimals=None),
        Column(key="verdict", head="choice − this λ", decimals=None),
        Column(key="responses", head="responses", decimals=0),
    ]
    rows = []
    for option in outcome.measured if outcome else choice.options:
        chosen = best is not None and option.setting == best.setting
        cells = [Cell.of(option.accuracy), Cell.of(option.tokens), *([Cell.of(option.cost)] if quantile else [])]
        meets = NONE if math.isnan(option.chance) else probability(option.chance)
        verdict = "" if chosen else _verdict(option, rivals, outcome)
        rows.append(Row(option.setting, [*cells, meets, verdict, Cell(option.samples)], star=chosen))
    return Table(
        name="options",
        title="What was chosen from",
        caption=caption,
        head="λ",
        key="setting",
        columns=columns,
        rows=rows,
    )


def worth_lines(choice: Choice, open_questions: Sequence[Open]) -> list[str]:
    """Sentences on what more samples would gain."""
    share = choice.goal.min_accuracy is None
    lines = []
    for each in open_questions:
        constraint_share = choice.goal.budget is None or choice.goal.quantile is not None
        in_points = constraint_share if each.kind == "constraint" else share
        unit, factor, form = ("points", 100, ".1f") if in_points else ("tokens", 1, ",.1f")
        gap, error, k2, q2 = (
            f"{factor * value:{form}}" for value in (abs(each.gap), each.error, each.more_samples, each.more_questions)
        )
        what = "the goal is met or missed by" if each.kind == "constraint" else f"the lead over λ = {each.rival} is"
        times = (
            "no affordable number of questions tells"
            if each.factor > HOPELESS_FACTOR
            else f"about {math.ceil(each.factor * 10) / 10:g} times the questions would tell"
        )
        lines.append(
            f"open: {what} {gap} ± {error} {unit}; ± {k2} with twice the samples per question, ± {q2} with twice the "
            f"questions; {times}"
        )
    if choice.pick is not None:
        most = f"{100 * choice.loss:.2f} points" if share else f"{choice.loss:,.1f} tokens per response"
        lines.append(f"more samples of these λ could gain {most} on average, by finding a better one among them")
    return lines


def name(option: Option) -> str:
    return option.setting if option.lam is None else f"λ = {option.setting}"


def figures(option: Option) -> str:
    """For example "88.2 ± 2.1 % right, 49.7 ± 1.6 tokens per response"."""
    said = f"{percent(option.accuracy)} % right, {count(option.tokens)} tokens per response"
    return said if option.cost == option.tokens else f"{said} ({count(option.cost)} at the quantile)"


def intervals(option: Option) -> str:
    """The 95 % intervals of accuracy and tokens; of several benchmarks by the fewest questions that one of them has."""
    if option.fewest < 2:
        return "unknown"
    low, high = interval(option.accuracy, option.fewest, share=True)
    few, many = interval(option.tokens, option.fewest, share=False)
    return f"{100 * low:.1f}–{100 * high:.1f} % and {few:,.1f}–{many:,.1f} tokens"


def probability(share: float) -> str:
    """A probability in percent; never 0 or 100, because samples cannot show that."""
    return "> 99 %" if share > 0.99 else "< 1 %" if share < 0.01 else f"{100 * share:.0f} %"


def _verdict(option: Option, rivals: Mapping[str, Any], outcome: Outcome | None) -> str:
    if outcome is not None and option.setting in outcome.dropped:
        return f"dropped: {outcome.dropped[option.setting]}"
    if option.setting not in rivals:
        return "misses it"
    rival = rivals[option.setting]
    return f"{rival.verdict}: {points(rival.accuracy)} points, {tokens(rival.tokens)} tokens"
