"""Options that several verbs share, spelled once."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
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
DataOption = Annotated[
    Path | None, typer.Option(help="The benchmark's data file; from the hub by default.", metavar="FILE")
]
GraderOption = Annotated[
    str | None, typer.Option(help="Grader (see `mull benchmarks`); the benchmark's own by default.", metavar="NAME")
]
QuestionsOption = Annotated[int | None, typer.Option(help="Only so many questions.", min=1)]
QuestionSeedOption = Annotated[int, typer.Option(help="Which questions, for benchmarks that make them.")]
SeedOption = Annotated[int, typer.Option(help="Seed of the sampling.")]
TemperatureOption = Annotated[float, typer.Option(help="0 = greedy.")]
TopPOption = Annotated[float, typer.Option("--top-p")]
TopKOption = Annotated[int, typer.Option("--top-k", help="0 = no limit.")]
MaxTokensOption = Annotated[
    int | None, typer.Option(help="Tokens per response; the benchmark's limit by default.", min=1)
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")]
BatchSizeOption = Annotated[int | None, typer.Option(help="Responses generated at once; fitted by default.", min=1)]
TrustOption = Annotated[bool, typer.Option("--trust-remote-code", help="Run code that ships with the model.")]


def given_options(context: typer.Context) -> dict[str, str]:
    """Parameter name → option as written in the help, of what the command line itself says."""
    names = {param.name: param.opts[0] for param in context.command.params if param.name}
    sources = {name: context.get_parameter_source(name) for name in names}
    return {name: names[name] for name, source in sources.items() if source and source.name == "COMMANDLINE"}


def consoles() -> tuple[Console, Console]:
    """Rich consoles for results (stdout) and for progress and warnings (stderr); wide enough for tables in a pipe."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 120
    return Console(width=width), Console(stderr=True, width=None if sys.stderr.isatty() else 120)
