"""Samples a plan with progress in the terminal, or prints an estimate of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mull.analysis.records import Sample
from mull.api.progress.terminal import Terminal
from mull.cli.options.common import consoles
from mull.cli.rendering.plain import print_json
from mull.cli.rendering.summary import print_summary, summary
from mull.runs.plan import SweepPlan
from mull.runs.sessions import session
from mull.runs.sessions.loading import Loader
from mull.runs.sessions.pace import Expected
from mull.words import clock, counted, format_bytes

if TYPE_CHECKING:
    from mull.engines.local.needs import Needs


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
        expected = session.expect(plan, run, loader, observer)
        _show_expected(expected, loader.needs(plan, observer) if expected.missing else None, json=json)
        return
    samples: list[Sample] = session.sweep(plan, run, loader, observer)
    if json:
        print_json(summary(samples, reference=reference))
        return
    print_summary(samples, stdout, reference=reference)
    stdout.print(f"\nrun: {run}\nnext: mull report {run}", highlight=False, markup=False, soft_wrap=True)


def _show_expected(expected: Expected, needs: Needs | None, *, json: bool) -> None:
    if json:
        values = {name: value for name, value in expected._asdict().items() if name != "benchmarks" or value}
        print_json({**values, **({"memory": needs} if needs else {})})
        return
    on_record = expected.responses - expected.missing
    lines = [
        f"{counted(expected.responses, 'response')}, {on_record:,} of them on record, "
        f"{expected.missing:,} to be sampled"
    ]
    if expected.missing:
        known = f"{expected.tokens:,.0f} expected, " if expected.tokens is not None else ""
        lines.append(f"tokens: {known}{expected.most_tokens:,} at most")
        for name, own in expected.benchmarks.items():
            known = f"{own.tokens:,.0f} expected, " if own.tokens is not None else ""
            lines.append(f"  {name}: {own.responses:,} to be sampled, {known}{own.most_tokens:,} tokens at most")
        if expected.seconds is not None:
            lines.append(f"time: {clock(expected.seconds)} at the speed of the run so far")
        else:
            lines.append(
                "time: unknown until some responses are on record; -k 1 --questions 4 gives an idea, mull plan a bound"
            )
    if needs:
        lines += _memory_lines(needs)
    stdout, _ = consoles()
    stdout.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def _memory_lines(needs: Needs) -> list[str]:
    """The arithmetic of memory, in sentences."""
    where = {"device": f"on {needs.device}", "memory": "in CPU memory", "files": "in their mapped files"}
    stacked = f", {format_bytes(needs.stacked)} of them (stacked experts) in CPU memory"
    kept = where[needs.ends_at] + (stacked if needs.ends_at == "files" and needs.stacked else "")
    per_row = (
        f"; {needs.per_token / 1000:,.1f} kB a token, {format_bytes(needs.per_row)} a response of "
        f"{needs.tokens:,} tokens, of which {counted(needs.rows, 'fits', 'fit')} at once"
    )
    return [
        f"memory on {needs.device}: at most {format_bytes(needs.peak)} beside activations and Python; "
        f"{format_bytes(needs.free)} are free",
        f"  the ends: {format_bytes(needs.ends)}, {kept}",
        f"  mixed weights: {format_bytes(needs.mixed)}",
        f"  keys and values: at most {format_bytes(needs.cache)}" + (per_row if needs.per_token else ""),
    ]
