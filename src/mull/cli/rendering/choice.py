"""A choice printed in the terminal and as JSON, for both ways of `mull choose`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from mull.analysis.choosing.choose import Choice
from mull.analysis.choosing.options import Option
from mull.analysis.choosing.race import Outcome
from mull.analysis.choosing.worth import Open
from mull.cli.rendering.plain import plain
from mull.reports.choice import headline, options_table, worth_lines
from mull.reports.renderers import terminal


def print_choice(
    choice: Choice, open_questions: Sequence[Open], stdout: Console, outcome: Outcome | None = None
) -> None:
    """Print the choice, the table of all settings, and what more samples would gain."""
    for line in headline(choice, outcome):
        stdout.print(line, highlight=False, markup=False)
    stdout.print()
    stdout.print(terminal(options_table(choice, outcome)), highlight=False)
    for line in ["", *worth_lines(choice, open_questions)]:
        stdout.print(line, highlight=False, markup=False)


def choice_values(choice: Choice, open_questions: Sequence[Open], outcome: Outcome | None = None) -> dict[str, Any]:
    """The choice as values for JSON: shares are fractions 0–1, estimates have value and standard error."""
    found: dict[str, Any] = {
        "goal": choice.goal,
        "pick": _option(choice.pick),
        "nearest": _option(choice.nearest),
        "confidence": choice.confidence,
        "expected_loss": choice.loss,
        "feasible": choice.feasible_runs,
        "options": [_option(option) for option in (outcome.measured if outcome else choice.options)],
        "rivals": choice.rivals,
        "open": [{**each._asdict(), "questions_factor": each.factor} for each in open_questions],
    }
    if choice.fresh is not None:
        found["fresh"] = {"accuracy": choice.fresh[0], "tokens": choice.fresh[1]}
    if outcome is not None:
        found["fresh"] = [_option(option) for option in outcome.fresh]
        found["dropped"] = outcome.dropped
        found["responses"] = {"asked": outcome.asked, "full_grid": outcome.full}
    return found


def _option(option: Option | None) -> dict[str, Any] | None:
    return option and {**plain(option), "feasible": option.feasible, "chance": option.chance}
