"""`mull benchmarks`: lists the benchmarks and where their questions come from."""

from __future__ import annotations

from rich import box
from rich.table import Table

from mull.benchmarks import GRADERS
from mull.benchmarks.catalog import MATH_LIMIT, SPECS
from mull.benchmarks.graders.own_grader import FORM
from mull.cli.options.common import JsonOption, consoles
from mull.cli.rendering.plain import print_json


def benchmarks(json: JsonOption = False) -> None:
    """List the benchmarks and the graders.

    Example: `mull benchmarks --json`
    """

    if json:
        found = {
            name: {
                "title": spec.title,
                "questions": spec.questions,
                "grader": spec.grader,
                "max_tokens": spec.max_tokens,
                "repo": spec.source.repo,
                "revision": spec.source.revision,
                "gated": spec.source.private,
            }
            for name, spec in SPECS.items()
        }
        print_json({"benchmarks": found, "graders": list(GRADERS)})
        return
    stdout, _ = consoles()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for head in ("benchmark", "questions", "grader", "tokens", "data, or --data FILE"):
        table.add_column(head, overflow="fold", justify="right" if head in ("questions", "tokens") else "left")
    table.add_row("tiny", "any number", "its own", "768", "made by mull, for the built-in pair")
    table.add_row("tiny-easy, -medium, -hard", "up to 2,000", "its own", "768", "its difficulties, a benchmark each")
    for name, spec in SPECS.items():
        source = f"{spec.source.repo}@{spec.source.revision[:8]}" + (", gated" if spec.source.private else "")
        table.add_row(name, f"{spec.questions:,}", spec.grader, f"{spec.max_tokens:,}", source)
    table.add_row("FILE", "", "--grader", f"{MATH_LIMIT:,}", "JSONL, CSV or Parquet with question and answer")
    stdout.print(table, highlight=False)
    stdout.print(f"\ngraders: {', '.join(GRADERS)}, or a function of your own: {FORM}", highlight=False)
