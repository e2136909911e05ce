"""`mull serve`: an OpenAI-compatible server in which every request carries its own λ."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Annotated

import typer

from mull.api.progress.terminal import Terminal
from mull.benchmarks import load_benchmark
from mull.cli.options.common import consoles
from mull.cli.options.groups import grouped
from mull.cli.options.load import LoadOptions
from mull.cli.options.routes import HeadOption, RoutePairOptions, hashes, row_engine
from mull.engines.base import Sampling
from mull.errors import MullError

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
    *,
    under_load: LoadOptions,
    pair: RoutePairOptions,
) -> None:
    """Serve the pair by OpenAI's API: unmodified clients choose λ by model name, field or reasoning effort.

    A request's λ is, in this order: its field `lambda` (a number or "auto"), its model's name (`mull@0.6`,
    `mull@auto`), its `reasoning_effort`, or the default. All requests share one batch, whatever their λ. The thought is
    in `reasoning` and `reasoning_content`, the answer in `content`. With MULL_API_KEY in the environment clients must
    send that key. Under load the λ of auto may be lowered, never one that a client names.

    Examples:

    `mull serve`

    `curl localhost:8000/v1/chat/completions -H 'content-type: application/json' -d '{"model": "mull@0.6", "messages":
    [{"role": "user", "content": "What is the sum of 3 4 5 6 7?"}]}'`

    `mull serve --instruct A --thinking B --run sweep --head head.safetensors --estimator pref`

    `mull serve --instruct A --thinking B --run sweep --queue-from 32 --target-latency 30`
    """
    try:
        import uvicorn

        from mull.serving.app import application
        from mull.serving.backend import Limits, LocalBackend
        from mull.serving.known import Known, of_built_in, of_run
        from mull.serving.levels import Levels
        from mull.serving.load.control import LoadControl
        from mull.serving.playground.measured import measured as curves_of
        from mull.serving.playground.page import page
        from mull.serving.service import Service
    except ImportError as error:
        raise MullError(f"serving needs {error.name}", "install it: pip install 'mull[serve]'") from None
    from mull.dynamic.choosing import chooser_of, lam_of
    from mull.dynamic.head import Head

    began = time.perf_counter()
    _, stderr = consoles()
    observer = Terminal(stderr)
    trained = Head.open(head) if head else None
    chooser, form = chooser_of(trained, estimator)
    fixed = lam_of(default)
    policy = under_load.policy(waiting, timeout)
    listening = _listening(host, port)
    opened = pair.open()
    if trained is not None:
        trained.check(hashes(opened))
    known = of_run(run, hashes(opened)) if run else of_built_in() if pair.instruct is None else Known()
    if run is not None and known.efforts is None:
        observer.say(f"{run} shows no transition: efforts follow the published guideline")
    with observer.busy("loading the checkpoints"):
        engine = row_engine(opened, pair)
    limits = Limits(waiting=waiting, max_tokens=max_tokens, seconds=timeout)
    sampling = Sampling(max_tokens=max_tokens)
    backend = LocalBackend(engine, estimator=chooser, form=form, limits=limits, sampling=sampling)
    levels = Levels(model=name, default=fixed, **known.levels())
    control = LoadControl(policy, low=levels.efforts["low"], tokens=known.tokens)
    service = Service(backend, levels, limits=limits, sampling=sampling, undecided=known.undecided, load=control)
    key = os.environ.get(KEY) or None
    local = host in ("127.0.0.1", "localhost", "::1")
    if not local and key is None:
        observer.say(f"warning: anyone who reaches {host}:{port} can use this server. Set {KEY} to ask for a key")
    hosts = frozenset(each.lower() for each in allow_host or ()) if local or allow_host else None
    names = f"{opened.instruct.published_name} and {opened.thinking.published_name}"
    curves = curves_of(known.samples, known.stages, run.name) if run and known.stages else None
    examples = [] if pair.instruct else [question.text for question in load_benchmark("tiny").questions()[:3]]
    shown_at = page(levels, pair=names, measured=curves, keyed=key is not None, examples=examples)
    app = application(service, key=key, hosts=hosts, close=backend.close, page=shown_at if playground else None)
    shown = ", ".join(f"{effort} {lam:g}" for effort, lam in levels.efforts.items())
    observer.say(f"reasoning_effort: {shown} ({levels.measured})")
    if policy.active:
        observer.say(f"under load: {control.words()}")
    server = uvicorn.Server(
        uvicorn.Config(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=5, server_header=False)
    )
    url = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/v1"
    observer.say(f"ready after {time.perf_counter() - began:.1f} s; {url}, model {name!r}. Ctrl-C ends")
    server.run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    """A socket on that address; raises `MullError` if there can be none. Before the weights are loaded, so that nobody
    waits in vain."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        what = f"cannot listen on {host}:{port}: {error.strerror or error}"
        raise MullError(what, "give another --port, or --port 0 for any free one") from None
