"""What `mull serve` and `mull chat` share: the pair, its λ, and how long a response may be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from mull.cli.options.routes import HeadOption, RoutePairOptions

if TYPE_CHECKING:
    from mull.benchmarks import AnswerForm
    from mull.checkpoints.pair import Pair
    from mull.dynamic.base import Estimator


class Opened(NamedTuple):
    """A checked pair, and what chooses its λ."""

    pair: Pair
    lam: float | None
    """None: auto."""
    estimator: Estimator
    """Chooses λ for auto."""
    form: AnswerForm
    """How its forced answers begin."""


@dataclass(frozen=True, kw_only=True)
class AnsweringOptions:
    """The pair and the λ of its responses."""

    default: Annotated[
        str, typer.Option("--lambda", help="λ where none is asked for: a number, or auto.", metavar="λ")
    ] = "auto"
    head: HeadOption = None
    estimator: Annotated[str, typer.Option(help="Chooses λ for auto: conf, or one of the head's.", metavar="NAME")] = (
        "conf"
    )
    max_tokens: Annotated[int, typer.Option(help="Most tokens of a response that gives no other limit.", min=1)] = 2048
    pair: RoutePairOptions = field(default_factory=RoutePairOptions)

    def open(self) -> Opened:
        """Raises `MullError` for what is no λ, an unknown estimator, no pair, and a head of another pair."""
        from mull.dynamic.choosing import chooser_of, lam_of
        from mull.dynamic.head import Head

        head = Head.open(self.head) if self.head else None
        estimator, form = chooser_of(head, self.estimator)
        lam = lam_of(self.default)
        pair = self.pair.open()
        if head is not None:
            head.check(pair.fingerprints)
        return Opened(pair, lam, estimator, form)
