"""Options that several verbs share, and helpers for verbs."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console

from mull.api.progress.console import SafeConsole
from mull.cli.rendering.logs import is_quiet
from mull.errors import MullError

Value = TypeVar("Value")


class Donor(StrEnum):
    """The side from which the files other than weights are taken."""

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
    typer.Option(
        help="Mix in spite of a refusal: rope, config, tokens, vocabulary or non-finite. Repeatable.", metavar="CODE"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
ExtrapolateOption = Annotated[bool, typer.Option("--extrapolate", help="Allow λ outside [0, 1].")]


def refuse_unwritable(option: str, path: Path) -> None:
    """Raise `MullError` if `path`, given by `option`, cannot be written; call it before the work."""
    existing = next(each for each in (path, *path.parents) if each.exists() or each == each.parent)
    if existing != path and not existing.is_dir():
        raise MullError(f"{option} {path} cannot be written: {existing} is not a folder", "choose another place")
    if not os.access(existing, os.W_OK):
        raise MullError(f"{option} {path} cannot be written: no permission in {existing}", "choose another place")


def token_counts(option: str, text: str | None) -> list[int]:
    """The different numbers of tokens in a comma-separated list; none if it is not given."""
    if text is None:
        return []
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = [-1]
    if min(found) < 0 or len(set(found)) < len(found):
        raise MullError(f"{option} {text!r} is no list of token counts", "give different numbers, as in 20,50")
    return found


def by_benchmark(
    option: str, text: str | None, read: Callable[[str], Value], *, several: bool
) -> Value | dict[str, Value] | None:
    """What `read` makes of the value of an option; of `NAME=VALUE,NAME=VALUE` by the names of several benchmarks."""
    if text is None:
        return None
    return by_name(option, text, read) if several and "=" in text else _read(option, text, read)


def by_name(option: str, text: str, read: Callable[[str], Value]) -> dict[str, Value]:
    """What `read` makes of each value of `NAME=VALUE,NAME=VALUE`. Raises `MullError` for anything else."""
    found: dict[str, Value] = {}
    for part in text.split(","):
        name, _, value = (each.strip() for each in part.partition("="))
        if not name or not value:
            raise MullError(f"cannot read {option} {text!r}", "write NAME=VALUE for each, with commas between")
        if name in found:
            raise MullError(f"{option} names {name!r} twice", "name each once")
        found[name] = _read(option, value, read)
    return found


def _read(option: str, text: str, read: Callable[[str], Value]) -> Value:
    try:
        return read(text)
    except ValueError:
        wanted = "no number from 1" if read is count else "no number"
        raise MullError(f"{option} {text!r} is {wanted}", "as in 100") from None


def count(text: str) -> int:
    """A whole number from 1."""
    found = int(text)
    if found < 1:
        raise ValueError(text)
    return found


def given_options(context: typer.Context) -> dict[str, str]:
    """Parameter name → option as in the help, for the options that are given, by flags or by --config."""
    names = {param.name: param.opts[0] for param in context.command.params if param.name}
    sources = {name: context.get_parameter_source(name) for name in names}
    given = ("COMMANDLINE", "DEFAULT_MAP")
    return {name: names[name] for name, source in sources.items() if source and source.name in given}


def consoles(*, errors: bool = False) -> tuple[Console, Console]:
    """Rich consoles for results (stdout) and for progress and warnings (stderr); 120 columns wide in a pipe.

    With `mull --quiet` the second one shows nothing, unless it is for `errors`.
    """
    width = None if sys.stdout.isatty() else 120
    if is_quiet() and not errors:
        return SafeConsole(width=width), SafeConsole(stderr=True, quiet=True, force_terminal=False)
    return SafeConsole(width=width), SafeConsole(stderr=True, width=None if sys.stderr.isatty() else 120)


def check_temperature(value: float) -> None:
    """Raise `MullError` for what a range from 0 lets through: infinity."""
    if not math.isfinite(value):
        raise MullError(f"--temperature must be 0 (greedy) or a positive number, got {value:g}", "0 is greedy")
