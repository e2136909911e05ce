"""Converts results to plain values for JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import typer

from mull.escaping import visible


def print_json(value: Any) -> None:
    """What every `--json` prints."""
    typer.echo(visible(json.dumps(plain(value), ensure_ascii=False, indent=2, allow_nan=False)))


def plain(value: Any) -> Any:
    """`value` with dataclasses and named tuples as dicts; NaN and infinity become None."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    names = getattr(value, "_fields", None)  # of a NamedTuple
    if names is not None:
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Sequence):
        return [plain(each) for each in value]
    item = getattr(value, "item", None)  # of numpy's numbers
    return str(value) if item is None else plain(item())
