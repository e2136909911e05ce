"""What stands before the server behind: the pair's names and levels, and what chooses λ for `auto`. Knows no HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from mull.dynamic.base import Choice
from mull.engines.remote.endpoints import PLACE
from mull.errors import MullError
from mull.serving.backend import Limits
from mull.serving.front.messages import messages_of
from mull.serving.front.parting import Parting
from mull.serving.front.rewriting import Route, budget_of, has_tools, limit_of, reading, wish_of
from mull.serving.levels import Levels, Undecided
from mull.serving.load.auto import auto
from mull.serving.load.control import LoadControl
from mull.serving.metrics import Metrics
from mull.serving.wire.errors import ApiError, bad, of


class Chooser(Protocol):
    """Chooses λ for a conversation, or a text or its token ids."""

    async def choose(self, asked: list[dict[str, str]] | str | list[int]) -> Choice: ...


@dataclass(kw_only=True)
class Front:
    """A pair behind another server."""

    levels: Levels
    base: str
    """The pair's name for the server behind; with {lambda} in it, a model for each λ, of a server without mull."""
    undecided: Undecided = field(default_factory=Undecided)
    chooser: Chooser | None = None
    """For `auto`; None: there is none, and `levels.auto` is False."""
    limits: Limits = field(default_factory=Limits)
    load: LoadControl = field(default_factory=LoadControl)
    """Lowers the λ of `auto` by how many requests are under way here, and by how long responses have taken."""
    metrics: Metrics = field(default_factory=Metrics)
    under_way: int = field(default=0, init=False)
    """Requests that are not answered yet."""

    def __post_init__(self) -> None:
        self.metrics.under_way.set_function(lambda: self.under_way)

    def enter(self) -> None:
        """A request has come; `leave` once it is answered or refused."""
        self.under_way += 1

    def leave(self) -> None:
        self.under_way -= 1

    def check_room(self) -> None:
        """Raises `ApiError` if too many requests have come."""
        if self.under_way > self.limits.waiting:
            raise ApiError(429, "too many requests are under way", code="overloaded", retry=1)

    async def wish(self, body: dict[str, Any], route: Route, *, began: float) -> tuple[float, dict[str, Any]]:
        """The λ of a request that came at `began`, and what the reply says of it. Raises `ApiError`."""
        wish = wish_of(body, route, self.levels)
        said: dict[str, Any] = {"source": wish.source, "budget": budget_of(body)}
        lam = wish.lam
        if lam is None:
            chosen = await auto(
                lambda: self._chosen(body, route),
                lambda: self.under_way,
                self.load,
                began=began,
                most=limit_of(body),
            )
            lam, said = self.levels.nearest(chosen.lam), {**said, **chosen.said}
            if lam != chosen.lam:
                said["source"] = f"{said['source'][:-1]}; of the served λ the nearest to {chosen.lam:.3g})"
            if chosen.reason is not None:
                self.metrics.lowered.labels(chosen.reason).inc()
        self.metrics.lam.labels(said["source"].split()[0]).observe(lam)
        return lam, {"lambda": lam, **said}

    def parting(self, body: dict[str, Any], lam: float) -> Parting | None:
        """What splits thought and answer in the reply; None where the server behind does, which has mull's parser."""
        if PLACE not in self.base:
            return None
        return Parting(reading(body, lam, self.undecided, tools=has_tools(body)))

    async def _chosen(self, body: dict[str, Any], route: Route) -> Choice:
        if self.chooser is None:
            raise bad("this server has no estimator of λ: name a λ from 0 to 1", "lambda")
        try:
            return await self.chooser.choose(messages_of(body, route))
        except MullError as error:
            raise of(error) from None
