"""A choice printed in the terminal and as JSON, for both ways of `mull choose`."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from mull.analysis.choosing.options import Option
from mull.api.choice import Choice
from mull.cli.rendering.plain import plain
from mull.reports.renderers import terminal


def print_choice(choice: Choice, stdout: Console) -> None:
    """Print the choice, the table of all settings, and what more samples would gain."""
    for line in choice.headline:
        stdout.print(line, highlight=False, markup=False)
    stdout.print()
    stdout.print(terminal(choice.table), highlight=False)
    for line in ["", *choice.outlook]:
        stdout.print(line, highlight=False, markup=False)


def choice_values(choice: Choice) -> dict[str, Any]:
    """The choice as values for JSON: shares are fractions 0–1, estimates have value and standard error."""
    made, outcome = choice.found, choice.outcome
    found: dict[str, Any] = {
        "goal": {name: getattr(made.goal, name) for name in ("budget", "quantile", "min_accuracy")},
        "pick": _option(made.pick),
        "nearest": _option(made.nearest),
        "confidence": made.confidence,
        "expected_loss": made.loss,
        "feasible": made.feasible_runs,
        "options": [_option(option) for option in (outcome.measured if outcome else made.options)],
        "rivals": made.rivals,
        "open": [{**each._asdict(), "questions_factor": each.factor} for each in choice.open],
    }
    if made.shares:
        found["weights"] = made.shares
    if made.fresh is not None:
        found["fresh"] = {"accuracy": made.fresh[0], "tokens": made.fresh[1]}
    if outcome is not None:
        found["fresh"] = [_option(option) for option in outcome.fresh]
        found["dropped"] = outcome.dropped
        found["responses"] = {"asked": outcome.asked, "full_grid": outcome.full}
    return found


def _option(option: Option | None) -> dict[str, Any] | None:
    return option and {**plain(option), "feasible": option.feasible, "chance": option.chance}
