"""`mull headroom`: could a λ per query pay at all? Oracles by stratum and by question against the best fixed λ."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from mull.analysis.choosing.headroom import Headroom, Interval, Oracle
from mull.analysis.choosing.headroom import headroom as measure
from mull.analysis.records import by_benchmark
from mull.cli.options.common import JsonOption, consoles
from mull.cli.rendering.plain import plain, print_json
from mull.errors import MullError, naming
from mull.reports.renderers import terminal
from mull.reports.table import Cell, Column, Row, Table
from mull.runs.store import RunStore
from mull.words import counted


def headroom(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of sweeps over λ.", metavar="RUN…")],
    json: JsonOption = False,
) -> None:
    """Estimate from runs whether choosing λ for each query could pay, before an estimator is trained.

    Two oracles choose λ for a question from the run's responses: one knows its difficulty class, the other its own
    responses. They are measured on other responses, and compared at equal tokens with fixed λ, mixtures of two λ
    included. An estimator cannot gain more than such oracles.

    Examples:

    `mull headroom demo-run`

    `mull headroom gsm8k-run math500-run --json`
    """

    stdout, _ = consoles()
    found: dict[str, Headroom] = {}
    twice = next((run for i, run in enumerate(runs) if run.resolve() in {other.resolve() for other in runs[:i]}), None)
    if twice is not None:
        raise MullError(f"the run {twice} is given twice", "name it once")
    for run in runs:
        with RunStore.open(run) as store:
            samples = store.samples(texts=False)
        parts = by_benchmark(samples)
        for name, own in parts.items() or [("", samples)]:
            which = f"{run}, {name}" if len(parts) > 1 else str(run)
            with naming(which):
                found[which] = measure(own)
    if json:
        print_json({run: _with_verdicts(each) for run, each in found.items()})
        return
    for i, (run, each) in enumerate(found.items()):
        if len(found) > 1:
            stdout.print(f"{chr(10) * bool(i)}{run}", style="bold", highlight=False, markup=False)
        show(each, stdout)


def _with_verdicts(found: Headroom) -> dict[str, Any]:
    values = plain(found)
    for values_of_one, oracle in zip(values["oracles"], found.oracles, strict=True):
        values_of_one["pays"] = oracle.pays
    return values


def show(found: Headroom, stdout: Console) -> None:
    """Print the head-room of one run: table, savings, the λ of each stratum and a conclusion."""

    stdout.print(
        f"best fixed λ: {found.best}, {100 * found.accuracy:.1f} % right with {found.tokens:,.1f} tokens per response, "
        f"on {counted(found.questions, 'question')}"
        + (f" ({found.left_out} incomplete left out)" if found.left_out else ""),
        highlight=False,
    )
    stdout.print(terminal(gains_table(found)), highlight=False)
    for oracle in found.oracles:
        stdout.print(_words(found, oracle), highlight=False, markup=False)
    if found.allotted:
        parts = "; ".join(f"{stratum}: {_mixture(shares)}" for stratum, shares in found.allotted.items())
        stdout.print(f"λ by stratum at half of the tokens: {parts}", highlight=False, markup=False)
    if any(oracle.pays for oracle in found.oracles):
        stdout.print("\nChoosing λ per query could pay here.", style="bold", highlight=False)
    else:
        stdout.print("\nNo oracle surely gains anything here: a fixed λ is as good.", style="bold", highlight=False)


def in_a_line(found: Headroom) -> str:
    """The gain of knowing each question's difficulty, or else each question, at the largest budget of up to half of the
    best fixed λ's tokens."""
    oracle = found.oracles[0]
    gain = next((each for each in reversed(oracle.gains) if each.share <= 0.5), oracle.gains[0])
    knowing = "the difficulty of each question" if oracle.kind == "stratum" else "each question"
    return (
        f"λ per query: knowing {knowing} would change accuracy by {_signed(gain.gain)} points against a fixed λ at "
        f"{gain.tokens:,.0f} tokens per response"
    )


def gains_table(found: Headroom) -> Table:
    """A row per oracle and token budget: its accuracy, that of a fixed λ at the same tokens, and the gain."""
    rows = [
        Row(
            f"by {oracle.kind}",
            [Cell(g.gain.value, low=g.gain.low, high=g.gain.high), Cell(g.tokens), Cell(g.accuracy), Cell(g.static)],
        )
        for oracle in found.oracles
        for g in oracle.gains
    ]
    return Table(
        name="headroom",
        title="Gains of a λ per query",
        caption="gain: accuracy less that of fixed λ at the same tokens, with 95 % interval",
        head="λ chosen",
        columns=[
            Column(key="gain", head="gain, points", scale=100, signed=True),
            Column(key="tokens", head="Token #N"),
            Column(key="accuracy", head="right", unit="%", scale=100),
            Column(key="fixed", head="fixed λ", unit="%", scale=100),
        ],
        rows=rows,
    )


def _words(found: Headroom, oracle: Oracle) -> str:
    saving = oracle.saving
    saved = f"{100 * saving.saved.value:.0f} % ({100 * saving.saved.low:.0f} to {100 * saving.saved.high:.0f})"
    return (
        f"by {oracle.kind}, aiming at the accuracy of λ = {found.best}: {saving.tokens:,.1f} tokens, {saved} fewer, "
        f"accuracy {_signed(saving.difference)} points"
    ).replace("-", "−")


def _signed(interval: Interval) -> str:
    value, low, high = (100 * each for each in interval)
    return f"{value:+.1f} ({low:.1f} to {high:.1f})".replace("-", "−")


def _mixture(shares: Mapping[str, float]) -> str:
    if len(shares) == 1:
        return next(iter(shares))
    return " or ".join(f"{name} ({100 * share:.0f} %)" for name, share in shares.items())
