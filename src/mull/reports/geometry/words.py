"""What the pilot study found, in plain sentences."""

from __future__ import annotations

import math

from mull.analysis.choosing.headroom import Interval
from mull.geometry.study import Barrier, Study
from mull.reports.format import fixed
from mull.runs.sessions.pilot import Pilot
from mull.words import counted

STYLES = {"instruct": "Instruct’s responses", "thinking": "Thinking’s responses", "both": "both"}


def verdict(study: Study) -> str:
    """The answer in one sentence."""
    if study.gradual and study.connected:
        found = (
            "Interpolation is supported on this pair: representations change gradually along λ, without a loss barrier."
        )
    elif study.gradual:
        found = (
            "Interpolation is supported in part: representations change gradually along λ, but there is a loss barrier."
        )
    elif study.connected:
        found = (
            "Interpolation is supported in part: there is no loss barrier, but representations are not clearly more "
            "continuous than with shuffled weights."
        )
    else:
        found = (
            "Interpolation is not supported on this pair: there is a loss barrier, and representations are not clearly "
            "more continuous than with shuffled weights."
        )
    if study.control_breaks:
        return found
    return (
        f"{found} The control does not clearly break on these texts, so the study has little power: take longer ones."
    )


def sentences(pilot: Pilot) -> list[str]:
    """The measures behind the verdict."""
    study = pilot.study
    pair, control = study.pair, study.control
    line = "The ends have the same hidden states"
    if not math.isnan(pair.largest_linearity.value):
        line = (
            f"Hidden states lie off the straight line between the ends’ by at most {_with(pair.largest_linearity, 2)} "
            "of the distance between the ends"
        )
    found = [
        f"Hidden states of neighbouring λ have a CKA of at least {_with(pair.lowest_cka, 4)} in every layer, on "
        f"average {fixed(pair.mean_cka.value, 4)}; in the control, whose Thinking end has shuffled weights, it falls "
        f"to {fixed(control.lowest_cka.value, 2)}, on average {fixed(control.mean_cka.value, 2)}.",
        f"{line} (control: {fixed(control.largest_linearity.value, 2)}).",
        f"Loss barrier: {_barrier(pair.barriers)} Control: {_with(control.barriers['both'].height, 2)} nats per token "
        f"at λ = {control.barriers['both'].at:g}.",
    ]
    return [*found, *([_frontier(pilot)] if pilot.frontier else [])]


def _barrier(barriers: dict[str, Barrier]) -> str:
    both = barriers["both"]
    high = {name: barrier for name, barrier in barriers.items() if barrier.stands}
    if high:
        parts = [
            f"{_with(barrier.height, 3)} nats per token at λ = {barrier.at:g} on {STYLES[name]}"
            for name, barrier in high.items()
        ]
        return "; ".join(parts) + "."
    if both.inside.high < 0:
        inside = _with(both.inside, 3)
        return (
            f"none. Between the ends the loss stays below the straight line (largest excess {inside} nats per token)."
        )
    return f"none beyond noise ({_with(both.height, 3)} nats per token on both kinds of responses)."


def _frontier(pilot: Pilot) -> str:
    shape = pilot.frontier
    assert shape is not None
    parts = [
        f"tokens fall {_times(shape.counts['tokens fall'])}",
        f"accuracy falls {_times(shape.counts['accuracy falls'])}",
        f"accuracy over tokens is not concave {_times(shape.counts['not concave'])}",
    ]
    found, sure = len(shape.violations), len(shape.supported)
    of = f" Of {counted(found, 'violation')}, {sure} {'has an interval' if sure == 1 else 'have intervals'} without 0, "
    which = f"{of}{found - sure} {'is' if found - sure == 1 else 'are'} within noise." if found else ""
    return f"Along the run’s {len(shape.points)} λ, {', '.join(parts)} (95 % intervals over questions).{which}"


def _times(count: Interval) -> str:
    times = f"{count.value:.0f} time{'' if count.value == 1 else 's'}"
    return f"{times} [{count.low:.0f} to {count.high:.0f}]"


def _with(interval: Interval, places: int) -> str:
    low, high = fixed(interval.low, places), fixed(interval.high, places)
    return f"{fixed(interval.value, places)} [{low} to {high}]"
