"""Confidence: how surely both ends answer if they must answer at once (DAMI-Conf, our reconstruction).

The paper says that λ comes zero-shot from the "cognitive discrepancy" of the two models in confidence. Its formula
could not be read. The forms here, with the confidences C (`ForcedAnswer.confidence`) and first-token entropies H of
Instruct (I) and Thinking (T), are ours:

- *gap*: λ = clip(λ₀ + α·(C_T − C_I) − γ·C_I, 0, 1): the larger, the less sure Instruct is and the more Thinking gains.
- *entropy*: λ = clip(λ₀ + α·(H_I − H_T) + γ·H_I, 0, 1): the same with entropies, for free text, whose answer has no end
  that could be forced.
- *ratio*: λ = e^(−H_T + b) / (e^(−H_I) + e^(−H_T + b)), after DaWin (Oh et al. 2024, arXiv 2410.03782): the end that
  is surer gets more weight. b is the offset that makes the mean over some queries a chosen λ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from mull.benchmarks import AnswerForm
from mull.dynamic.base import Choice, Need, Signals, clipped
from mull.errors import MullError

Form = Literal["gap", "entropy", "ratio"]
FORMS: tuple[Form, ...] = ("gap", "entropy", "ratio")

QUANTILES = (0.25, 0.75)
"""Of the queries' signal: these get the least and the largest λ of a fitted estimator."""


ENTROPY_SCALE = 0.5
"""γ of the form *entropy* without any fit: two nats of doubt ask for λ = 1."""


@dataclass(frozen=True, kw_only=True)
class Confidence:
    """λ from forced answers. The defaults are zero-shot; `fitted` takes its constants from unlabelled queries."""

    form: Form = "gap"
    lam0: float = 1.0
    """λ₀, what a query without any confidence gets."""
    alpha: float = 0.0
    """α, the weight of the difference between the ends; 0: Thinking is not asked."""
    gamma: float = 1.0
    """γ, the weight of Instruct's own confidence."""
    offset: float = 0.0
    """b of the form *ratio*."""
    low: float = 0.0
    high: float = 1.0
    """λ is kept within these."""
    name: str = "conf"

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise MullError(f"no form {self.form!r} of confidence", f"one of {', '.join(FORMS)}")
        constants = (self.lam0, self.alpha, self.gamma, self.offset)
        if not all(map(math.isfinite, constants)) or not 0 <= self.low <= self.high <= 1:
            raise MullError("constants of a confidence must be finite, and 0 ≤ low ≤ high ≤ 1")

    @property
    def needs(self) -> frozenset[Need]:
        both = self.form == "ratio" or self.alpha != 0
        return frozenset({Need.forced_instruct, *({Need.forced_thinking} if both else ())})

    def choose(self, signals: Signals) -> Choice:
        lam = min(self.high, max(self.low, self._raw(signals)))
        return Choice(clipped(lam), self._why(signals), signals.cost(self.needs))

    def record(self) -> dict[str, Any]:
        return {"estimator": "conf", **{name: value for name, value in asdict(self).items() if name != "name"}}

    def fitted(
        self,
        queries: Sequence[Signals],
        *,
        low: float = 0.0,
        high: float = 1.0,
        quantiles: tuple[float, float] = QUANTILES,
    ) -> Confidence:
        """This form with constants from unlabelled `queries`: those whose signal lies at the first of the `quantiles`
        or below get λ = `low`, those at the second or above λ = `high`; between, λ is linear in the signal. The form
        *ratio* gets the offset with which the mean λ is their middle.

        No answer is looked at. Raises `MullError` for fewer than eight queries, and where all have the same signal.
        """
        if len(queries) < 8:
            raise MullError(f"fitting a confidence needs 8 queries, got {len(queries)}", "give more prompts")
        if self.form == "ratio":
            return replace(self, offset=self._offset(queries, (low + high) / 2), low=low, high=high)
        zero = replace(self, lam0=0.0, low=0.0, high=1.0)
        least, most = np.quantile([zero._raw(query) for query in queries], quantiles)
        if most - least < 1e-6:
            raise MullError("the forced answers of all queries are equally sure", "give other prompts or another form")
        scale = (high - low) / float(most - least)
        return replace(
            self,
            lam0=low - scale * float(least),
            alpha=scale * self.alpha,
            gamma=scale * self.gamma,
            low=low,
            high=high,
        )

    def _raw(self, signals: Signals) -> float:
        instruct = signals.forced(Need.forced_instruct)
        thinking = signals.forced(Need.forced_thinking) if Need.forced_thinking in self.needs else instruct
        if self.form == "gap":
            sure = instruct.confidence
            return self.lam0 + self.alpha * (thinking.confidence - sure) - self.gamma * sure
        if self.form == "entropy":
            return self.lam0 + self.alpha * (instruct.entropy - thinking.entropy) + self.gamma * instruct.entropy
        return 1 / (1 + math.exp(thinking.entropy - self.offset - instruct.entropy))

    def _offset(self, queries: Sequence[Signals], mean: float) -> float:
        """b with which the mean λ of `queries` is `mean`; by bisection, since the mean rises with b."""
        if not 0 < mean < 1:
            raise MullError(f"a mean λ of {mean:g} cannot be reached by the form ratio", "choose one between 0 and 1")
        least, most = -50.0, 50.0
        for _ in range(60):
            middle = (least + most) / 2
            own = replace(self, offset=middle)
            if np.mean([own._raw(query) for query in queries]) < mean:
                least = middle
            else:
                most = middle
        return (least + most) / 2

    def _why(self, signals: Signals) -> str:
        said = []
        for need, end in ((Need.forced_instruct, "Instruct"), (Need.forced_thinking, "Thinking")):
            if need in self.needs:
                answer = signals.forced(need)
                value = f"{answer.confidence:.2f} sure" if self.form == "gap" else f"{answer.entropy:.2f} nats unsure"
                said.append(f"{end} forced to answer is {value}" + (f" of {answer.text!r}" if answer.text else ""))
        return "; ".join(said)


def zero_shot(form: AnswerForm) -> Confidence:
    """The estimator of a pair of which nothing is known: by confidence, or by entropy where answers are free text."""
    return Confidence(form="entropy", lam0=0.0, gamma=ENTROPY_SCALE) if form.type == "free" else Confidence()
