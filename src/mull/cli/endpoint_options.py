"""Options of `mull sweep` for responses from servers, and the endpoints they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mull.engines.endpoints import Endpoints

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


def endpoints_from(
    endpoint: str | None,
    model_map: str | None,
    endpoint_map: Path | None,
    lambdas: str | None,
    omit: Sequence[str],
    *,
    extrapolate: bool,
) -> Endpoints:
    """The target of each λ. Raises `MullError` where the options do not fit together."""
    from mull.engines.endpoints import Endpoints
    from mull.errors import MullError
    from mull.merging.coefficients import parse_lambdas

    if endpoint_map is None:
        if endpoint is None or model_map is None:
            missing = "--endpoint" if endpoint is None else "--model-map"
            raise MullError(f"{missing} is missing", "give --endpoint URL --model-map 'name@{lambda}'")
        return Endpoints.pattern(endpoint, model_map, parse_lambdas(lambdas or GRID, extrapolate=extrapolate), omit)
    if endpoint is not None or model_map is not None:
        raise MullError("--endpoint-map holds URLs and models already", "leave --endpoint and --model-map out")
    found = Endpoints.read(endpoint_map, extrapolate=extrapolate, omit=omit)
    return found if lambdas is None else found.only(parse_lambdas(lambdas, extrapolate=extrapolate))
