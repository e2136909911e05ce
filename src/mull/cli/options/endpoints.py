"""Options for responses from servers, and the endpoints that they name."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from mull.engines.remote.endpoints import OMITTABLE, Endpoints
from mull.errors import MullError
from mull.merging.coefficients import parse_lambdas
from mull.runs.sessions.loading import RemoteLoader

GRID = "0:1:0.1"
"""The default λ of a sweep."""


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """The servers that answer, and how requests are sent."""

    PANEL: ClassVar[str] = "Responses from servers, instead of checkpoints"

    endpoint: Annotated[
        str | None,
        typer.Option(
            help="Base URL of a server that speaks OpenAI's API; {lambda} in it stands for the λ.", metavar="URL"
        ),
    ] = None
    model_map: Annotated[str | None, typer.Option(help="Model to ask for, as in 'name@{lambda}'.", metavar="NAME")] = (
        None
    )
    endpoint_map: Annotated[
        Path | None, typer.Option(help="TOML file with the URL and model of each λ.", metavar="FILE")
    ] = None
    key_variable: Annotated[
        str | None,
        typer.Option(
            "--api-key-env",
            help="Environment variable that holds the API key (default: MULL_API_KEY, where it is set).",
            metavar="VARIABLE",
        ),
    ] = None
    concurrency: Annotated[int, typer.Option(help="Requests at the same time.", min=1)] = 16
    per_minute: Annotated[
        float | None,
        typer.Option("--requests-per-minute", help="Most requests per minute to one server.", min=0.001),
    ] = None
    retries: Annotated[
        int,
        typer.Option(help="Repetitions after temporary errors: 429, 5xx, timeouts, broken connections.", min=0),
    ] = 6
    timeout: Annotated[float, typer.Option(help="Seconds to wait for one response, all of it.", min=0.001)] = 3600.0
    stream: Annotated[
        bool,
        typer.Option(
            "--stream", help="Ask for responses piece by piece, for servers that only stream and proxies with timeouts."
        ),
    ] = False
    max_completion_tokens: Annotated[
        bool,
        typer.Option(
            "--max-completion-tokens",
            help="Send the token limit as max_completion_tokens, for servers that refuse max_tokens.",
        ),
    ] = False
    omit: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Do not send this field, which the server refuses: {', '.join(OMITTABLE)}. Repeatable.",
            metavar="FIELD",
        ),
    ] = None

    @property
    def given(self) -> bool:
        """Whether the options name servers."""
        return bool(self.endpoint or self.model_map or self.endpoint_map)

    def endpoints(self, lambdas: str | None, *, extrapolate: bool = False, grid: str = GRID) -> Endpoints:
        """The target of each λ in `lambdas`, else in the file, else in `grid`.

        Raises `MullError` if the options do not fit together.
        """
        omit = self.omit or ()
        if self.max_completion_tokens and "max_tokens" in omit:
            raise MullError("--omit max_tokens leaves the limit out under every name", "leave one of the two out")
        if self.endpoint_map is None:
            if self.endpoint is None or self.model_map is None:
                missing = "--endpoint" if self.endpoint is None else "--model-map"
                raise MullError(f"{missing} is missing", "give --endpoint URL --model-map 'name@{lambda}'")
            lams = parse_lambdas(grid if lambdas is None else lambdas, extrapolate=extrapolate)
            return Endpoints.pattern(self.endpoint, self.model_map, lams, omit)
        if self.endpoint is not None or self.model_map is not None:
            raise MullError("--endpoint-map holds URLs and models already", "leave --endpoint and --model-map out")
        found = Endpoints.read(self.endpoint_map, extrapolate=extrapolate, omit=omit)
        return found if lambdas is None else found.only(parse_lambdas(lambdas, extrapolate=extrapolate))

    def loader(self, endpoints: Endpoints) -> RemoteLoader:
        """The loader for these servers. Raises `MullError` if the variable for the API key is not set."""
        from mull.engines.remote.engine import KEY_VARIABLE, RemoteEngine  # imports httpx, which only servers need

        if self.key_variable and not os.environ.get(self.key_variable):
            raise MullError(f"the environment variable {self.key_variable} is not set", "put the API key into it")
        engine = RemoteEngine(
            endpoints,
            concurrency=self.concurrency,
            retries=self.retries,
            timeout=self.timeout,
            per_minute=self.per_minute,
            key_variable=self.key_variable or KEY_VARIABLE,
            stream=self.stream,
            limit_field="max_completion_tokens" if self.max_completion_tokens else "max_tokens",
        )
        return RemoteLoader(engine)
