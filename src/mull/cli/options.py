"""Options that several verbs share, spelled once."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console


class Donor(StrEnum):
    """Which side gives the non-weight files."""

    instruct = "instruct"
    thinking = "thinking"


InstructOption = Annotated[
    str, typer.Option("--instruct", help="Instruct checkpoint: a folder or a hub id.", metavar="MODEL")
]
ThinkingOption = Annotated[
    str, typer.Option("--thinking", help="Thinking checkpoint: a folder or a hub id.", metavar="MODEL")
]
DonorOption = Annotated[Donor, typer.Option(help="The side that gives template, tokenizer and generation config.")]
AllowOption = Annotated[
    list[str] | None,
    typer.Option(help="Mix in spite of a refusal: rope, config, tokens or vocabulary. Repeatable.", metavar="CODE"),
]
ExtrapolateOption = Annotated[bool, typer.Option("--extrapolate", help="Allow λ outside [0, 1].")]


def consoles() -> tuple[Console, Console]:
    """Rich consoles for results (stdout) and for progress and warnings (stderr); wide enough for tables in a pipe."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 120
    return Console(width=width), Console(stderr=True, width=None if sys.stderr.isatty() else 120)
