"""Opens a pair as a service, or as routes for somebody else's application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from fastapi import APIRouter, FastAPI

from mull.benchmarks import load_benchmark
from mull.checkpoints.pair import Pair
from mull.dynamic.choosing import chooser_of
from mull.dynamic.head import Head
from mull.engines.base import Sampling
from mull.engines.local.opening import open_rows
from mull.errors import MullError
from mull.serving.backend import Limits, LocalBackend
from mull.serving.known import Known, of_built_in, of_run
from mull.serving.levels import Levels
from mull.serving.load.control import LoadControl, LoadPolicy
from mull.serving.playground.measured import measured
from mull.serving.playground.page import Page, page
from mull.serving.router import router_of
from mull.serving.service import Service


class Opened(NamedTuple):
    """A pair behind the API, and what its playground shows."""

    service: Service
    pair: Pair
    known: Known


def open_pair(
    instruct: str | Path | None = None,
    thinking: str | Path | None = None,
    *,
    name: str = "mull",
    lam: float | None = None,
    head: str | Path | None = None,
    estimator: str = "conf",
    run: str | Path | None = None,
    efforts: Mapping[str, float] | None = None,
    limits: Limits | None = None,
    sampling: Sampling | None = None,
    load: LoadPolicy | None = None,
    prefix_bytes: int | None = None,
    device: str = "auto",
    trust_remote_code: bool = False,
) -> Opened:
    """The pair of both checkpoints (folders or hub ids; by default the built-in one) behind the API. Loads the weights.

    `name`: the model's name for clients. `lam`: λ of requests that ask for none; None: `estimator` chooses it, one of
    the `head` (a file of `mull route train`) if that is given. `run`: a sweep of the pair, whose transition gives the
    efforts and says which streams must wait. `efforts`: λ of each `reasoning_effort`, in place of those. `sampling`:
    the defaults of requests. `load`: when the λ of `auto` is lowered; by default never. `prefix_bytes`: the most memory
    that keeps texts for later turns of their conversations; None: a quarter of that for keys and values. Raises
    `MullError` for what is no pair, and for a head of another one.
    """
    if (instruct is None) != (thinking is None):
        raise MullError("one checkpoint is missing", "give both, or neither for the built-in pair")
    pair = Pair.built_in() if instruct is None else Pair.open(str(instruct), str(thinking))
    pair.check()
    trained = Head.open(Path(head)) if head else None
    chooser, form = chooser_of(trained, estimator)
    if trained is not None:
        trained.check(pair.fingerprints)
    known = of_run(Path(run), pair.fingerprints) if run else of_built_in() if instruct is None else Known()
    if efforts:
        known = replace(known, efforts=efforts, source="chosen by the server's owner")
    limits = limits or Limits()
    sampling = sampling or Sampling(max_tokens=limits.max_tokens)
    policy = (load or LoadPolicy()).within(limits.waiting, limits.seconds)
    levels = Levels(model=name, default=lam, **known.levels())
    engine = open_rows(pair, device=device, trust_remote_code=trust_remote_code)
    backend = LocalBackend(
        engine, estimator=chooser, form=form, limits=limits, sampling=sampling, prefix_bytes=prefix_bytes
    )
    control = LoadControl(policy, low=levels.efforts.get("low", 0.0), tokens=known.tokens)
    service = Service(backend, levels, limits=limits, sampling=sampling, undecided=known.undecided, load=control)
    return Opened(service, pair, known)


def open_service(instruct: str | Path | None = None, thinking: str | Path | None = None, **options: Any) -> Service:
    """The pair behind the API, without routes. `options` are those of `open_pair`."""
    return open_pair(instruct, thinking, **options).service


def open_router(
    instruct: str | Path | None = None,
    thinking: str | Path | None = None,
    *,
    playground: bool = True,
    **options: Any,
) -> APIRouter:
    """The routes, for `include_router`, with or without a prefix. `options` are those of `open_pair`.

    `playground`: whether the router's root is a page on which to ask; it is at `PREFIX/`. The engine ends with the
    application. Host names, keys and errors of other routes are the application's own affair.
    """
    service, pair, known = open_pair(instruct, thinking, **options)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        if isinstance(service.backend, LocalBackend):
            service.backend.close()

    router = APIRouter(lifespan=lifespan)
    router.include_router(router_of(service, page_of(pair, service.levels, known) if playground else None))
    return router


def page_of(pair: Pair, levels: Levels, known: Known, *, keyed: bool = False) -> Page:
    """The playground of `pair`. `keyed`: whether the API asks for a key."""
    return page(
        levels,
        pair=f"{pair.instruct.published_name} and {pair.thinking.published_name}",
        measured=measured(known.samples, known.stages, known.run) if known.stages else None,
        keyed=keyed,
        examples=[question.text for question in load_benchmark("tiny").questions()[:3]] if known.built_in else [],
    )
