"""`Pair`: an Instruct and a Thinking checkpoint of one model, aligned tensor by tensor.

What makes a pair mixable or not is in findings.py; this file aligns and refuses.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Literal, NamedTuple

from mull.checkpoints.checkpoint import HEAD, Checkpoint
from mull.checkpoints.findings import CAN_ALLOW, Finding, find
from mull.checkpoints.headers import TensorInfo
from mull.errors import MullError, Refused, nearest

Side = Literal["instruct", "thinking"]


class PairedTensor(NamedTuple):
    """One parameter of the merged model and where it comes from."""

    name: str
    instruct: TensorInfo
    thinking: TensorInfo
    donor: TensorInfo
    """The side that gives name, shape and dtype."""
    shared: int
    """Leading elements that both sides have: all of them, or fewer where only padding rows of the vocabulary differ."""


class Pair:
    """Instruct and Thinking, optionally Base; `donor` gives the non-weight files and the tensor layout.

    Example:
        >>> pair = Pair.open("Qwen/Qwen3-4B-Instruct-2507", "Qwen/Qwen3-4B-Thinking-2507")
        >>> warnings = pair.check()  # raises Refused if the two cannot be mixed
    """

    def __init__(
        self, instruct: Checkpoint, thinking: Checkpoint, base: Checkpoint | None = None, *, donor: Side = "thinking"
    ) -> None:
        self.instruct = instruct
        self.thinking = thinking
        self.base = base
        self.donor_side: Side = donor

    @classmethod
    def open(cls, instruct: str, thinking: str, base: str | None = None, *, donor: Side = "thinking") -> Pair:
        """Open all sides (folders or hub ids)."""
        return cls(
            Checkpoint.open(instruct), Checkpoint.open(thinking), Checkpoint.open(base) if base else None, donor=donor
        )

    @property
    def donor(self) -> Checkpoint:
        return self.thinking if self.donor_side == "thinking" else self.instruct

    def findings(self, allow: Iterable[str] = ()) -> list[Finding]:
        """All that was compared, refusals first; reads headers and small files only.

        Refusals whose code is in `allow` become warnings. Raises MullError for a code that cannot be overruled.
        """
        allowed = set(allow)
        for code in sorted(allowed - CAN_ALLOW):
            raise MullError(f"{code!r} is no refusal that can be overruled", nearest(code, CAN_ALLOW))
        order = {"refuse": 0, "warn": 1, "same": 2}
        found = find(self.instruct, self.thinking, self.donor)
        if self.base is not None:
            found += [
                finding._replace(what=_as_base(finding.what))
                for finding in find(self.base, self.donor, self.donor, base=True)
                if finding.severity != "same"
            ]
        found = [f._replace(severity="warn") if f.severity == "refuse" and f.code in allowed else f for f in found]
        return sorted(found, key=lambda finding: order[finding.severity])

    def check(self, allow: Iterable[str] = ()) -> list[Finding]:
        """The warnings of a mixable pair; `allow` as in `findings`.

        Raises:
            Refused: the pair cannot be mixed; every reason is named.
        """
        findings = self.findings(allow)
        refusals = [finding for finding in findings if finding.severity == "refuse"]
        if refusals:
            reasons = "; ".join(finding.what for finding in refusals)
            remedies = dict.fromkeys(finding.remedy for finding in refusals if finding.remedy)
            raise Refused(
                f"{self.instruct.name} and {self.thinking.name} cannot be mixed: {reasons}", ". ".join(remedies)
            )
        return [finding for finding in findings if finding.severity == "warn"]

    @cached_property
    def tensors(self) -> list[PairedTensor]:
        """The merged model's parameters in the donor's order. Call `check` first."""
        paired = []
        for name, donor in self.donor.tensors.items():
            if self.donor.tied and name == HEAD:
                continue  # a redundant copy of the tied embedding: loaders ignore it
            instruct, thinking = (side.resolve(name) for side in (self.instruct, self.thinking))
            paired.append(
                PairedTensor(name, instruct, thinking, donor, min(instruct.numel, thinking.numel, donor.numel))
            )
        return paired


def _as_base(what: str) -> str:
    return "Base: " + what.replace("the Instruct side", "Base").replace("the Thinking side", "the donor")
