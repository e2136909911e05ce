"""The front inside `vllm serve`: an entry point of the group `vllm.endpoint_plugins`, loaded if VLLM_PLUGINS names it.

vLLM's own routes go on behind the front's: tools, formats, logprobs, metrics and all else are vLLM's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from mull.checkpoints.pair import Pair
from mull.dynamic.choosing import chooser_of
from mull.dynamic.head import Head
from mull.serving.app import Guard
from mull.serving.backend import Limits
from mull.serving.front.front import Front
from mull.serving.front.opening import open_front
from mull.serving.front.router import front_router
from mull.serving.known import Known, of_built_in, of_run
from mull.serving.levels import Levels
from mull.serving.load.control import LoadControl
from mull.serving.opening import page_of
from mull.serving.playground.page import Page
from mull.serving.vllm.settings import ANY, Settings

NAME = "mull"


class FrontPlugin:
    """See `vllm.plugins.endpoint_plugins.interface.EndpointPlugin`."""

    name = NAME
    required_tasks = ("generate",)

    def attach_router(self, app: FastAPI) -> None:
        """Puts the front before vLLM's routes, if vLLM was started with both ends of a pair."""
        args = app.state.args
        if args.load_format != NAME:
            return
        settings = Settings.read()
        front, shown = _opened(_behind(app), args, settings)
        # Not `include_router`: vLLM replaces routes of the same path by those that stand singly among the app's.
        app.router.routes.extend(front_router(front, _behind(app), shown).routes)
        if settings.hosts is not None:
            app.add_middleware(Guard, key=None, hosts=frozenset(settings.hosts))  # type: ignore[arg-type]

    async def init_state(self, engine_client: Any, state: Any, args: Any) -> None:
        """Nothing: the front reaches the engine by vLLM's routes."""


def _behind(app: FastAPI) -> FastAPI:
    """vLLM's routes as they are now, with its state and its error replies, which it sets later."""
    inner = FastAPI(openapi_url=None)
    inner.router.routes[:] = app.router.routes
    inner.state, inner.exception_handlers = app.state, app.exception_handlers
    return inner


def _opened(inner: FastAPI, args: Any, settings: Settings) -> tuple[Front, Page | None]:
    """Raises `MullError` for what is no pair, or a head or run of another one."""
    extra = args.model_loader_extra_config or {}
    given: Mapping[str, Any] = json.loads(extra) if isinstance(extra, str) else extra
    pair = Pair.open(given["instruct"], given["thinking"], donor=given.get("donor", "thinking"))
    trained = Head.open(Path(settings.head)) if settings.head else None
    if trained is not None:
        trained.check(pair.fingerprints)
    chooser, form = chooser_of(trained, settings.estimator)
    built_in = pair.fingerprints == Pair.built_in().fingerprints
    known = of_run(Path(settings.run), pair.fingerprints) if settings.run else of_built_in() if built_in else Known()
    base = args.served_model_name[0] if args.served_model_name else args.model
    levels = Levels(model=base, default=settings.lam, **known.levels())
    limits = Limits(waiting=ANY)
    trust = bool(args.trust_remote_code)
    load = LoadControl(settings.load, low=levels.efforts["low"], tokens=known.tokens)
    front = open_front(
        inner, base, levels, known.undecided, pair, chooser, form, limits, load=load, trust_remote_code=trust
    )
    keyed = bool(args.api_key or os.environ.get("VLLM_API_KEY"))
    return front, page_of(pair, levels, known, keyed=keyed) if settings.playground else None
