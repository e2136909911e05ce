"""What the records of a λ grid say about a question at any λ.

Between two λ of the grid, a question's accuracy and tokens are interpolated linearly from its own samples. That is what
it would get on average if its λ were rounded to one of the two by lot, so the figures are those of a real policy,
though not of the weights Θ(λ) themselves.

Axes: Q questions, K λ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mull.analysis.records import Sample
from mull.dynamic.evaluation.comparison import Means
from mull.runs.settings import Route


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """Means over the samples of every question at every λ."""

    questions: Sequence[str]
    """Ids, sorted."""
    lams: np.ndarray
    """float64 `[K]`, ascending."""
    accuracy: np.ndarray
    tokens: np.ndarray
    """float64 `[Q, K]`."""

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Grid:
        """The questions that have samples at all λ; samples without a λ are left out."""
        cells: dict[tuple[str, float], list[Sample]] = {}
        for sample in samples:
            if sample.lam is not None:
                cells.setdefault((sample.question, sample.lam), []).append(sample)
        lams = sorted({lam for _, lam in cells})
        questions = sorted({q for q, _ in cells if all((q, lam) in cells for lam in lams)})
        shape = (len(questions), len(lams))

        def means(value: str) -> np.ndarray:
            found = [np.mean([getattr(s, value) for s in cells[q, lam]]) for q in questions for lam in lams]
            return np.array(found, float).reshape(shape)

        return cls(questions=questions, lams=np.array(lams), accuracy=means("correct"), tokens=means("tokens"))

    def kept(self, questions: Sequence[str]) -> Grid:
        """With these questions only; they are among its own, in its order."""
        rows = [self.questions.index(question) for question in questions]
        return Grid(questions=questions, lams=self.lams, accuracy=self.accuracy[rows], tokens=self.tokens[rows])

    def static(self) -> dict[str, Means]:
        """Every λ, by its label."""
        zero = np.zeros(len(self.questions))
        return {
            f"{lam:g}": Means(self.accuracy[:, k], self.tokens[:, k], zero, zero.astype(int))
            for k, lam in enumerate(self.lams.tolist())
        }

    def routed(self, routes: Mapping[str, Route]) -> Means:
        """Every question at the λ that was chosen for it, the choice charged."""
        own = [routes[question] for question in self.questions]
        lam_Q = np.clip([route.lam for route in own], self.lams[0], self.lams[-1])
        above_Q = np.clip(np.searchsorted(self.lams, lam_Q), 1, len(self.lams) - 1)
        low_Q, high_Q = self.lams[above_Q - 1], self.lams[above_Q]
        part_Q = (lam_Q - low_Q) / (high_Q - low_Q)
        rows = np.arange(len(own))

        def at(values_QK: np.ndarray) -> np.ndarray:
            return (1 - part_Q) * values_QK[rows, above_Q - 1] + part_Q * values_QK[rows, above_Q]

        generated, prefilled = (np.array([getattr(r, part) for r in own], float) for part in ("generated", "prefilled"))
        return Means(at(self.accuracy), at(self.tokens) + generated, prefilled, np.zeros(len(own), int))
