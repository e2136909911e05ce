"""The command line of a vLLM with mull's routes before its own, and the environment in which it must run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import NamedTuple

from mull.checkpoints.pair import Pair
from mull.engines.vllm.launch import NAME, serve
from mull.errors import MullError
from mull.serving.vllm.settings import VARIABLE, Settings

_GROUPS = ("general", "platform", "io_processor", "stat_logger")
_OWN = {
    "--model": "--instruct and --thinking name the pair",
    "--load-format": "it is mull's",
    "--quantization": "it is mull's",
    "-q": "it is mull's",
    "--reasoning-parser": "it is mull's, which knows answers without a thought",
    "--host": "give it before --",
    "--port": "give it before --",
    "--api-key": "set MULL_API_KEY",
    "--served-model-name": "give --name before --",
}
"""Options of vLLM that are set here, with what to do instead."""


class Command(NamedTuple):
    """What starts the server."""

    arguments: list[str]
    environment: dict[str, str]


def command(
    pair: Pair,
    settings: Settings,
    *,
    name: str,
    host: str,
    port: int,
    key: str | None,
    trust_remote_code: bool = False,
    extra: Sequence[str] = (),
    environment: Mapping[str, str] = os.environ,
) -> Command:
    """vLLM over the donor's folder, with both ends in every layer and mull's front before its routes.

    `extra`: further options of `vllm serve`. Raises `MullError` where there is no vLLM, one that was not tested, or an
    option that is set here.
    """
    for each in extra:
        option = each.partition("=")[0].replace("_", "-")
        if option in _OWN:
            raise MullError(f"{option} cannot be given to vLLM here", _OWN[option])
    arguments = serve(
        {"instruct": pair.instruct.folder, "thinking": pair.thinking.folder},
        pair.donor_side,
        name=name,
        host=host,
        port=port,
        trust_remote_code=trust_remote_code,
        extra=extra,
    )
    added = {"VLLM_PLUGINS": _plugins(environment.get("VLLM_PLUGINS")), VARIABLE: settings.encoded()}
    if key is not None:
        added["VLLM_API_KEY"] = key  # command lines can be seen by everybody on a machine
    return Command(arguments, {**environment, **added})


def _plugins(allowed: str | None) -> str:
    """The plugins that vLLM may load: those that it would load anyway, and mull's routes, which must be named."""
    if allowed is None:
        found = [each.name for group in _GROUPS for each in entry_points(group=f"vllm.{group}_plugins")]
    else:
        found = [each.strip() for each in allowed.split(",") if each.strip()]
    return ",".join(dict.fromkeys([*found, NAME]))
