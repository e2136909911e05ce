"""What `mull serve --engine vllm` tells the front in vLLM's process, whose plugins have no options of their own."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from mull.errors import MullError
from mull.serving.load.control import LoadPolicy

ANY = 1 << 30
"""Requests that vLLM takes at a time: it queues them."""
VARIABLE = "MULL_FRONT"
"""Environment variable of the settings, as JSON."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Those of `mull serve` that concern the front."""

    lam: float | None = None
    """λ of requests that ask for none; None: auto."""
    head: str | None = None
    estimator: str = "conf"
    run: str | None = None
    hosts: tuple[str, ...] | None = None
    """The host names by which it may be called, besides localhost and addresses; None: any."""
    playground: bool = True
    load: LoadPolicy = field(default_factory=LoadPolicy)

    def encoded(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Those of the environment, by default the defaults. Raises `MullError` for what is none."""
        try:
            given = json.loads(environment.get(VARIABLE) or "{}")
            hosts, load = given.pop("hosts", None), LoadPolicy(**given.pop("load", {}))
            return cls(**given, hosts=None if hosts is None else tuple(map(str, hosts)), load=load)
        except (ValueError, TypeError, AttributeError) as error:
            raise MullError(f"the environment variable {VARIABLE} cannot be read: {error}", "unset it") from None
