"""`mull serve`: an OpenAI-compatible server in which every request carries its own λ."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mull.benchmarks import load_benchmark
from mull.cli.options.behind import UPSTREAM_KEY, BehindOptions, Engine
from mull.cli.options.common import consoles, given_options
from mull.cli.options.groups import grouped
from mull.cli.options.routes import HeadOption, RoutePairOptions, hashes, row_engine
from mull.cli.rendering.observer import Terminal
from mull.engines.base import Sampling
from mull.errors import MullError
from mull.words import listed

KEY = "MULL_API_KEY"
"""Environment variable of the key that clients must send."""


@grouped
def serve(
    name: Annotated[str, typer.Option(help="The pair's name for clients: name@λ.", metavar="NAME")] = "mull",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0: any free one.", min=0, max=65535)] = 8000,
    default: Annotated[
        str, typer.Option("--lambda", help="λ of requests that ask for none: a number, or auto.", metavar="λ")
    ] = "auto",
    run: Annotated[
        Path | None,
        typer.Option(
            help="A finished sweep of this pair: its stages give the λ of reasoning_effort, the playground shows it.",
            metavar="DIR",
        ),
    ] = None,
    head: HeadOption = None,
    estimator: Annotated[
        str, typer.Option(help="Chooses λ for auto: conf, or one of the head's.", metavar="NAME")
    ] = "conf",
    max_tokens: Annotated[int, typer.Option(help="Most tokens of a response that gives no limit.", min=1)] = 2048,
    waiting: Annotated[int, typer.Option(help="Responses under way or waiting; more get 429.", min=1)] = 256,
    timeout: Annotated[float, typer.Option(help="Seconds that a response may take.", min=1)] = 600.0,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A host name by which clients may call, besides localhost. Repeatable.")
    ] = None,
    playground: Annotated[bool, typer.Option(help="Whether / is a page on which to ask and to compare λ.")] = True,
    vllm_args: Annotated[
        list[str] | None,
        typer.Argument(help="Options of `vllm serve`, after --; with --engine vllm.", metavar="[-- VLLM OPTIONS]"),
    ] = None,
    *,
    behind: BehindOptions,
    pair: RoutePairOptions,
    context: typer.Context,
) -> None:
    """Serve the pair by OpenAI's API: unmodified clients choose λ by model name, field or reasoning effort.

    A request's λ is, in this order: its field `lambda` (a number or "auto"), its model's name (`mull@0.6`,
    `mull@auto`), its `reasoning_effort`, or the default. All requests share one batch, whatever their λ. The thought is
    in `reasoning` and `reasoning_content`, the answer in `content`. With MULL_API_KEY in the environment clients must
    send that key.

    By default the engine is this process. `--engine vllm` starts vLLM instead, with mull's plugin and these routes in
    it. `--upstream URL`, once for each server, is a proxy before a fleet of such servers, or before their balancer.
    It needs the checkpoints' folders, without their weights, only for auto, --run and --head; a head reads hidden
    states, and for that the proxy loads the end that it asks for.

    Examples:

    `mull serve`

    `curl localhost:8000/v1/chat/completions -H 'content-type: application/json' -d '{"model": "mull@0.6", "messages":
    [{"role": "user", "content": "What is the sum of 3 4 5 6 7?"}]}'`

    `mull serve --instruct A --thinking B --run sweep --head head.safetensors --estimator pref`

    `mull serve --engine vllm --instruct A --thinking B -- --tensor-parallel-size 2`

    `mull serve --upstream http://gpu-1:8000 --upstream http://gpu-2:8000 --lambda 0.6`
    """
    folders = pair.instruct is not None or pair.thinking is not None
    behind.check(given_options(context), vllm_args, folders=folders, auto=default == "auto")
    try:
        from mull.serving.app import guarded
        from mull.serving.backend import Limits, LocalBackend
        from mull.serving.front.opening import open_front
        from mull.serving.known import Known, of_built_in, of_run
        from mull.serving.levels import Levels
        from mull.serving.playground.measured import measured as curves_of
        from mull.serving.playground.page import page
        from mull.serving.router import router_of
        from mull.serving.running import listening, run_app, url_of
        from mull.serving.service import Service
        from mull.serving.upstream.forwarder import Forwarder, Upstream
        from mull.serving.upstream.opening import base_name, proxy_router
        from mull.serving.vllm.launch import command
        from mull.serving.vllm.settings import Settings
    except ImportError as error:
        raise MullError(f"serving needs {error.name}", "install it: pip install 'mull[serve]'") from None
    from mull.dynamic.head import Head
    from mull.serving.choosing import chooser_of, lam_of

    began = time.perf_counter()
    _, stderr = consoles()
    observer = Terminal(stderr)
    trained = Head.open(head) if head else None
    chooser, form = chooser_of(trained, estimator)
    fixed = lam_of(default)
    listener = listening(host, port)
    opened = None if behind.upstream and not folders else pair.open()
    if trained is not None and opened is not None:
        trained.check(hashes(opened))
    built_in = opened is not None and not folders
    known = of_run(run, hashes(opened)) if run and opened else of_built_in() if built_in else Known()
    if run is not None and known.efforts is None:
        observer.say(f"{run} shows no transition: efforts follow the published guideline")
    key = os.environ.get(KEY) or None
    local = host in ("127.0.0.1", "localhost", "::1")
    if not local and key is None:
        observer.say(f"warning: anyone who reaches {host}:{port} can use this server. Set {KEY} to ask for a key")
    hosts = frozenset(each.lower() for each in allow_host or ()) if local or allow_host else None
    if behind.engine is Engine.vllm and opened is not None:
        settings = Settings(
            lam=fixed,
            head=str(head.absolute()) if head else None,
            estimator=estimator,
            run=str(run.absolute()) if run else None,
            hosts=None if hosts is None else tuple(sorted(hosts)),
            playground=playground,
        )
        trust, port = pair.trust_remote_code, listener.getsockname()[1]
        vllm = command(
            opened, settings, name=name, host=host, port=port, key=key, trust_remote_code=trust, extra=vllm_args or []
        )
        observer.say(f"vLLM starts; it will answer at {url_of(host, listener)}, model {name!r}")
        listener.close()
        os.execvpe(vllm.arguments[0], vllm.arguments, vllm.environment)
    limits = Limits(waiting=waiting, max_tokens=max_tokens, seconds=timeout)
    if behind.upstream:
        levels = Levels(model=name, default=fixed, auto=opened is not None, **known.levels())
        upstream_key = os.environ.get(UPSTREAM_KEY) or None
        upstreams = [Upstream(url) for url in behind.upstream]
        base = behind.upstream_model or base_name(upstreams, upstream_key)
        forwarder = Forwarder(upstreams, key=upstream_key, seconds=timeout)
        trust = pair.trust_remote_code
        front = open_front(
            forwarder, base, levels, known.undecided, opened, chooser, form, limits, trust_remote_code=trust
        )
        routes, close = partial(proxy_router, front, forwarder), forwarder.close
        names = f"{base} at {listed([upstream.url for upstream in upstreams])}"
    else:
        assert opened is not None
        with observer.busy("loading the checkpoints"):
            engine = row_engine(opened, pair)
        sampling = Sampling(max_tokens=max_tokens)
        backend = LocalBackend(engine, estimator=chooser, form=form, limits=limits, sampling=sampling)
        levels = Levels(model=name, default=fixed, **known.levels())
        service = Service(backend, levels, limits=limits, sampling=sampling, undecided=known.undecided)
        routes, close = partial(router_of, service), backend.close
        names = f"{opened.instruct.published_name} and {opened.thinking.published_name}"
    curves = curves_of(known.samples, known.stages, run.name) if run and known.stages else None
    examples = [question.text for question in load_benchmark("tiny").questions()[:3]] if built_in else []
    shown_at = page(levels, pair=names, measured=curves, keyed=key is not None, examples=examples)
    app = guarded(routes(shown_at if playground else None), key=key, hosts=hosts, close=close)
    shown = ", ".join(f"{effort} {lam:g}" for effort, lam in levels.efforts.items())
    observer.say(f"reasoning_effort: {shown} ({levels.measured})")
    url = url_of(host, listener)
    observer.say(f"ready after {time.perf_counter() - began:.1f} s; {url}, model {name!r}. Ctrl-C ends")
    run_app(app, host, listener)
