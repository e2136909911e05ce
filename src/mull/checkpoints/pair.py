"""`Group`: checkpoints of one model, aligned tensor by tensor; `Pair`: an Instruct and a Thinking one.

The checks are in findings.py; this file aligns tensors and raises if a check refuses.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, Self

from mull.checkpoints.checkpoint import HEAD, Checkpoint
from mull.checkpoints.findings import CAN_ALLOW, Finding, find, think_tags
from mull.checkpoints.fingerprint import fingerprint
from mull.checkpoints.headers import TensorInfo
from mull.errors import MullError, Refused, nearest
from mull.thinking import ThinkTags
from mull.tiny import checkpoint_folder

Side = Literal["instruct", "thinking"]


class AlignedTensor(NamedTuple):
    """One parameter of the merged model and where it comes from."""

    name: str
    models: tuple[TensorInfo, ...]
    donor: TensorInfo
    """The donor's tensor, which determines name, shape and dtype."""
    base: TensorInfo | None
    shared: int
    """Number of leading elements that all have: less than all only if the models differ in vocabulary padding rows."""

    @property
    def instruct(self) -> TensorInfo:
        """The first model of a pair."""
        return self.models[0]

    @property
    def thinking(self) -> TensorInfo:
        """The second model of a pair."""
        return self.models[1]


class Group:
    """Two or more checkpoints of one model, optionally their Base; `donor` gives the non-weight files and the layout.

    The donor is a model by its index, or "base".

    Example:
        >>> group = Group([Checkpoint.open("A"), Checkpoint.open("B"), Checkpoint.open("C")], donor=2)
        >>> warnings = group.check()  # raises Refused if they cannot be mixed
    """

    def __init__(
        self, models: list[Checkpoint], base: Checkpoint | None = None, *, donor: int | Literal["base"] = -1
    ) -> None:
        if len(models) < 2:
            raise MullError(f"a merge needs two models or more, got {len(models)}")
        if donor == "base" and base is None:
            raise MullError("there is no base to be the donor", "give a base, or another donor")
        if donor != "base" and not -len(models) <= donor < len(models):
            raise MullError(f"there is no model {donor + 1} to be the donor", f"models count from 1 to {len(models)}")
        self.models = models
        self.base = base
        self.donor_index = None if donor == "base" else donor % len(models)

    @property
    def donor(self) -> Checkpoint:
        if self.donor_index is None:
            assert self.base is not None  # checked by __init__
            return self.base
        return self.models[self.donor_index]

    @property
    def roles(self) -> list[str]:
        """The name of each model in records: "model 1", "model 2" …"""
        return [f"model {i + 1}" for i in range(len(self.models))]

    @property
    def donor_role(self) -> str:
        return "base" if self.donor_index is None else self.roles[self.donor_index]

    @property
    def by_role(self) -> dict[str, Checkpoint]:
        """Models and Base by their roles."""
        return dict(zip(self.roles, self.models, strict=True)) | ({"base": self.base} if self.base else {})

    def findings(self, allow: Iterable[str] = ()) -> list[Finding]:
        """All results of the comparison, refusals first. Reads only headers and small files.

        Refusals whose code is in `allow` become warnings. Raises MullError for a code that cannot be overruled.
        """
        allowed = set(allow)
        for code in sorted(allowed - CAN_ALLOW):
            raise MullError(
                f"{code!r} is no refusal that can be overruled",
                nearest(code, CAN_ALLOW, {"vocab": "vocabulary", "tokenizer": "tokens", "rotary": "rope"}),
            )
        order = {"refuse": 0, "warn": 1, "same": 2}
        found = self._between_models()
        if self.base is not None and self.base is not self.donor:
            found += [
                finding._replace(what="Base: " + _renamed(finding.what, "Base", "the donor"))
                for finding in find(self.base, self.donor, self.donor, base=True)
                if finding.severity != "same"
            ]
        found = [f._replace(severity="warn") if f.severity == "refuse" and f.code in allowed else f for f in found]
        return sorted(found, key=lambda finding: order[finding.severity])

    def _between_models(self) -> list[Finding]:
        found = []
        for role, model in zip(self.roles, self.models, strict=True):
            if model is not self.donor:
                for finding in find(model, self.donor, self.donor):
                    if (finding.severity != "same" or not found) and finding.code != "swapped":
                        what = _renamed(finding.what, role, self.donor_role)
                        found.append(finding._replace(what=f"{role}: {what}"))
        return found

    def check(self, allow: Iterable[str] = ()) -> list[Finding]:
        """The warnings, if the models can be mixed; `allow` as in `findings`.

        Raises:
            Refused: the models cannot be mixed; the message has every reason.
        """
        findings = self.findings(allow)
        refusals = [finding for finding in findings if finding.severity == "refuse"]
        if refusals:
            reasons = "; ".join(finding.what for finding in refusals)
            remedies = dict.fromkeys(finding.remedy for finding in refusals if finding.remedy)
            *others, last = (model.name for model in self.models)
            raise Refused(f"{', '.join(others)} and {last} cannot be mixed: {reasons}", ". ".join(remedies))
        return [finding for finding in findings if finding.severity == "warn"]

    @cached_property
    def tensors(self) -> list[AlignedTensor]:
        """The merged model's parameters in the donor's order. Call `check` first."""
        aligned = []
        for name, donor in self.donor.tensors.items():
            if self.donor.tied and name == HEAD:
                continue  # a redundant copy of the tied embedding: loaders ignore it
            models = tuple(model.resolve(name) for model in self.models)
            base = self.base.resolve(name) if self.base else None
            shared = min(info.numel for info in (*models, donor, *([base] if base else [])))
            aligned.append(AlignedTensor(name, models, donor, base, shared))
        return aligned


class Pair(Group):
    """Instruct and Thinking, optionally Base.

    Example:
        >>> pair = Pair.open("Qwen/Qwen3-4B-Instruct-2507", "Qwen/Qwen3-4B-Thinking-2507")
        >>> warnings = pair.check()  # raises Refused if the two cannot be mixed
    """

    def __init__(
        self, instruct: Checkpoint, thinking: Checkpoint, base: Checkpoint | None = None, *, donor: Side = "thinking"
    ) -> None:
        if donor not in ("instruct", "thinking"):
            raise MullError(f"there is no donor {donor!r}", "it is instruct or thinking")
        super().__init__([instruct, thinking], base, donor=1 if donor == "thinking" else 0)
        self.instruct = instruct
        self.thinking = thinking
        self.donor_side: Side = donor

    @classmethod
    def open(
        cls, instruct: str | Path, thinking: str | Path, base: str | Path | None = None, *, donor: Side = "thinking"
    ) -> Self:
        """Open all sides (folders or hub ids). Raises `MullError` for what is no checkpoint that can be read."""
        first, second = Checkpoint.open(str(instruct)), Checkpoint.open(str(thinking))
        return cls(first, second, Checkpoint.open(str(base)) if base else None, donor=donor)

    @classmethod
    def built_in(cls, *, donor: Side = "thinking") -> Self:
        """The pair that comes with mull."""
        return cls.open(str(checkpoint_folder("instruct")), str(checkpoint_folder("thinking")), donor=donor)

    @property
    def roles(self) -> list[str]:
        return ["instruct", "thinking"]

    @cached_property
    def think_tags(self) -> tuple[ThinkTags, ...]:
        """The delimiters of thoughts that a side's template or vocabulary names; may be empty."""
        return think_tags(self.instruct, self.thinking)

    @property
    def fingerprints(self) -> dict[str, str]:
        """Of both sides, as runs and heads record them."""
        return {"instruct": fingerprint(self.instruct), "thinking": fingerprint(self.thinking)}

    def _between_models(self) -> list[Finding]:
        return find(self.instruct, self.thinking, self.donor)


def _renamed(what: str, instruct: str, thinking: str) -> str:
    return what.replace("the Instruct side", instruct).replace("the Thinking side", thinking)
