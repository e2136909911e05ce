"""What `--model-loader-extra-config` says: both ends, and which of them is the donor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mull.checkpoints.pair import Side
from mull.errors import MullError

_EXAMPLE = """--model-loader-extra-config '{"instruct": "FOLDER", "thinking": "FOLDER"}'"""


@dataclass(frozen=True)
class Options:
    instruct: str
    """Folder or hub id."""
    thinking: str
    donor: Side
    """The end whose folder vLLM is started with: it gives config, tokenizer and template."""
    others: dict[str, Any]
    """What is meant for vLLM's own loader."""

    @classmethod
    def of(cls, extra: Mapping[str, Any] | Any) -> Options:
        """Raises `MullError` where an end is missing or the donor is none of them."""
        given = dict(extra) if isinstance(extra, Mapping) else {}
        missing = [end for end in ("instruct", "thinking") if not isinstance(given.get(end), str)]
        if missing:
            raise MullError(f"--load-format mull needs both ends, {' and '.join(missing)} missing", f"add {_EXAMPLE}")
        donor = given.pop("donor", "thinking")
        if donor not in ("instruct", "thinking"):
            raise MullError(f"there is no donor {donor!r}", "it is instruct or thinking")
        return cls(given.pop("instruct"), given.pop("thinking"), donor, given)

    @property
    def default_lambda(self) -> float:
        """The λ of requests that name none: the donor's own."""
        return float(self.donor == "thinking")
