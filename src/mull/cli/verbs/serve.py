"""`mull serve`: an OpenAI-compatible server in which every request carries its own λ."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Annotated

import typer

from mull.cli.options.answering import AnsweringOptions
from mull.cli.options.common import consoles
from mull.cli.options.groups import grouped
from mull.cli.options.load import LoadOptions
from mull.cli.options.routes import row_engine
from mull.cli.rendering.observer import Terminal
from mull.engines.base import Sampling
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
    under_load: LoadOptions,
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
        from mull.serving.opening import page_of
        from mull.serving.service import Service
    except ImportError as error:
        raise MullError(f"serving needs {error.name}", "install it: pip install 'mull[serve]'") from None

    began = time.perf_counter()
    _, stderr = consoles()
    observer = Terminal(stderr)
    policy = under_load.policy(waiting, timeout)
    listening = _listening(host, port)
    pair, lam, estimator, form = answering.open()
    built_in = answering.pair.instruct is None
    known = of_run(run, pair.fingerprints) if run else of_built_in() if built_in else Known()
    if run is not None and known.efforts is None:
        observer.say(f"{run} shows no transition: efforts follow the published guideline")
    with observer.busy("loading the checkpoints"):
        engine = row_engine(pair, answering.pair)
    limits = Limits(waiting=waiting, max_tokens=answering.max_tokens, seconds=timeout)
    sampling = Sampling(max_tokens=answering.max_tokens)
    kept = None if prefix_cache is None else prefix_cache << 20
    backend = LocalBackend(engine, estimator=estimator, form=form, limits=limits, sampling=sampling, prefix_bytes=kept)
    levels = Levels(model=name, default=lam, **known.levels())
    control = LoadControl(policy, low=levels.efforts["low"], tokens=known.tokens)
    service = Service(backend, levels, limits=limits, sampling=sampling, undecided=known.undecided, load=control)
    key = os.environ.get(KEY) or None
    local = host in ("127.0.0.1", "localhost", "::1")
    if not local and key is None:
        observer.say(f"warning: anyone who reaches {host}:{port} can use this server. Set {KEY} to ask for a key")
    hosts = frozenset(each.lower() for each in allow_host or ()) if local or allow_host else None
    page = page_of(pair, levels, known, keyed=key is not None) if playground else None
    app = application(service, key=key, hosts=hosts, close=backend.close, page=page)
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
