"""TOML files as dataclasses: the type hints of the fields say what a table may hold.

Hints: bool, int, float (whole numbers too), str, dict, a dataclass (a table), `tuple[X, ...]` (an array) and unions of
these. A field without a default must be there. The field `lambda_` is the key lambda, which is no name in Python.
"""

from __future__ import annotations

import tomllib
from dataclasses import MISSING, field, fields, is_dataclass
from pathlib import Path
from reprlib import repr as shortened
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from mull.errors import MullError, naming, nearest

T = TypeVar("T")
LARGEST = 1 << 20
"""Bytes of a file. Nobody writes more by hand."""
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", tuple: "an array"}


def entry(example: str, **default: Any) -> Any:
    """A field of such a dataclass, with an example of its key for error messages."""
    return field(metadata={"example": example}, **default)


def read_toml(path: Path, kind: type[T]) -> T:
    """The file as a `kind`, a dataclass of entries.

    Raises:
        MullError: the file cannot be read, is no TOML, or has what the dataclasses do not allow; the message names the
            file, the table and the key.
    """
    table = read_table(path)
    with naming(path):
        return from_table(table, kind)


def read_table(path: Path) -> dict[str, Any]:
    """The file as it is parsed. Raises `MullError` if it cannot be read or is no TOML."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise MullError(f"cannot read {path}: {error.strerror}", "give the path of a TOML file") from None
    if len(data) > LARGEST:
        raise MullError(f"{path} has more than {LARGEST:,} bytes", "give a smaller TOML file")
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError:
        raise MullError(f"{path} is no TOML file: it is not UTF-8 text", "save it as UTF-8") from None
    except (ValueError, RecursionError) as error:  # TOML's errors, and brackets nested too deep
        raise MullError(f"{path} is no TOML file: {error}") from None


def from_table(table: dict[str, Any], kind: type[T]) -> T:
    """A parsed table (of another format, too) as a `kind`. Raises MullError for what the dataclasses do not allow."""
    return _table(table, kind)


def _table(table: dict[str, Any], kind: Any) -> Any:
    hints, known = get_type_hints(kind), {each.name.rstrip("_"): each for each in fields(kind)}
    for key in table:
        if key not in known:
            raise MullError(f"unknown key {key!r}", nearest(key, known))
    found = {}
    for key, each in known.items():
        remedy = f"write {each.metadata['example']}"
        if key in table:
            found[each.name] = _value(table[key], hints[each.name], key, remedy)
        elif each.default is MISSING:
            raise MullError(f"{key} is missing", remedy)
    return kind(**found)


def _value(value: Any, hint: Any, key: str, remedy: str, number: str = "") -> Any:
    """The value of a key, or of its item `number`, as `hint` has it."""
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    plain = [get_origin(each) or each for each in kinds]
    for each, name in zip(kinds, plain, strict=True):
        if name is tuple and isinstance(value, list):
            return tuple(_value(item, get_args(each)[0], key, remedy, f" {i}") for i, item in enumerate(value, start=1))
        if is_dataclass(each) and isinstance(value, dict):
            with naming(key + number):
                return _table(value, each)
        if type(value) in ((int, float) if name is float else (name,)):  # `isinstance` takes true for 1
            return value
    wanted = " or ".join(_WORDS.get(name, "a table") for name in plain if name is not NoneType)
    raise MullError(f"{key} must be {wanted}, got {shortened(value)}", remedy)
