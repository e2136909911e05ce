"""`mull status`: how far runs are, also while they are sampled."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from mull.cli.options.common import JsonOption, consoles
from mull.cli.rendering.plain import print_json
from mull.runs.sessions.status import Status
from mull.runs.sessions.status import status as read
from mull.words import clock, counted


def status(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, finished or not.", metavar="RUN…")],
    json: JsonOption = False,
) -> None:
    """Say how far runs are: responses on record and missing, pace, and whether a session is under way.

    Reads only, so that it works beside a session that is sampling.

    Example: `mull status gsm8k-run math500-run`
    """
    found = {str(run): read(run) for run in runs}
    if json:
        print_json(found)
        return
    stdout, _ = consoles()
    for i, (run, each) in enumerate(found.items()):
        stdout.print("\n" * bool(i) + run, style="bold", highlight=False, markup=False, soft_wrap=True)
        stdout.print("\n".join(_lines(each)), highlight=False, markup=False, soft_wrap=True)


def _lines(found: Status) -> list[str]:
    """The status in sentences."""
    ago = (datetime.now(UTC) - datetime.fromisoformat(found.last_written)).total_seconds()
    state = {
        True: "a session is under way",
        False: "no session is under way",
        None: "this file system does not say whether a session is under way",
    }[found.under_way]
    share = f" ({found.responses / found.planned:.0%})" if found.planned else ""
    lines = [
        f"{found.benchmark}: {counted(found.questions, 'question')}, k = {found.k}, "
        f"{counted(len(found.settings), 'setting')}: {', '.join(found.settings)}",
        f"{found.responses:,} of {counted(found.planned, 'response')} on record{share}"
        + ("; mull choose samples only as many as its choice needs" if found.is_race and found.missing else ""),
        *(
            f"  {name}: {counted(each.questions, 'question')}, {each.responses:,} of {each.planned:,} on record"
            for name, each in found.benchmarks.items()
        ),
        f"{state}; last written {clock(max(ago, 0))} ago ({found.last_written})",
    ]
    if found.tokens_per_second is not None:
        left = f"; about {clock(found.seconds_left)} left at this pace" if found.seconds_left is not None else ""
        lines.append(f"pace: {found.tokens_per_second:,.1f} tokens/s{left}")
    else:
        lines.append("pace: unknown so far")
    if found.missing and not found.is_race:
        lines.append("missing: " + ", ".join(f"{count:,} of {name}" for name, count in found.missing.items()))
    return [*lines, f"engine: {found.engine}", *(f"kernels: {each}" for each in found.kernels)]
