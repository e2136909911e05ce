"""`mull demo`: sweep and report on the built-in pair, in minutes on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mull.analysis.choosing.headroom import headroom
from mull.api.progress.terminal import Terminal
from mull.benchmarks import load_benchmark
from mull.checkpoints.pair import Pair
from mull.cli.options.common import consoles
from mull.cli.rendering.summary import print_summary
from mull.cli.verbs.headroom import in_a_line
from mull.engines.base import Sampling
from mull.merging.coefficients import Coefficients
from mull.runs.plan import SweepPlan
from mull.runs.sessions import session
from mull.runs.sessions.loading import LocalLoader
from mull.runs.settings import Setting
from mull.runs.store import RunStore

_LAMBDAS = (0, 0.1, 0.2, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8, 0.9, 1)


def demo(
    run: Annotated[Path | None, typer.Option("--run", help="Run folder (default: demo-run).", metavar="DIR")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer questions and samples: under a minute.")] = False,
) -> None:
    """Sweep λ over the built-in pair and show the results: table, stages, a summary in words, report.

    The last lines say what a λ per query could gain, and how to see one chosen.

    Needs no GPU and no network. 120 questions × 8 samples at 14 λ take a few minutes on two cores.

    Example: `mull demo --quick`
    """
    stdout, stderr = consoles()
    folder = run or Path("demo-run-quick" if quick else "demo-run")
    benchmark = load_benchmark("tiny", questions=40 if quick else 120)
    pair = Pair.built_in()
    pair.check()
    settings = [Setting.of(Coefficients.scalar(lam)) for lam in _LAMBDAS]
    sampling = Sampling(max_tokens=benchmark.max_tokens)
    plan = SweepPlan(pair, settings, benchmark, 2 if quick else 8, sampling)
    stdout.print(
        f"The built-in pair: {pair.thinking.layers} layers, {pair.thinking.parameters / 1e6:.2f} M parameters. "
        f"{len(settings)} λ × {len(benchmark.questions())} questions × {plan.k} samples = {plan.total} responses.",
        highlight=False,
    )
    samples = session.sweep(plan, folder, LocalLoader(), Terminal(stderr))
    print_summary(samples, stdout)
    from mull.reports.build import write_report  # imports polars and altair, which are slow to import

    with stderr.status("drawing the report"), RunStore.open(folder) as store:
        paths = write_report(store, folder / "report")
    stdout.print("\nreport:", highlight=False)
    for path in paths:
        stdout.print(f"  {path}", highlight=False, markup=False, soft_wrap=True)
    closing = [
        f"{in_a_line(headroom(samples))} (mull headroom {folder})",
        f'see it choose: mull route explain "{benchmark.questions()[0].text}"',
    ]
    for line in closing:
        stdout.print(f"\n{line}", highlight=False, markup=False, soft_wrap=True)
