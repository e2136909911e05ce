"""The options of a server under load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

if TYPE_CHECKING:
    from mull.serving.load.control import LoadPolicy


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """When the λ of `auto` is lowered."""

    PANEL: ClassVar[str] = "Under load (lowers the λ that auto chooses, never one that a client names)"

    queue_from: Annotated[
        int | None, typer.Option(help="Lower λ with more responses than this under way or waiting.", metavar="N")
    ] = None
    queue_full: Annotated[
        int | None,
        typer.Option(
            help="With so many λ is lowest; between both it falls linearly (default: --waiting).", metavar="N"
        ),
    ] = None
    target_latency: Annotated[
        float | None,
        typer.Option(help="Lower λ where a whole response is expected to take longer.", metavar="SECONDS"),
    ] = None
    lowest_lambda: Annotated[
        float | None,
        typer.Option(help="Lower λ no further than this (default: that of reasoning_effort low).", metavar="λ"),
    ] = None

    def policy(self, waiting: int, seconds: float) -> LoadPolicy:
        """For a server that takes `waiting` responses at a time and gives each `seconds`.

        Raises `MullError` for options that do not fit together.
        """
        from mull.serving.load.control import LoadPolicy

        found = LoadPolicy(
            queue_from=self.queue_from,
            queue_full=self.queue_full,
            target=self.target_latency,
            lowest=self.lowest_lambda,
        )
        return found.within(waiting, seconds)
