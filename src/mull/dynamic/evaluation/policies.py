"""What is compared: ways to decide how much to think about a question."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from mull.dynamic.base import Estimator
from mull.engines.base import Sampling
from mull.merging.coefficients import Coefficients
from mull.merging.coefficients.recipe import Recipe
from mull.runs.settings import Setting

PolicyKind = Literal["static", "budget", "estimator", "random", "oracle", "brief", "early exit"]

BRIEF = "Think as briefly as you can: only the steps that you need, no second check. Then give the answer."
"""The system prompt of the control "be brief"."""


@dataclass(frozen=True, kw_only=True)
class EarlyExit:
    """Stop thinking as soon as the forced answer is sure, at the Thinking end (after DEER, arXiv 2504.15895).

    DEER looks where the model writes "Wait"; here the thought is looked at after every `every` tokens.
    """

    every: int
    confidence: float
    """From this confidence on (geometric mean of the token probabilities) the thought is closed."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """One row of the comparison."""

    label: str
    kind: PolicyKind
    estimator: Estimator | None = None
    """Chooses λ; None: `lam` for every question."""
    lam: float = 1.0
    sampling: Sampling | None = None
    """In place of the plan's."""
    system: str | None = None
    early_exit: EarlyExit | None = None
    of: str | None = None
    """For a random λ: the policy whose λ it draws from."""

    @classmethod
    def static(cls, lam: float) -> Policy:
        return cls(label=f"{lam:g}", kind="static", lam=lam)

    @classmethod
    def budgeted(cls, tokens: int, sampling: Sampling) -> Policy:
        """The Thinking end under a hard thinking budget."""
        return cls(
            label=Setting.budgeted(tokens, sampling).label,
            kind="budget",
            sampling=replace(sampling, thinking_budget=tokens),
        )

    @classmethod
    def estimated(cls, estimator: Estimator) -> Policy:
        return cls(label=estimator.name, kind="estimator", estimator=estimator)

    @classmethod
    def random(cls, of: str) -> Policy:
        """λ by lot, from those that the policy `of` chose."""
        return cls(label=f"random as {of}", kind="random", of=of)

    @classmethod
    def oracle(cls) -> Policy:
        """λ that was best for each question among the static policies of the same run."""
        return cls(label="oracle", kind="oracle")

    @classmethod
    def brief(cls) -> Policy:
        return cls(label="be brief", kind="brief", system=BRIEF)

    @classmethod
    def exiting(cls, every: int, confidence: float) -> Policy:
        return cls(label="early exit", kind="early exit", early_exit=EarlyExit(every=every, confidence=confidence))

    def sampled(self, sampling: Sampling) -> Policy:
        """This policy on a benchmark that is sampled so: limits differ between benchmarks, the budget does not."""
        if self.sampling is None:
            return self
        return replace(self, sampling=replace(sampling, thinking_budget=self.sampling.thinking_budget))

    def setting(self) -> Setting:
        """This policy as a setting of a run, which records everything that decides its responses."""
        scalar = Recipe(Coefficients.scalar(self.lam))
        if self.kind == "static":
            return Setting.of(scalar)
        record: dict[str, Any] = {"kind": self.kind}
        if self.estimator is not None:
            record |= self.estimator.record()
        if self.of is not None:
            record["of"] = self.of
        if self.system is not None:
            record["system"] = self.system
        if self.early_exit is not None:
            record |= {"every": self.early_exit.every, "confidence": self.early_exit.confidence}
        return Setting(self.label, scalar, self.sampling, policy=record)
