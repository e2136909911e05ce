"""Samples a plan with progress in the terminal, or prints an estimate of it."""

from __future__ import annotations

from pathlib import Path

from mull.analysis.records import Sample
from mull.cli.options.common import consoles
from mull.cli.rendering.observer import Terminal
from mull.cli.rendering.plain import print_json
from mull.cli.rendering.summary import print_summary, summary
from mull.runs.plan import SweepPlan
from mull.runs.sessions import session
from mull.runs.sessions.loading import Loader
from mull.runs.sessions.pace import Expected
from mull.words import clock, counted


def sample_and_show(
    plan: SweepPlan, loader: Loader, run: Path, *, dry_run: bool, json: bool, reference: str | None = None
) -> None:
    """Sample the missing responses of `plan` and print its table; with `dry_run` only print what that would take.

    `reference`: the setting to compare the others with; None for a sweep along λ.

    Raises:
        MullError: as `mull.runs.sessions.session.sweep`.
    """
    stdout, stderr = consoles()
    observer = Terminal(stderr)
    if dry_run:
        _show_expected(session.expect(plan, run, loader, observer), json=json)
        return
    samples: list[Sample] = session.sweep(plan, run, loader, observer)
    if json:
        print_json(summary(samples, reference=reference))
        return
    print_summary(samples, stdout, reference=reference)
    stdout.print(f"\nrun: {run}\nnext: mull report {run}", highlight=False, markup=False, soft_wrap=True)


def _show_expected(expected: Expected, *, json: bool) -> None:
    if json:
        print_json(expected)
        return
    on_record = expected.responses - expected.missing
    lines = [
        f"{counted(expected.responses, 'response')}, {on_record:,} of them on record, "
        f"{expected.missing:,} to be sampled"
    ]
    if expected.missing:
        known = f"{expected.tokens:,.0f} expected, " if expected.tokens is not None else ""
        lines.append(f"tokens: {known}{expected.most_tokens:,} at most")
        if expected.seconds is not None:
            lines.append(f"time: {clock(expected.seconds)} at the speed of the run so far")
        else:
            lines.append("time: unknown until some responses are on record; -k 1 --questions 4 gives an idea")
    stdout, _ = consoles()
    stdout.print("\n".join(lines), highlight=False, markup=False)
