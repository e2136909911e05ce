"""`mull serve`: an OpenAI-compatible server in which every request carries its own λ."""

from __future__ import annotations

import math
import os
import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mull.api.progress.terminal import Terminal
from mull.cli.options.answering import AnsweringOptions
from mull.cli.options.behind import UPSTREAM_KEY, BehindOptions, Engine
from mull.cli.options.common import consoles, given_options
from mull.cli.options.groups import grouped
from mull.cli.options.load import LoadOptions
from mull.cli.options.routes import row_engine
from mull.cli.rendering.logs import complain
from mull.engines.base import Sampling
from mull.engines.remote.endpoints import PLACE
from mull.errors import MullError

KEY = "MULL_API_KEY"
"""Environment variable of the key that clients must send."""


@grouped
def serve(
    name: Annotated[str, typer.Option(help="The pair's name for clients: name@λ.", metavar="NAME")] = "mull",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0: any free one.", min=0, max=65535)] = 8000,
    *,
    answering: AnsweringOptions,
    run: Annotated[
        Path | None,
        typer.Option(
            help="A finished sweep of this pair: its stages give the λ of reasoning_effort, the playground shows it.",
            metavar="DIR",
        ),
    ] = None,
    waiting: Annotated[int, typer.Option(help="Responses under way or waiting; more get 429.", min=1)] = 256,
    timeout: Annotated[float, typer.Option(help="Seconds that a response may take.", min=1)] = 600.0,
    prefix_cache: Annotated[
        int | None,
        typer.Option(
            help="Most memory that keeps texts for later turns of their conversations; 0: none. Default: a quarter of "
            "the memory for keys and values, which is the limit, too.",
            metavar="MIB",
            min=0,
            show_default=False,
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A host name by which clients may call, besides localhost. Repeatable.")
    ] = None,
    playground: Annotated[bool, typer.Option(help="Whether / is a page on which to ask and to compare λ.")] = True,
    vllm_args: Annotated[
        list[str] | None,
        typer.Argument(help="Options of `vllm serve`, after --; with --engine vllm.", metavar="[-- VLLM OPTIONS]"),
    ] = None,
    under_load: LoadOptions,
    behind: BehindOptions,
    context: typer.Context,
) -> None:
    """Serve the pair by OpenAI's API: unmodified clients choose λ by model name, field or reasoning effort.

    A request's λ is, in this order: its field `lambda` (a number or "auto"), its model's name (`mull@0.6`,
    `mull@auto`), its `reasoning_effort`, or the default. All requests share one batch, whatever their λ. The thought is
    in `reasoning` and `reasoning_content`, the answer in `content`. With MULL_API_KEY in the environment clients must
    send that key. Under load the λ of auto may be lowered, never one that a client names.

    By default the engine is this process. `--engine vllm` starts vLLM instead, with mull's plugin and these routes in
    it. `--upstream URL`, once for each server, is a proxy before a fleet of such servers, or before their balancer.
    It needs the checkpoints' folders, without their weights, only for auto, --run and --head; a head reads hidden
    states, and for that the proxy loads the end that it asks for. With `--upstream-model 'mull@{lambda}'` the servers
    need not know mull, but have a model for each λ.

    Examples:

    `mull serve`

    `curl localhost:8000/v1/chat/completions -H 'content-type: application/json' -d '{"model": "mull@0.6", "messages":
    [{"role": "user", "content": "What is the sum of 3 4 5 6 7?"}]}'`

    `mull serve --instruct A --thinking B --run sweep --head head.safetensors --estimator pref`

    `mull serve --instruct A --thinking B --run sweep --queue-from 32 --target-latency 30`

    `mull serve --engine vllm --instruct A --thinking B -- --tensor-parallel-size 2`

    `mull serve --upstream http://gpu-1:8000 --upstream http://gpu-2:8000 --lambda 0.6`

    `mull serve --upstream http://gpu-1:8000 --upstream-model 'mull@{lambda}' --lambda 0.6`
    """
    folders = answering.pair.instruct is not None or answering.pair.thinking is not None
    behind.check(given_options(context), vllm_args, folders=folders, auto=answering.default == "auto")
    try:
        from mull.dynamic.choosing import chooser_of, lam_of
        from mull.serving.app import guarded
        from mull.serving.backend import Limits, LocalBackend
        from mull.serving.front.opening import open_front
        from mull.serving.known import Known, of_built_in, of_run
        from mull.serving.levels import Levels, number
        from mull.serving.load.control import LoadControl
        from mull.serving.opening import page_of
        from mull.serving.playground.page import page
        from mull.serving.router import router_of
        from mull.serving.running import listening, run_app, url_of
        from mull.serving.service import Service
        from mull.serving.upstream.forwarder import Forwarder, Upstream
        from mull.serving.upstream.opening import base_name, lambdas_behind, proxy_router
        from mull.serving.vllm.launch import command
        from mull.serving.vllm.settings import ANY, Settings
    except ImportError as error:
        raise MullError(f"serving needs {error.name}", "install it: pip install 'mull[serve]'") from None

    began = time.perf_counter()
    _, stderr = consoles()
    observer = Terminal(stderr)
    policy = under_load.policy(*((ANY, math.inf) if behind.engine is Engine.vllm else (waiting, timeout)))
    listener = listening(host, port)
    if behind.upstream and not folders:
        pair, lam, (estimator, form) = None, lam_of(answering.default), chooser_of(None, "conf")
    else:
        pair, lam, estimator, form = answering.open()
    built_in = pair is not None and not folders
    known = of_run(run, pair.fingerprints) if run and pair else of_built_in() if built_in else Known()
    if run is not None and known.efforts is None:
        observer.say(f"{run} shows no transition: efforts follow the published guideline")
    key = os.environ.get(KEY) or None
    local = host in ("127.0.0.1", "localhost", "::1")
    if not local and key is None:
        complain(f"warning: anyone who reaches {host}:{port} can use this server. Set {KEY} to ask for a key")
    hosts = frozenset(each.lower() for each in allow_host or ()) if local or allow_host else None
    trust = answering.pair.trust_remote_code
    levels = Levels(model=name, default=lam, auto=pair is not None, **known.levels())
    control = LoadControl(policy, low=levels.efforts["low"], tokens=known.tokens)
    if behind.engine is Engine.vllm and pair is not None:
        settings = Settings(
            lam=lam,
            head=str(answering.head.absolute()) if answering.head else None,
            estimator=answering.estimator,
            run=str(run.absolute()) if run else None,
            hosts=None if hosts is None else tuple(sorted(hosts)),
            playground=playground,
            load=policy,
        )
        if policy.active:
            observer.say(f"under load: {control.words()}")
        port = listener.getsockname()[1]
        vllm = command(
            pair, settings, name=name, host=host, port=port, key=key, trust_remote_code=trust, extra=vllm_args or []
        )
        observer.say(f"vLLM starts; it will answer at {url_of(host, listener)}, model {name!r}")
        listener.close()
        os.execvpe(vllm.arguments[0], vllm.arguments, vllm.environment)
    limits = Limits(waiting=waiting, max_tokens=answering.max_tokens, seconds=timeout)
    if behind.upstream:
        upstream_key = os.environ.get(UPSTREAM_KEY) or None
        upstreams = [Upstream(url) for url in behind.upstream]
        base = behind.upstream_model or base_name(upstreams, upstream_key)
        if PLACE in base:
            levels = levels.among(lambdas_behind(upstreams, upstream_key, base))
            observer.say(f"λ behind: {', '.join(map(number, levels.only))}")
        forwarder = Forwarder(upstreams, key=upstream_key, seconds=timeout)
        front = open_front(
            forwarder,
            base,
            levels,
            known.undecided,
            pair,
            estimator,
            form,
            limits,
            load=control,
            trust_remote_code=trust,
        )
        routes, close, end = partial(proxy_router, front, forwarder), forwarder.close, lambda: None
    else:
        assert pair is not None
        with observer.busy("loading the checkpoints"):
            engine = row_engine(pair, answering.pair)
        sampling = Sampling(max_tokens=answering.max_tokens)
        kept = None if prefix_cache is None else prefix_cache << 20
        backend = LocalBackend(
            engine, estimator=estimator, form=form, limits=limits, sampling=sampling, prefix_bytes=kept
        )
        service = Service(backend, levels, limits=limits, sampling=sampling, undecided=known.undecided, load=control)
        routes, close, end = partial(router_of, service), backend.close, backend.close
    keyed = key is not None
    shown_at = page_of(pair, levels, known, keyed=keyed) if pair else page(levels, pair="a pair elsewhere", keyed=keyed)
    app = guarded(routes(shown_at if playground else None), key=key, hosts=hosts, close=close)
    shown = ", ".join(f"{effort} {lam:g}" for effort, lam in levels.efforts.items())
    observer.say(f"reasoning_effort: {shown} ({levels.measured})")
    if policy.active:
        observer.say(f"under load: {control.words()}")
    url = url_of(host, listener)
    observer.say(f"ready after {time.perf_counter() - began:.1f} s; {url}, model {name!r}. Ctrl-C ends")
    run_app(app, host, listener, end)
