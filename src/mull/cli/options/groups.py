"""Groups of options: a verb takes a dataclass whose fields are options, shown as one panel of the help."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Annotated, Any, get_args, get_type_hints


def grouped(verb: Callable[..., int | None]) -> Callable[..., int | None]:
    """`verb` with each dataclass parameter replaced by the options that are its fields, so that Typer can read it.

    A field may be such a dataclass, too. The `PANEL` of a dataclass is the heading of its options in the help.
    """
    hints = get_type_hints(verb, include_extras=True)
    groups: dict[str, Any] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(verb).parameters.items():
        if is_dataclass(hints[name]):
            groups[name] = hints[name]
            parameters += _options(hints[name])
        else:
            kind = inspect.Parameter.KEYWORD_ONLY
            parameters.append(parameter.replace(annotation=hints[name], kind=kind))

    @functools.wraps(verb)
    def run(**values: Any) -> int | None:
        instances = {name: _instance(group, values) for name, group in groups.items()}
        return verb(**values, **instances)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _instance(group: Any, values: dict[str, Any]) -> Any:
    """An instance of the dataclass `group`; its options are removed from `values`."""
    hints = get_type_hints(group)
    return group(**{
        field.name: _instance(hints[field.name], values) if is_dataclass(hints[field.name]) else values.pop(field.name)
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
