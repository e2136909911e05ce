"""Which server is behind the API of `mull serve`: the engine of this process, vLLM, or servers elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, ClassVar

import typer

from mull.errors import MullError

UPSTREAM_KEY = "MULL_UPSTREAM_KEY"
"""Environment variable of the key that the proxy sends to the servers behind it."""


class Engine(StrEnum):
    """What generates the responses."""

    local = "local"
    vllm = "vllm"


@dataclass(frozen=True, kw_only=True)
class BehindOptions:
    """What generates the responses."""

    PANEL: ClassVar[str] = "Engine (default: this process)"

    engine: Annotated[Engine, typer.Option(help="vllm: start vLLM with mull's plugin; options for it after --.")] = (
        Engine.local
    )
    upstream: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Be a proxy before this server, a vLLM with mull's plugin, or any with a model for each λ (see "
            f"--upstream-model). Repeatable. Its key: {UPSTREAM_KEY}.",
            metavar="URL",
        ),
    ] = None
    upstream_model: Annotated[
        str | None,
        typer.Option(
            help="The pair's name there (default: the first it lists). With {lambda} in it, as in 'mull@{lambda}': a "
            "model for each λ, as adapters of `mull extract-delta --levels` or merged checkpoints.",
            metavar="NAME",
        ),
    ] = None

    def check(self, given: Mapping[str, str], vllm_args: Sequence[str] | None, *, folders: bool, auto: bool) -> None:
        """Raise `MullError` for options that would have no effect, or lack what they need.

        `given`: see `given_options`. `folders`: whether checkpoints are given. `auto`: whether λ is chosen by default.
        """
        if vllm_args and self.engine is not Engine.vllm:
            raise MullError(f"{vllm_args[0]!r} is an option for vLLM", "give --engine vllm, too, or leave it out")
        if self.upstream and self.engine is Engine.vllm:
            raise MullError("--engine vllm does not go with --upstream", "start vLLM and the proxy by a command each")
        if self.upstream_model is not None and not self.upstream:
            raise MullError("--upstream-model needs --upstream", "leave it out, or give --upstream URL")
        mode, refused = ("--upstream", _PROXY) if self.upstream else ("--engine vllm", _VLLM)
        if not self.upstream and self.engine is not Engine.vllm:
            return
        wrong = next((name for name in given if name in refused), None)
        if wrong is not None:
            raise MullError(f"{given[wrong]} has no effect with {mode}", refused[wrong])
        if self.engine is Engine.vllm and "queue_from" in given and "queue_full" not in given:
            raise MullError("vLLM takes any number of requests, so that λ would never be lowest", "give --queue-full")
        wanting = given.get("run") or given.get("head") or ("--lambda auto" if auto else None)
        wanting = wanting or given.get("queue_from") or given.get("target_latency")
        if self.upstream and not folders and wanting:
            remedy = "give --instruct and --thinking, or a --lambda from 0 to 1" if auto else "give both"
            raise MullError(f"{wanting} needs the folders of both checkpoints: tokenizer, template, hashes", remedy)


_LIMIT = "leave it out; the server behind has a limit of its own"
_LOCAL = "leave it out; it belongs to the engine of this process"
_BOTH = {
    "max_tokens": _LIMIT,
    "prefix_cache": _LOCAL,
}
_PROXY = {**_BOTH, "device": "leave it out; the servers behind have the weights"}
_VLLM = {
    **_BOTH,
    "waiting": "leave it out; vLLM queues requests, see its --max-num-seqs",
    "timeout": "leave it out; vLLM has no limit of time for a response",
    "device": "leave it out; vLLM chooses the device",
}
