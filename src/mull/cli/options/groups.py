"""Options in groups: a dataclass stands for its options in a verb's signature, and is one panel of the help."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Annotated, Any, get_args, get_type_hints


def grouped(verb: Callable[..., int | None]) -> Callable[..., int | None]:
    """`verb` as Typer can read it: each parameter of a dataclass type is spelled out as the options it holds.

    A dataclass may hold further ones. Its `PANEL`, where it has one, is the heading of its options in the help.
    """
    hints = get_type_hints(verb, include_extras=True)
    groups: dict[str, Any] = {}
    spelled: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(verb).parameters.items():
        if is_dataclass(hints[name]):
            groups[name] = hints[name]
            spelled += _options(hints[name])
        else:
            kind = inspect.Parameter.KEYWORD_ONLY
            spelled.append(parameter.replace(annotation=hints[name], kind=kind))

    @functools.wraps(verb)
    def run(**values: Any) -> int | None:
        made = {name: _made(group, values) for name, group in groups.items()}
        return verb(**values, **made)

    run.__signature__ = inspect.Signature(spelled)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in spelled}
    return run


def _made(group: Any, values: dict[str, Any]) -> Any:
    """The group, with its options taken out of `values`."""
    hints = get_type_hints(group)
    return group(**{
        field.name: _made(hints[field.name], values) if is_dataclass(hints[field.name]) else values.pop(field.name)
        for field in fields(group)
    })  # fmt: skip


def _options(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    found = []
    for field in fields(group):
        if is_dataclass(hints[field.name]):
            found += _options(hints[field.name])
            continue
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        annotation = _in_panel(hints[field.name], getattr(group, "PANEL", None))
        kind = inspect.Parameter.KEYWORD_ONLY
        found.append(inspect.Parameter(field.name, kind, default=default, annotation=annotation))
    return found


def _in_panel(annotation: Any, panel: str | None) -> Any:
    kind, *extras = get_args(annotation)
    shown = [copy.copy(extra) for extra in extras]
    for extra in shown:
        if hasattr(extra, "rich_help_panel"):
            extra.rich_help_panel = extra.rich_help_panel or panel
    return Annotated[kind, *shown]
