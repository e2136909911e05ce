"""Arguments of vLLM that mull's user gives, and those that mull gives itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mull.errors import MullError

_OWN = {
    "model": "--instruct and --thinking name the checkpoints",
    "tokenizer": "--donor names the checkpoint that gives it",
    "dtype": "give --dtype",
    "trust_remote_code": "give --trust-remote-code",
    **dict.fromkeys(
        (
            "load_format", "quantization", "model_loader_extra_config", "weight_transfer_config", "skip_tokenizer_init",
            "generation_config", "enable_prefix_caching", "disable_log_stats", "served_model_name", "host", "port",
            "reasoning_parser",
        ),
        "leave it out: it is mull's",
    ),
}  # fmt: skip


def check(options: Mapping[str, Any]) -> None:
    """Raises `MullError` for an argument that is not the user's, with what to do instead."""
    for name in options:
        if name in _OWN:
            raise MullError(f"{name} cannot be given to vLLM here", _OWN[name])
