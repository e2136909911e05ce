"""Options for responses from servers, and the endpoints they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mull.errors import MullError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mull.engines.remote.endpoints import Endpoints
    from mull.engines.remote.engine import RemoteEngine

_PANEL = "Responses from servers, instead of checkpoints"
GRID = "0:1:0.1"
"""The λ of a sweep where nothing else is said."""

EndpointOption = Annotated[
    str | None,
    typer.Option(
        help="Base URL of a server that speaks OpenAI's API; {lambda} in it stands for the λ.",
        metavar="URL",
        rich_help_panel=_PANEL,
    ),
]
ModelMapOption = Annotated[
    str | None,
    typer.Option(help="Model to ask for, as in 'name@{lambda}'.", metavar="NAME", rich_help_panel=_PANEL),
]
EndpointMapOption = Annotated[
    Path | None,
    typer.Option(help="TOML file with the URL and model of each λ.", metavar="FILE", rich_help_panel=_PANEL),
]
KeyVariableOption = Annotated[
    str | None,
    typer.Option(
        "--api-key-env",
        help="Environment variable that holds the API key (default: MULL_API_KEY, where it is set).",
        metavar="VARIABLE",
        rich_help_panel=_PANEL,
    ),
]
ConcurrencyOption = Annotated[int, typer.Option(help="Requests under way at once.", min=1, rich_help_panel=_PANEL)]
PerMinuteOption = Annotated[
    float | None,
    typer.Option(
        "--requests-per-minute", help="Begin no more than so many per server.", min=0.001, rich_help_panel=_PANEL
    ),
]
RetriesOption = Annotated[
    int,
    typer.Option(
        help="Repetitions after errors that may pass: 429, 5xx, timeouts, broken connections.",
        min=0,
        rich_help_panel=_PANEL,
    ),
]
TimeoutOption = Annotated[
    float, typer.Option(help="Seconds to wait for one response.", min=0.001, rich_help_panel=_PANEL)
]
OmitOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Do not send this field, which the server refuses: seed, temperature, top_k or top_p. Repeatable.",
        metavar="FIELD",
        rich_help_panel=_PANEL,
    ),
]


@dataclass(frozen=True)
class Servers:
    """Those options, as given."""

    endpoint: str | None
    model_map: str | None
    endpoint_map: Path | None
    key_variable: str | None
    concurrency: int
    per_minute: float | None
    retries: int
    timeout: float
    omit: Sequence[str] | None

    @property
    def given(self) -> bool:
        """Whether servers are to answer."""
        return bool(self.endpoint or self.model_map or self.endpoint_map)

    def endpoints(self, lambdas: str | None, *, extrapolate: bool = False, grid: str = GRID) -> Endpoints:
        """The target of each λ, of `grid` where neither `lambdas` nor a file names them.

        Raises `MullError` where the options do not fit together.
        """
        from mull.engines.remote.endpoints import Endpoints
        from mull.merging.coefficients import parse_lambdas

        omit = self.omit or ()
        if self.endpoint_map is None:
            if self.endpoint is None or self.model_map is None:
                missing = "--endpoint" if self.endpoint is None else "--model-map"
                raise MullError(f"{missing} is missing", "give --endpoint URL --model-map 'name@{lambda}'")
            lams = parse_lambdas(lambdas or grid, extrapolate=extrapolate)
            return Endpoints.pattern(self.endpoint, self.model_map, lams, omit)
        if self.endpoint is not None or self.model_map is not None:
            raise MullError("--endpoint-map holds URLs and models already", "leave --endpoint and --model-map out")
        found = Endpoints.read(self.endpoint_map, extrapolate=extrapolate, omit=omit)
        return found if lambdas is None else found.only(parse_lambdas(lambdas, extrapolate=extrapolate))

    def engine(self, endpoints: Endpoints) -> RemoteEngine:
        """Raises `MullError` where the variable that should hold the key is not set."""
        import os

        from mull.engines.remote.engine import KEY_VARIABLE, RemoteEngine

        if self.key_variable and not os.environ.get(self.key_variable):
            raise MullError(f"the environment variable {self.key_variable} is not set", "put the API key into it")
        return RemoteEngine(
            endpoints,
            concurrency=self.concurrency,
            retries=self.retries,
            timeout=self.timeout,
            per_minute=self.per_minute,
            key_variable=self.key_variable or KEY_VARIABLE,
        )


_REQUESTS = ("key_variable", "concurrency", "per_minute", "retries", "timeout", "omit")


def refuse_requests(given: Mapping[str, str]) -> None:
    """Raise `MullError` for options (parameter → option) of requests, where no server is asked."""
    named = ", ".join(option for name, option in given.items() if name in _REQUESTS)
    if named:
        raise MullError(
            f"{named} is for servers, and none is named", "give --endpoint and --model-map, or leave it out"
        )


def refuse_local(given: Mapping[str, object]) -> None:
    """Raise `MullError` for options (name → whether it is set) that only checkpoints can obey."""
    named = ", ".join(option for option, is_set in given.items() if is_set)
    if named:
        raise MullError(f"{named} cannot be had from servers", "leave it out, or the endpoints")
