"""`--config FILE`: the options of a study in a TOML file, which flags overrule and of which the run keeps a copy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from mull.errors import MullError, naming, nearest
from mull.folders import write_atomically
from mull.runs.store import DATABASE
from mull.toml import read_table

COPY = "study.toml"
"""The copy in the run folder."""
_LISTS = ("GRID", "KINDS", "TOKENS", "RANGES", "LIST", "NAMES")
"""What the help calls values that are lists with commas. In the file they may be arrays, too."""

_BY_BENCHMARK = ("data", "grader", "questions", "max_tokens", "weights")
"""Options that several benchmarks may have each on its own. In the file they may be tables, too."""


def _read(context: typer.Context, path: Path | None) -> Path | None:
    """Make the file's values the defaults of the other options."""
    if path is None or context.resilient_parsing:
        return path
    try:
        table = read_table(path)
        with naming(path):
            context.default_map = _values(context, table)
    except MullError as error:
        raise typer.BadParameter(str(error)) from None
    return path


def _values(context: typer.Context, table: dict[str, Any]) -> dict[str, Any]:
    options = {
        flag.strip("-"): param
        for param in context.command.params
        if param.param_type_name == "option" and param.name not in ("config", "help")
        for flag in param.opts
    }
    found: dict[str, Any] = {}
    for key, value in table.items():
        param: Any = options.get(key.replace("_", "-"))
        if param is None:
            raise MullError(f"unknown key {key!r}", nearest(key.replace("_", "-"), options))
        if param.name in found:
            raise MullError(f"{key} is there twice", "write it once")
        found[param.name] = _value(key, param, value)
    return found


def _value(key: str, param: Any, value: Any) -> Any:
    """The value as a flag would give it, which is parsed later. Raises `MullError` for what no flag could give."""
    if isinstance(value, list) and not param.multiple and param.metavar in _LISTS:
        value = ",".join(map(str, value))
    if isinstance(value, dict) and param.name in _BY_BENCHMARK:
        value = ",".join(f"{name}={each}" for name, each in value.items())
    values = value if isinstance(value, list) and param.multiple else [value]
    if any(isinstance(each, bool) != param.is_flag for each in values):
        raise MullError(f"{key} must {'be true or false' if param.is_flag else 'not be true or false'}")
    if not all(isinstance(each, str | int | float) for each in values):
        raise MullError(f"{key} must be one value", "write a text or a number, and no table")
    if "" in values and param.metavar != "TEXT":
        raise MullError(f"{key} is empty", "give a value, or leave it out")
    return value if param.is_flag else [*map(str, values)] if param.multiple else str(value)


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="Options in a TOML file, by their names, as in `top-p = 0.9`; flags overrule it. The run keeps a copy.",
        metavar="FILE",
        is_eager=True,
        callback=_read,
    ),
]


@contextmanager
def kept(config: Path | None, run: Path, *, dry_run: bool = False) -> Iterator[None]:
    """Puts a copy of the file into the run folder after what is done in it, unless that is refused."""
    text = None if config is None or dry_run else config.read_bytes()
    refused = False
    try:
        yield
    except MullError:
        refused = True
        raise
    finally:
        if text is not None and not refused and (run / DATABASE).exists():
            write_atomically(run / COPY, text)
